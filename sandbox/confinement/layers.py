"""The table of layers: what FULL means, in which order the child puts them on, and what to do where one is missing.

A layer is a file with `apply(plan)` (in the child, just before the candidate runs) and `probe(plan)` (in a forked
probe at start, with the layer on: raise LayerAbsent, or die, unless it holds). To add one: write the file, add a row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sandbox.confinement import descriptors, no_new_privs, rlimits, session
from sandbox.confinement.plan import Plan
from sandbox.words import words


@dataclass(frozen=True)
class Layer:
    """Attributes:
    name: as `Isolation.missing` shows it.
    apply: confines the calling process; raises OSError or LayerAbsent where it cannot.
    probe: tries what the layer forbids.
    fix: one line for a user whose machine lacks it.
    """

    name: str
    apply: Callable[[Plan], None]
    probe: Callable[[Plan], None]
    fix: str


LAYERS: tuple[Layer, ...] = (
    Layer("session", session.apply, session.probe, "needs Linux"),
    Layer("descriptors", descriptors.apply, descriptors.probe, "needs Linux"),
    Layer("rlimits", rlimits.apply, rlimits.probe, "raise the hard limits that lie below the sandbox's own"),
    Layer("no_new_privs", no_new_privs.apply, no_new_privs.probe, "needs Linux 3.5 or later"),
)
"""In the order in which the child puts them on; each later one may forbid what an earlier one needs."""

FULL_LAYERS: frozenset[str] = words("session descriptors rlimits no_new_privs namespaces privileges landlock seccomp")
"""FULL means that every one of these holds, shown by doing at start. Control groups are not among them (not built)."""

LEAST_LAYERS: frozenset[str] = frozenset({"session", "rlimits"})
"""Without these (and a process per candidate) the level is NONE."""


def confine(plan: Plan, names: Collection[str]) -> None:
    """Put the named layers on the calling process, in the table's order."""
    for layer in LAYERS:
        if layer.name in names:
            layer.apply(plan)
    session.arm(plan)
