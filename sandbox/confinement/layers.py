"""The table of layers: what FULL means, in which order the child puts them on, and what to do where one is missing.

A layer is a file with `apply(plan)` (in the child, just before the candidate runs) and probes (each in a forked child at start,
with the layer on: raise LayerAbsent unless it holds). To add one: write the file, add a row, and an attack that only it stops.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from sandbox.confinement import (
    cgroups,
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
from sandbox.confinement.probing import no_process
from sandbox.records import Level

Step = Callable[[Plan], None]


@dataclass(frozen=True)
class Layer:
    """One layer of confinement.

    Attributes:
        name: as `Isolation.missing` shows it.
        apply: confines the calling process; raises OSError or LayerAbsent where it cannot.
        probes: each tries one thing that the layer forbids.
        fix: one line for a user whose machine lacks it.
        takes: what it takes away from a candidate, in a few words.
        needs: layers without which `apply` cannot work.
        extra: not needed for FULL: too few machines give it.
        ended_by: signals by which the layer may end a probe.
        around: what the zygote holds while the layer is probed.
    """

    name: str
    apply: Step
    probes: tuple[Step, ...]
    fix: str
    takes: str
    needs: tuple[str, ...] = ()
    extra: bool = False
    ended_by: frozenset[int] = frozenset()
    around: Callable[[], AbstractContextManager[None]] = nullcontext


_NNP = ("no_new_privs",)

LAYERS: tuple[Layer, ...] = (
    Layer(
        "session", session.apply, (session.probe,), "run on Linux",
        "the caller's session and terminal; outliving the zygote; core dumps and ptrace by the same user",
    ),
    Layer(
        "cgroups", cgroups.apply, (no_process, cgroups.probe_memory),
        "start it where control groups are delegated: systemd-run --user --scope -p Delegate=yes mergewright ...",
        "real memory and processes beyond a bound for all of them together", ("session",), extra=True, ended_by=cgroups.ENDED_BY,
        around=cgroups.bounded,
    ),
    Layer(
        "namespaces", namespaces.apply, (namespaces.probe,),
        "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0), or run as root",
        "the network, System V IPC, the machine's name, the sight of any process outside",
    ),
    Layer(
        "no_new_privs", no_new_privs.apply, (no_new_privs.probe,), "run Linux 3.5 or later",
        "gaining rights through set-uid programs",
    ),
    Layer(
        "privileges", privileges.apply, (privileges.probe,),
        "give root CAP_SETUID and CAP_SETGID (docker run --cap-add SETUID --cap-add SETGID), or run as a user",
        "root (a spare uid that owns nothing) and every capability",
    ),
    Layer(
        "landlock", landlock.apply, (landlock.probe,),
        "run Linux 5.13 or later, booted with landlock in its lsm= list, in a container whose seccomp profile lets landlock_* through",
        "every path of every file system; TCP; abstract sockets and signals outside", _NNP,
    ),
    Layer(
        "descriptors", descriptors.apply, (descriptors.probe,), "run on Linux",
        "every descriptor but 0-2: /dev/null, and a pipe into which nobody looks",
    ),
    Layer(
        "rlimits", rlimits.apply, (rlimits.probe,), "raise hard limits (ulimit -H -a) that lie below the sandbox's own",
        "memory, processor time, new descriptors, files, threads",
    ),
    Layer(
        "seccomp", seccomp.apply, seccomp.PROBES, "run x86-64 Linux whose kernel and container allow seccomp filters",
        "every system call but some forty; threads and processes get an error, the rest kills", _NNP,
        ended_by=frozenset({signal.SIGSYS}),
    ),
)  # fmt: skip
"""In the order in which the child puts them on; each later one may forbid what an earlier one needs."""

FULL_LAYERS = frozenset(layer.name for layer in LAYERS if not layer.extra)
"""FULL means that every one of these holds, shown by doing at start."""

LEAST_LAYERS = frozenset({"session", "rlimits"})
"""Without these (and a process per candidate) the level is NONE."""

FILE_LAYERS = frozenset({"landlock", "seccomp"})
"""Without one of these it is NONE too: nothing but the language gate would stand before the user's files."""


def level_of(held: Collection[str], missing: Collection[str]) -> Level:
    """FULL, REDUCED or NONE, from the layers that hold and the complaints."""
    if not set(held) >= LEAST_LAYERS or not FILE_LAYERS & set(held):
        return "NONE"
    return "REDUCED" if missing else "FULL"


LATE = ("descriptors", "rlimits", "seccomp")
"""Put on when the program is there: until then the child must be able to receive and map it."""


def confine_early(plan: Plan, names: Collection[str]) -> None:
    """Put those of the named layers on the calling process that leave it able to wait for its program."""
    for layer in LAYERS:
        if layer.name in names and layer.name not in LATE:
            layer.apply(plan)


def confine_late(plan: Plan, names: Collection[str]) -> None:
    """The others. After this the process can do nothing but compute."""
    for layer in LAYERS:
        if layer.name == "seccomp" and "session" in names:
            session.arm(plan)  # again: the kernel forgot it with the uid, and the filter will not allow it later
        if layer.name in names and layer.name in LATE:
            layer.apply(plan)


def confine(plan: Plan, names: Collection[str]) -> None:
    """All of the named layers, in the table's order."""
    confine_early(plan, names)
    confine_late(plan, names)
