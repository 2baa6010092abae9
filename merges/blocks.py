"""One parameter tensor of base and experts, read block by block as float32: what a merge in streamed form sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from merges.checkpoints import Checkpoint
from merges.errors import CheckpointError

__all__ = ["BLOCK_ELEMENTS", "Blocks", "Scratch"]

BLOCK_ELEMENTS = 1 << 17
"""Half a MiB of float32: the handful of blocks that one step touches stay in a core's cache."""


class Scratch:
    """Buffers that a worker uses again for every block, by name."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, elements: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A 1-D tensor of this size with whatever was in it; the same memory every time for the same name and dtype."""
        held = self._buffers.get((name, dtype))
        if held is None or held.numel() < elements:
            held = self._buffers[name, dtype] = torch.empty(elements, dtype=dtype)
        return held[:elements]


class Blocks:
    """The task vectors (expert - base) of one tensor, in row-major blocks.

    Args:
        name: the tensor.
        base, experts: checkpoints that have it in one shape.
        scratch: of the worker that uses this object; what the methods return lies in it.
        block: elements per block; changes memory and speed, not one bit of the result.

    Raises (all methods that read):
        CheckpointError: a file cannot be read, or a value is NaN or infinite.
    """

    def __init__(
        self,
        name: str,
        base: Checkpoint,
        experts: Mapping[str, Checkpoint],
        scratch: Scratch,
        block: int = BLOCK_ELEMENTS,
    ) -> None:
        self.name, self.scratch = name, scratch
        self.elements = int(np.prod(base.shapes[name], dtype=np.int64))
        self._base, self._experts, self._block = base, tuple(experts.items()), block
        self._base_at: tuple[int, int] | None = None

    @property
    def count(self) -> int:
        """How many experts there are."""
        return len(self._experts)

    def spans(self) -> Iterator[tuple[int, int]]:
        """First and last element (exclusive) of every block, in order."""
        for start in range(0, self.elements, self._block):
            yield start, min(start + self._block, self.elements)

    def base(self, start: int, stop: int) -> Tensor:
        """The base's block as float32; valid until another block of it is asked for."""
        if self._base_at != (start, stop):
            self._read(self._base, "the base", start, stop, "base")
            self._base_at = start, stop
        return self.scratch.take("base", stop - start)

    def vector(self, expert: int, start: int, stop: int, into: str = "vector") -> Tensor:
        """The block of one expert's task vector, in the buffer of that name."""
        base = self.base(start, stop)
        name, checkpoint = self._experts[expert]
        return self._read(checkpoint, repr(name), start, stop, into).sub_(base)

    def plus_base(self, vector: Tensor, start: int, stop: int, dtype: torch.dtype) -> Tensor | None:
        """The base's block plus `vector`, added in float32 (float64 for a float64 base) and rounded once to `dtype`; None where a value
        overflows that."""
        size = stop - start
        if dtype is torch.float64:
            raw = self._base.read_part(self.name, start, stop, self.scratch.take("raw", size, dtype))
            total = torch.add(raw, vector, out=self.scratch.take("sum", size, dtype))
        else:
            total = torch.add(self.base(start, stop), vector, out=self.scratch.take("sum", size))
        if size and not torch.stack(torch.aminmax(total)).to(dtype).to(torch.float64).isfinite().all():
            return None
        return total if total.dtype is dtype else self.scratch.take("rounded", size, dtype).copy_(total)

    def _read(self, checkpoint: Checkpoint, owner: str, start: int, stop: int, into: str) -> Tensor:
        stored = checkpoint.resolve(self.name) or self.name
        raw = self.scratch.take("raw", stop - start, checkpoint.dtypes[stored])
        values = self.scratch.take(into, stop - start).copy_(checkpoint.read_part(self.name, start, stop, raw))
        finite = self.scratch.take("finite", stop - start, torch.bool).numpy()
        if not np.isfinite(values.numpy(), out=finite).all():
            raise CheckpointError(
                f"tensor {self.name!r} of {owner} ({checkpoint.path}): expected finite values, got NaN or infinity; "
                "download it again or leave the tensor out of the selection"
            )
        return values
