"""The table of layers: what FULL means, in which order the child puts them on, and what to do where one is missing.

A layer is a file with `apply(plan)` (in the child, just before the candidate runs) and probes (each in a forked child at start,
with the layer on: raise LayerAbsent unless it holds). To add one: write the file, add a row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sandbox.confinement import (
    descriptors,
    landlock,
    namespaces,
    no_new_privs,
    privileges,
    rlimits,
    seccomp,
    session,
)
from sandbox.confinement.plan import Plan

Step = Callable[[Plan], None]


@dataclass(frozen=True)
class Layer:
    """One layer of confinement.

    Attributes:
        name: as `Isolation.missing` shows it.
        apply: confines the calling process; raises OSError or LayerAbsent where it cannot.
        probes: each tries one thing that the layer forbids.
        needs: layers without which `apply` cannot work.
        fix: one line for a user whose machine lacks it.
    """

    name: str
    apply: Step
    probes: tuple[Step, ...]
    fix: str
    needs: tuple[str, ...] = ()


_NNP = ("no_new_privs",)

LAYERS: tuple[Layer, ...] = (
    Layer("session", session.apply, (session.probe,), "run on Linux"),
    Layer("namespaces", namespaces.apply, (namespaces.probe,), "allow unprivileged user namespaces, or run as root"),
    Layer("no_new_privs", no_new_privs.apply, (no_new_privs.probe,), "run Linux 3.5 or later"),
    Layer("privileges", privileges.apply, (privileges.probe,), "give root CAP_SETUID and CAP_SETGID, or run as a user"),
    Layer("landlock", landlock.apply, (landlock.probe,), "run Linux 5.13 or later with Landlock in its lsm list", _NNP),
    Layer("descriptors", descriptors.apply, (descriptors.probe,), "run on Linux"),
    Layer("rlimits", rlimits.apply, (rlimits.probe,), "raise hard limits that lie below the sandbox's own"),
    Layer("seccomp", seccomp.apply, seccomp.PROBES, "run x86-64 Linux with seccomp filters", _NNP),
)
"""In the order in which the child puts them on; each later one may forbid what an earlier one needs."""

FULL_LAYERS = frozenset(layer.name for layer in LAYERS)
"""FULL means that every one of these holds, shown by doing at start. Control groups are not among them (not built)."""

LEAST_LAYERS = frozenset({"session", "rlimits"})
"""Without these (and a process per candidate) the level is NONE."""


def confine(plan: Plan, names: Collection[str]) -> None:
    """Put the named layers on the calling process, in the table's order."""
    for layer in LAYERS:
        if layer.name == "seccomp":
            session.arm(plan)  # again: the kernel forgot it with the uid, and the filter will not allow it later
        if layer.name in names:
            layer.apply(plan)
