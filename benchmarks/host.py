"""What the machine gives: a device that is there, and memory whose want is said in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

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
