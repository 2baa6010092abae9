"""Weights in memory that several processes map: written by one, read by the others, never on disk and never pickled.

The memory is an anonymous file (memfd), which unlike `/dev/shm` has no limit of its own in containers and nothing to clean up.
A child gets its descriptor; further processes open it as `/proc/<pid>/fd/<number>` of one that holds it.
"""

import math
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

ALIGNMENT = 64
"""Bytes; a cache line, and a multiple of every element's size."""


@dataclass(frozen=True)
class Layout:
    """Which tensors lie in the memory, in this order.

    Attributes:
        shapes: name -> shape.
        dtype: name of the dtype that all of them have, as "float32".
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtype: str

    def places(self) -> dict[str, tuple[int, int]]:
        """name -> (first byte, number of bytes)."""
        width, start = self.torch_dtype.itemsize, 0
        found: dict[str, tuple[int, int]] = {}
        for name, shape in self.shapes.items():
            length = math.prod(shape) * width
            found[name] = (start, length)
            start += -(-length // ALIGNMENT) * ALIGNMENT
        return found

    @property
    def size(self) -> int:
        """Bytes of the whole."""
        return max((start + length for start, length in self.places().values()), default=0)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype itself."""
        dtype = getattr(torch, self.dtype)
        assert isinstance(dtype, torch.dtype)
        return dtype


def reserve(layout: Layout) -> int:
    """Descriptor of new memory of that size, all zeros; the caller closes it. A page counts once it is written to.

    Raises:
        OSError: no memory.
    """
    descriptor = os.memfd_create("mergewright-weights", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, max(layout.size, 1))  # nothing cannot be mapped
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def attach(file: int | Path, layout: Layout) -> dict[str, Tensor]:
    """name -> tensor on the shared memory, which stays mapped as long as one of the tensors lives.

    Args:
        file: descriptor (stays open) or path of the memory.

    Raises:
        OSError: no such memory, or no address space.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC) if isinstance(file, Path) else file
    try:
        memory = mmap.mmap(descriptor, max(layout.size, 1))
    finally:
        if descriptor != file:
            os.close(descriptor)
    whole = torch.frombuffer(memory, dtype=torch.uint8)
    return {
        name: whole[start : start + length].view(layout.torch_dtype).view(layout.shapes[name])
        for name, (start, length) in layout.places().items()
    }
