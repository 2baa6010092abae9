"""A control group for the zygote and all that it forks, where the machine delegates one: an extra wall, not needed for FULL.

It bounds real memory (not address space, as rlimits do) and the number of processes, of all of them together, so it holds even
where no filter keeps a program from forking; and when memory runs out the kernel says so, where otherwise a bare SIGKILL shows.
The zygote enters once, at start: moving each child costs 8 ms a candidate (median of 40, one hierarchy of version 1).

Version 2 (https://docs.kernel.org/admin-guide/cgroup-v2.html) first: in our own group, else beside it (a user's session under
systemd delegates its slice). Then version 1, hierarchy by hierarchy. Covered by tests: version 1 on a real kernel; version 2 on an imitation only.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sandbox.confinement.plan import LayerAbsent, Plan
from sandbox.records import MIB

PREFIX = "mergewright-"

SLACK_BYTES = 64 * MIB
"""On top of a program's limit: the copies of the zygote's own pages that a child makes by touching them."""

ZYGOTE_BYTES = 1024 * MIB
"""More than the zygote needs between its probes and its first program."""

_PROBE_LIMIT = 32 * MIB


@dataclass(frozen=True)
class Group:
    """Attributes:
    folders: one in version 2; one a hierarchy in version 1.
    memory, processes: folders that have the files for each.
    """

    folders: tuple[Path, ...]
    memory: Path
    processes: Path
    version: int

    def limit_memory(self, extra: int) -> int:
        """Let the group hold `extra` bytes, and some slack, beyond what it holds now. Returns how much that is together.

        Part of the slack is what this process, the zygote, has mapped of files. The kernel kills the largest process of the group, mapped files
        included and whatever `oom_score_adj` says (seen on 6.18); a child, which maps almost none, has to be that one when the bound is reached.
        """
        now = int((self.memory / ("memory.current" if self.version == 2 else "memory.usage_in_bytes")).read_text())
        bound = self.memory / ("memory.max" if self.version == 2 else "memory.limit_in_bytes")
        room = extra + SLACK_BYTES + mapped_file_bytes()
        bound.write_text(str(now + room))
        return room

    def cached_bytes(self) -> int:
        """What the group holds of files, which the kernel takes back before it kills: they count towards the limit."""
        counts = dict(line.split() for line in (self.memory / "memory.stat").read_text().splitlines())
        return int(counts["file" if self.version == 2 else "total_cache"])

    def limit_processes(self, children: int) -> None:
        """Let the group have so many tasks more than now."""
        now = int((self.processes / "pids.current").read_text())
        (self.processes / "pids.max").write_text(str(now + children))

    def out_of_memory(self) -> int:
        """How often the kernel has killed in this group for want of memory."""
        events = self.memory / ("memory.events" if self.version == 2 else "memory.oom_control")
        counts = dict(line.split() for line in events.read_text().splitlines())
        return int(counts.get("oom_kill", 0))


def mapped_file_bytes() -> int:
    """What this process has mapped of files."""
    return int(Path("/proc/self/statm").read_text().split()[2]) * os.sysconf("SC_PAGE_SIZE")


def enter() -> Group | None:
    """Make a group and move this process into it; None where none is delegated."""
    try:
        mounts, own = Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()
    except OSError:
        return None
    for parents in places(mounts, own):
        with suppress(OSError):
            return make(parents)
    return None


def remove(folders: tuple[str, ...]) -> None:
    """Remove the groups of a zygote that has ended, and what zygotes that were killed with their host left behind."""
    for folder in map(Path, folders):
        for stale in [folder, *folder.parent.glob(PREFIX + "*")]:
            with suppress(OSError):  # one that is in use cannot be removed
                stale.rmdir()


def make(parents: dict[str, Path]) -> Group:
    """A new group under each hierarchy of `parents` (controller -> folder), with this process in it.

    Raises:
        OSError: not permitted, or the controller is not there.
    """
    folders = {parent: parent / f"{PREFIX}{os.getpid()}" for parent in dict.fromkeys(parents.values())}
    try:
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
        memory, processes = folders[parents["memory"]], folders[parents["pids"]]
        version = 2 if len(folders) == 1 and (memory / "cgroup.controllers").exists() else 1
        for needed in (memory / ("memory.max" if version == 2 else "memory.limit_in_bytes"), processes / "pids.max"):
            if not needed.exists():
                raise FileNotFoundError(needed)
        if version == 2 and (memory / "memory.swap.max").exists():
            (memory / "memory.swap.max").write_text("0")
        for folder in folders.values():
            (folder / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        for parent, folder in folders.items():
            with suppress(OSError):
                (parent / "cgroup.procs").write_text(str(os.getpid()))
                folder.rmdir()
        raise
    return Group(tuple(folders.values()), memory, processes, version)


def places(mountinfo: str, membership: str) -> Iterator[dict[str, Path]]:
    """Controller -> folder under which a group may be made, the likeliest first.

    Args:
        mountinfo, membership: the texts of /proc/self/mountinfo and /proc/self/cgroup.
    """
    own = dict(line.split(":", 2)[1:] for line in membership.splitlines())
    legacy: dict[str, Path] = {}
    for fields in (line.split() for line in mountinfo.splitlines()):
        kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
        mount, root = Path(fields[4]), fields[3]
        if kind == "cgroup2" and "" in own:
            here = _inside(mount, root, own[""])
            for folder in (here, here.parent) if here != mount else (here,):
                yield dict.fromkeys(("memory", "pids"), folder)
        for controller in {"memory", "pids"} & set(options) if kind == "cgroup" else ():
            legacy[controller] = _inside(mount, root, own.get(controller, "/"))
    if len(legacy) == 2:
        yield legacy


def _inside(mount: Path, root: str, path: str) -> Path:
    """Where a group's path lies under a mount that shows the hierarchy from `root` on."""
    inner = path.removeprefix(root) if root != "/" else path
    folder = mount / inner.lstrip("/")
    return folder if folder.is_dir() else mount


group: Group | None = None
"""The zygote's own, once it has entered it; children inherit it."""

_probe_bytes = 0
"""More than the group may hold while its layer is probed."""


def apply(plan: Plan) -> None:
    """Nothing per candidate: a child is born into the zygote's group."""
    if group is None:
        raise LayerAbsent("no control group with memory and pids may be made here")


@contextmanager
def bounded() -> Iterator[None]:
    """Bounds for this layer's probes. That of memory is lifted again: where a probe has just been killed for it, the next allocation of
    anybody in the group, the zygote's too, might be the next to be killed for."""
    if group is None:
        yield
        return
    global _probe_bytes
    group.limit_processes(1)
    _probe_bytes = group.limit_memory(_PROBE_LIMIT) + group.cached_bytes() + _PROBE_LIMIT
    yield
    group.limit_memory(ZYGOTE_BYTES)


def probe_memory(plan: Plan) -> None:
    """Raises LayerAbsent if it lives to hold more than the group may; the kernel kills it."""
    held = b"\x01" * _probe_bytes
    raise LayerAbsent(f"{len(held)} bytes were given beyond the limit")


ENDED_BY = frozenset({signal.SIGKILL})
