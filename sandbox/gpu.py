"""GPU mode: what a child does before it is locked in, and how the parent watches the device's memory.

A CUDA context does not survive a fork, so the zygote never makes one (it must not even count devices): each child makes its own, before
the locks, since `cuInit` opens devices and writes under /proc. Afterwards `ioctl` on the open devices stays allowed, and RLIMIT_AS cannot be
used (the driver reserves terabytes of addresses): the level is REDUCED and says so. The driver's own threads start before
Landlock and the capability drop, which bind the calling thread alone; the system-call filter binds them all.

Not covered: what a program could do through the driver's ioctl interface; a device that other work shares (its memory is counted as one).
No GPU was at hand when this was written: the parts are tested against imitations, `tests/sandbox/test_gpu.py` has the tests that wait for one.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from typing import Protocol

import torch

from sandbox.errors import DeviceError, ZygoteError
from sandbox.records import MIB

WHY_REDUCED = (
    "gpu: ioctl on the GPU's devices stays open, address space is unlimited, and the driver's threads start before the locks;"
    " use the CPU where that matters"
)
"""The line in `Isolation.missing` of every result computed on a GPU."""

ENVIRONMENT = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "LD_LIBRARY_PATH", "NVIDIA_VISIBLE_DEVICES")
"""Variables that the zygote inherits in this mode and in no other."""

POLL_SECONDS = 0.02
"""How often the device's memory is read while a program runs."""

BACK_SECONDS = 10.0
"""How long the driver may take to give a killed program's memory back."""

SLACK_BYTES = 64 * MIB
"""What the device's count may differ by with no program running."""


def open_context() -> None:
    """Make this process's context and load what programs use most, so that little is loaded after the locks.

    Raises:
        RuntimeError: torch cannot use a GPU here.
    """
    torch.cuda.init()  # type: ignore[no-untyped-call]
    a = torch.eye(64, device="cuda")
    (a @ a).sum().item(), a.to(torch.bfloat16) @ a.to(torch.bfloat16)
    torch.linalg.svd(a), torch.linalg.qr(a), torch.linalg.eigh(a), torch.linalg.solve(a, a)
    a.flatten().sort(), a.flatten().topk(5), torch.quantile(a, 0.5), torch.fft.fft(a), a.cumsum(0), a.std()
    torch.bernoulli(torch.full_like(a, 0.5)), torch.randn(8, device="cuda"), torch.randperm(8, device="cuda")
    torch.cuda.synchronize()


class MemoryWatch(Protocol):
    """How much of the device's memory is in use, whoever uses it."""

    def used_bytes(self) -> int: ...


class NvmlWatch:
    """The first visible device, through NVIDIA's management library (no context, and it works from outside the child)."""

    def __init__(self) -> None:
        """Raises DeviceError where the library or the device is not there."""
        try:
            self._library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError as error:
            raise DeviceError(
                f"device 'cuda': expected NVIDIA's driver, got {error}; install it or use device 'cpu'"
            ) from error
        self._handle = ctypes.c_void_p()
        self._call("nvmlInit_v2")
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip() or "0"
        if visible.isdigit():
            self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(int(visible)), ctypes.byref(self._handle))
        else:
            self._call("nvmlDeviceGetHandleByUUID", visible.encode("ascii"), ctypes.byref(self._handle))

    def used_bytes(self) -> int:
        memory = (ctypes.c_ulonglong * 3)()  # total, free, used
        self._call("nvmlDeviceGetMemoryInfo", self._handle, ctypes.byref(memory))
        return int(memory[2])

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            raise DeviceError(f"device 'cuda': {name} gave status {status}; see nvidia-smi, or use device 'cpu'")


def open_watch() -> MemoryWatch:
    """The watch of this machine's GPU.

    Raises:
        DeviceError: torch or the driver cannot use one.
    """
    if torch.version.cuda is None:
        raise DeviceError(
            "device 'cuda': expected a torch built for CUDA, got a CPU build; install one, or use device 'cpu'"
        )
    return NvmlWatch()


def wait_until_back(
    watch: MemoryWatch, before: int, clock: Callable[[], float], sleep: Callable[[float], None]
) -> None:
    """See a killed program's memory come back.

    Raises:
        ZygoteError: it did not, in `BACK_SECONDS`.
    """
    deadline = clock() + BACK_SECONDS
    while (used := watch.used_bytes()) > before + SLACK_BYTES:
        if clock() > deadline:
            raise ZygoteError(
                f"the GPU still holds {(used - before) // MIB} MiB more than before a program that has ended"
            )
        sleep(POLL_SECONDS)


CLOCK: tuple[Callable[[], float], Callable[[float], None]] = (time.monotonic, time.sleep)
