"""How many threads are worth starting."""

import math
import os
from contextlib import suppress
from pathlib import Path


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """How many cores this process may keep busy, at least 1: those it may run on, and no more than a container's quota of time.

    More threads than this wait for one another.

    Args:
        cgroup: where the control group of this container is mounted, version 2 or 1.
    """
    cores = len(os.sched_getaffinity(0))
    for quota, period in (
        (cgroup / "cpu.max", None),
        (cgroup / "cpu/cpu.cfs_quota_us", cgroup / "cpu/cpu.cfs_period_us"),
    ):
        with suppress(OSError, ValueError):  # no such file, or "max": no limit
            numbers = quota.read_text().split() + (period.read_text().split() if period else [])
            time, of = map(int, numbers)
            if time > 0 and of > 0:
                cores = min(cores, math.ceil(time / of))
    return cores
