"""Tensors between parent and child: memfds, never files, never pickle.

    jobs     sealed    JSON: names, depths, seeds, shapes, and where each tensor lies
    inputs   sealed    float32 tensors, each on a 64-byte boundary (as torch's own allocator aligns, so that kernels
    act alike) outputs  pre-sized the parent fixes size and layout; the child can neither grow nor shrink it
    report   pre-sized 4-byte length + JSON

The parent reads outputs and report only after the child is dead and reaped, and believes only its own shapes and
dtypes.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import math
import mmap
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from types import TracebackType
from typing import Any

import numpy as np
import torch

from sandbox.errors import JobError
from sandbox.records import KIB, JobSlot, TensorJob

ALIGNMENT = 64
"""Bytes."""

REPORT_BYTES = 64 * KIB

_FIXED_SIZE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW if hasattr(fcntl, "F_SEAL_SHRINK") else 0x2 | 0x4
_READ_ONLY = 0x8  # F_SEAL_WRITE
_NO_MORE_SEALS = 0x1  # F_SEAL_SEAL
_ADD_SEALS = 1033  # F_ADD_SEALS


def memfd(name: str, size: int) -> int:
    """A memory file of fixed size that nobody can resize."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, _ADD_SEALS, _FIXED_SIZE)
    except BaseException:
        os.close(fd)
        raise
    return fd


def seal(fd: int, *, read_only: bool) -> None:
    """Make the memory file's seals final, and its content too if `read_only`."""
    fcntl.fcntl(fd, _ADD_SEALS, _NO_MORE_SEALS | (_READ_ONLY if read_only else 0))


def sealed_bytes(name: str, content: bytes) -> int:
    """A sealed memory file with this content."""
    fd = memfd(name, len(content))
    try:
        _write(fd, memoryview(content), 0)
        seal(fd, read_only=True)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _write(fd: int, view: memoryview, offset: int) -> None:
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    array: Any = tensor.reshape(-1).numpy()
    return memoryview(array).cast("B")


class PackedJobs:
    """Jobs laid out in sealed memory. Make it once (`Sandbox.pack`) where many programs run over the same tensors.

    Attributes:
        shapes: job name -> shape, in job order.
        has_base: whether every job has a base tensor.
    """

    def __init__(self, jobs: Sequence[TensorJob]) -> None:
        check_jobs(jobs)
        layout, size = lay_out([_slot(job) for job in jobs])
        self._take(layout, lambda: _sealed_tensors(jobs, layout, size))

    @classmethod
    def over(cls, layout: list[dict[str, Any]], inputs: int) -> PackedJobs:
        """Jobs laid out in memory that is there already.

        Args:
            layout: as `lay_out` gives it.
            inputs: the memory's descriptor; the caller keeps it.
        """
        packed = cls.__new__(cls)
        packed._take(layout, lambda: os.dup(inputs))
        return packed

    def _take(self, layout: list[dict[str, Any]], make_inputs: Callable[[], int]) -> None:
        self._layout = layout
        self.shapes = {job["name"]: tuple(job["shape"]) for job in layout}
        self.has_base = all(job["base"] is not None for job in layout)
        self.output_offsets = {job["name"]: job["output"] for job in layout}
        self.output_bytes = max((_end(job["output"], job["shape"]) for job in layout), default=0)
        self._jobs = sealed_bytes("jobs", json.dumps(layout).encode("ascii"))
        try:
            self._inputs = make_inputs()
        except BaseException:
            os.close(self._jobs)
            raise
        self._release = weakref.finalize(self, _close, self._jobs, self._inputs)

    def reseeded(self, seeds: Mapping[str, int]) -> PackedJobs:
        """The same tensors with other seeds, without copying them: a campaign lays its models out once for all programs.

        Args:
            seeds: job name -> seed in 0..2**64-1, for every job.

        The copy is closed on its own; the tensors' memory goes with the last of the two.
        """
        layout = [{**job, "seed": seeds[job["name"]]} for job in self._layout]
        _, inputs = self.descriptors
        return PackedJobs.over(layout, inputs)

    @property
    def descriptors(self) -> tuple[int, int]:
        """The sealed `jobs` and `inputs` memory files."""
        if not self._release.alive:
            raise JobError("the packed jobs are closed; pack them again")
        return self._jobs, self._inputs

    def close(self) -> None:
        """Give the memory back. Calling it again does nothing."""
        self._release()

    def __enter__(self) -> PackedJobs:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def _close(*descriptors: int) -> None:
    for fd in descriptors:
        os.close(fd)


def _sealed_tensors(jobs: Sequence[TensorJob], layout: Sequence[dict[str, Any]], size: int) -> int:
    fd = memfd("inputs", size)
    try:
        for job, place in zip(jobs, layout, strict=True):
            for (_, offset), tensor in zip(place["vectors"], job.vectors.values(), strict=True):
                _write(fd, _bytes_of(tensor.detach()), offset)
            if job.base is not None:
                _write(fd, _bytes_of(job.base.detach()), place["base"])
        seal(fd, read_only=True)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _end(offset: int, shape: Sequence[int]) -> int:
    return offset + 4 * math.prod(shape)


def _slot(job: TensorJob) -> JobSlot:
    shape = tuple(next(iter(job.vectors.values())).shape)
    return JobSlot(job.name, float(job.depth), shape, tuple(job.vectors), job.base is not None, job.seed)


def lay_out(slots: Sequence[JobSlot]) -> tuple[list[dict[str, Any]], int]:
    """Where each tensor lies: the jobs as the child reads them, and the size of the inputs."""
    used = made = 0

    def place(start: int, shape: Sequence[int]) -> tuple[int, int]:
        end = _end(start, shape)
        return start, end + -end % ALIGNMENT

    layout: list[dict[str, Any]] = []
    for slot in slots:
        vectors = []
        for model in slot.models:
            start, used = place(used, slot.shape)
            vectors.append([model, start])
        base = None
        if slot.base:
            base, used = place(used, slot.shape)
        output, made = place(made, slot.shape)
        layout.append({"name": slot.name, "depth": float(slot.depth), "seed": slot.seed, "shape": list(slot.shape),
                       "vectors": vectors, "base": base, "output": output})  # fmt: skip
    return layout, used


def check_jobs(jobs: Sequence[TensorJob]) -> None:
    """Raises:
    JobError: a job has no vectors, a wrong dtype or device, unequal shapes, a name used twice, a seed out of range.
    """
    if not jobs:
        raise JobError("expected at least one tensor job, got none; select at least one parameter to merge")
    seen: set[str] = set()
    for job in jobs:
        where = f"tensor job '{job.name}'"
        if job.name in seen:
            raise JobError(f"{where}: expected unique names, got this one twice; rename one of the two")
        seen.add(job.name)
        if not job.vectors:
            raise JobError(f"{where}: expected at least one task vector, got none; give at least one expert")
        if not 0 <= job.seed < 2**64:
            raise JobError(f"{where}: expected a seed in 0..2**64-1, got {job.seed}; reduce it modulo 2**64")
        tensors = {**job.vectors, **({} if job.base is None else {"base": job.base})}
        shape = next(iter(job.vectors.values())).shape
        for model, tensor in tensors.items():
            if tensor.dtype is not torch.float32 or tensor.device.type != "cpu":
                got = f"{tensor.dtype} on {tensor.device.type}"
                raise JobError(
                    f"{where}: expected float32 on the CPU, got {got} from '{model}'; convert it with .float().cpu()"
                )
            if tensor.shape != shape:
                got = f"{tuple(tensor.shape)} from '{model}'"
                raise JobError(
                    f"{where}: expected shape {tuple(shape)} from every model, got {got}; align the checkpoints"
                )


@dataclass(frozen=True)
class Mailbox:
    """The two memory files that a child writes."""

    outputs: int
    report: int

    def read_report(self) -> Any:
        """What the child wrote, as JSON; None if it wrote nothing.

        Raises:
            ValueError: not a report (torn or forged).
        """
        raw = os.pread(self.report, REPORT_BYTES, 0)
        length = int.from_bytes(raw[:4], "little")
        if length == 0:
            return None
        if length > REPORT_BYTES - 4:
            raise ValueError("the report's length is out of bounds")
        try:
            return json.loads(raw[4 : 4 + length].decode("ascii"))
        except RecursionError:
            raise ValueError("the report is nested too deeply") from None

    def read_outputs(self, packed: PackedJobs) -> dict[str, torch.Tensor]:
        """Job name -> merged tensor, by the parent's own shapes. They lie where the child wrote them (nothing is copied): only
        call it when no process but this one has the memory file. A write to them stays in this process."""
        memory = mapped(self.outputs, packed.output_bytes, mmap.MAP_PRIVATE) if packed.output_bytes else None
        return {name: tensor_over(memory, packed.output_offsets[name], shape) for name, shape in packed.shapes.items()}


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def mapped(fd: int, size: int, flags: int) -> Any:
    """A mapping that ends with the last array over it. Python's own `mmap` keeps a descriptor open for as long: a host that keeps a thousand
    results would run out of them."""
    address = _libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, 0)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "a memory file cannot be mapped")
    memory = (ctypes.c_char * size).from_address(address)
    weakref.finalize(memory, _libc.munmap, address, size)
    return memory


def tensor_over(memory: Any, offset: int, shape: Sequence[int]) -> torch.Tensor:
    """A float32 tensor over mapped memory, which lives as long as the tensor; fresh memory where the shape has no elements.

    Each has a storage of its own: views of one big tensor would share a version counter, and autograd would take a write to one
    for a write to all.
    """
    if memory is None or not math.prod(shape):
        return torch.empty(tuple(shape), dtype=torch.float32)
    return torch.from_numpy(np.ndarray(tuple(shape), np.float32, memory, offset))


def not_finite(outputs: Mapping[str, torch.Tensor]) -> tuple[str, int] | None:
    """The first tensor with NaN or infinite values, and how many it has; None if there is none."""
    for name, tensor in outputs.items():
        finite = np.isfinite(tensor.numpy())  # fifteen times as fast as torch's
        if not finite.all():
            return name, int(finite.size - np.count_nonzero(finite))
    return None


@contextmanager
def mailbox(packed: PackedJobs) -> Iterator[Mailbox]:
    """Fresh, pre-sized memory for one child's results."""
    outputs = memfd("outputs", packed.output_bytes)
    try:
        report = memfd("report", REPORT_BYTES)
        try:
            seal(outputs, read_only=False)
            seal(report, read_only=False)
            yield Mailbox(outputs, report)
        finally:
            os.close(report)
    finally:
        os.close(outputs)


def digest(outputs: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 (hex) over names, shapes and bytes, in the order of the names."""
    total = sha256()
    for name in sorted(outputs):
        tensor = outputs[name]
        total.update(json.dumps([name, list(tensor.shape)]).encode("ascii"))
        total.update(_bytes_of(tensor.contiguous()))
    return total.hexdigest()
