"""No descriptor but 0, 1 and 2, which the zygote has bound to /dev/null. Memory is mapped before this.

With a GPU the driver's own stay (devices, its event counters and pipes): its context lives through them.
"""

from __future__ import annotations

import os

from sandbox.confinement.plan import LayerAbsent, Plan

_FIRST = 3
_LAST = 1 << 20

_OF_THE_DRIVER = ("/dev/nvidia", "anon_inode:[eventfd]", "anon_inode:[eventpoll]", "pipe:")


def apply(plan: Plan) -> None:
    """Close everything from 3 on (one `close_range` call), but for what the GPU's driver holds."""
    start = _FIRST
    for fd in sorted(plan.kept):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, _LAST)


def of_the_driver() -> tuple[int, ...]:
    """Descriptors that the GPU's driver has opened in this process. To be asked before Landlock, which closes /proc."""
    kept = []
    for entry in os.listdir("/proc/self/fd"):
        fd = int(entry)
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:  # the descriptor of the listing itself
            continue
        if fd >= _FIRST and target.startswith(_OF_THE_DRIVER):
            kept.append(fd)
    return tuple(kept)


def probe(plan: Plan) -> None:
    """Raises LayerAbsent if a descriptor stayed open (the probe was given some)."""
    for fd in range(_FIRST, 64):
        try:
            os.fstat(fd)
        except OSError:
            continue
        raise LayerAbsent(f"descriptor {fd} stayed open")
