"""No privilege through exec (set-uid programs), for good. Landlock and seccomp need it where the zygote is not root."""

from __future__ import annotations

from sandbox.confinement.linux import PR_SET_NO_NEW_PRIVS, prctl
from sandbox.confinement.plan import LayerAbsent, Plan

_PR_GET_NO_NEW_PRIVS = 39


def apply(plan: Plan) -> None:
    """Set the flag; it cannot be cleared."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def probe(plan: Plan) -> None:
    """Raises LayerAbsent if the flag is not set."""
    if prctl(_PR_GET_NO_NEW_PRIVS) != 1:
        raise LayerAbsent("the kernel did not keep no_new_privs")
