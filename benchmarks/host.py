"""What the machine gives: a device that is there, cores, and memory whose want is said in one line."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from benchmarks.errors import BenchmarkError, DeviceError

_NO_MEMORY = ("not enough memory", "can't allocate memory", "Cannot allocate memory", "bad_alloc", "ALLOC_FAILED")
"""What torch's allocators say in a plain RuntimeError."""


def usable_device(name: str) -> torch.device:
    """The device called `name`: "cpu", "cuda", or one GPU of several as "cuda:1".

    Raises:
        DeviceError: no such device here.
    """
    kind, colon, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not number.isdecimal()):
        raise DeviceError(f"device '{name}': expected cpu or cuda, got neither; use device cpu")
    if kind == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"device '{name}': expected a machine with CUDA, got none torch can see; use device cpu")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device '{name}': expected a number below {torch.cuda.device_count()}, as many as torch can see, "
            f"got {number}; use device cuda"
        )
    return torch.device(name)


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


def is_want_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice; every library says it in its own way."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in _NO_MEMORY)


@contextmanager
def memory_for(work: str, advice: str) -> Iterator[None]:
    """Turns the want of memory into one line.

    Raises:
        BenchmarkError: the memory did not suffice; bare, for it is the host's fault.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_want_of_memory(error):
            raise
        said = " ".join(str(error).split())[:160] or "nothing more is known"
        raise BenchmarkError(f"{work}: expected enough memory, got none ({said}); {advice}") from error
