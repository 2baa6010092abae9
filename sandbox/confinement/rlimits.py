"""Resource limits: address space, processor time, no new descriptors, no file growth, no threads, no core."""

from __future__ import annotations

import os
import resource

from sandbox.confinement.plan import LayerAbsent, Plan
from sandbox.words import words

_ZERO = tuple(
    f"RLIMIT_{name}" for name in sorted(words("NOFILE FSIZE CORE NPROC MEMLOCK MSGQUEUE SIGPENDING NICE RTPRIO"))
)
"""RLIMIT_NPROC has no effect on root; seccomp and the uid drop cover it there. RLIMIT_FSIZE spares mapped memfds and
pipes."""


def apply(plan: Plan) -> None:
    """Hard limits; one second lies between SIGXCPU and SIGKILL."""
    for name in _ZERO:
        if hasattr(resource, name):
            resource.setrlimit(getattr(resource, name), (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (plan.cpu_seconds, plan.cpu_seconds + 1))
    if plan.address_space is not None:
        resource.setrlimit(resource.RLIMIT_AS, (plan.address_space, plan.address_space))


def probe(plan: Plan) -> None:
    """Raises LayerAbsent if memory beyond the limit is given, or a descriptor can be made."""
    if plan.address_space is not None:
        try:
            bytearray(plan.address_space)
        except MemoryError:
            pass
        else:
            raise LayerAbsent("memory beyond RLIMIT_AS was given")
    try:
        os.pipe()
    except OSError:
        return
    raise LayerAbsent("a descriptor beyond RLIMIT_NOFILE was given")
