"""One parameter tensor of base and experts, read block by block as float32: what a merge in streamed form sees."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from merges import float_bits
from merges.compiled import Array
from merges.errors import CheckpointError
from merges.weights import Weights

__all__ = ["BLOCK_ELEMENTS", "Array", "Blocks", "Scratch", "WeightedSum", "not_finite"]

BLOCK_ELEMENTS = 1 << 18
"""The handful of blocks that one step touches stay in a core's cache."""

FIXED_ELEMENTS = 1 << 16
"""Blocks over which sums are taken, whatever the other blocks are: a sum's bits depend on where it is cut."""


_VIEWS = 256
"""Views of buffers that are remembered; making one costs as much as reading some thousand values."""


class Scratch:
    """Buffers that a worker uses again for every block, by name.

    Attributes:
        base_of: whose block, from where to where, the buffer for the base holds.
    """

    def __init__(self) -> None:
        self.base_of: tuple[object, int, int] | None = None
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}
        self._arrays: dict[tuple[str, tuple[int, ...]], Array] = {}
        self._tensors: dict[tuple[str, torch.dtype, int], Tensor] = {}

    def take(self, name: str, elements: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A 1-D tensor of this size with whatever was in it; the same memory every time for the same name and dtype."""
        found = self._tensors.get((name, dtype, elements))
        if found is None:
            held = self._buffers.get((name, dtype))
            if held is None or held.numel() < elements:
                held = self._buffers[name, dtype] = torch.empty(elements, dtype=dtype)
                self._forget(name)
            self._forget_some()
            found = self._tensors[name, dtype, elements] = held[:elements]
        return found

    def array(self, name: str, *shape: int) -> Array:
        """The same as a float32 array of this shape."""
        found = self._arrays.get((name, shape))
        if found is None:
            found = self.take(name, math.prod(shape)).numpy().reshape(shape)
            self._arrays[name, shape] = found
        return found

    def _forget(self, name: str) -> None:
        """Views of a buffer that has been replaced."""
        self._arrays = {key: array for key, array in self._arrays.items() if key[0] != name}
        self._tensors = {key: tensor for key, tensor in self._tensors.items() if key[0] != name}

    def _forget_some(self) -> None:
        if len(self._tensors) > _VIEWS:
            self._arrays.clear()
            self._tensors.clear()


@dataclass(frozen=True)
class WeightedSum:
    """scale * (w_0 v_0 + w_1 v_1 + …) / divisor of the task vectors, added in their order.

    Attributes:
        weights: float32, one for each expert.
        scale, divisor: float32 too, when used.
    """

    weights: Array
    scale: float = 1.0
    divisor: float = 1.0

    @property
    def arguments(self) -> tuple[Array, np.float32, np.float32]:
        """All of it, as the loops take it."""
        return self.weights, np.float32(self.scale), np.float32(self.divisor)


class Blocks:
    """The task vectors (expert - base) of one tensor, in row-major blocks.

    Args:
        name: the tensor.
        base, experts: checkpoints that have it in one shape.
        scratch: of the worker that uses this object; what the methods return lies in it.
        block: elements per block; changes memory and speed, not one bit of the result.
        seed: for `generators`.

    Raises (all methods that read):
        CheckpointError: a file cannot be read, or a value is NaN or infinite.
    """

    def __init__(
        self,
        name: str,
        base: Weights,
        experts: Mapping[str, Weights],
        scratch: Scratch,
        block: int = BLOCK_ELEMENTS,
        seed: int = 0,
    ) -> None:
        self.name, self.scratch = name, scratch
        self.shape = base.shapes[name]
        self.elements = math.prod(self.shape)
        self._base, self._experts, self._block, self._seed = base, tuple(experts.items()), block, seed

    @property
    def count(self) -> int:
        """How many experts there are."""
        return len(self._experts)

    def spans(self, unit: int = 1) -> Iterator[tuple[int, int]]:
        """First and last element (exclusive) of every block, in order; whole multiples of `unit`, which divides the tensor."""
        return self._cut(max(1, self._block // unit) * unit)

    def fixed_spans(self, unit: int = 1) -> Iterator[tuple[int, int]]:
        """The same, always cut in the same places: where a sum runs over several values."""
        return self._cut(max(1, FIXED_ELEMENTS // unit) * unit)

    def _cut(self, step: int) -> Iterator[tuple[int, int]]:
        for start in range(0, self.elements, step):
            yield start, min(start + step, self.elements)

    def base(self, start: int, stop: int) -> Array:
        """The base's block; valid until another block of it is asked for."""
        values = self.scratch.array("base", stop - start)
        if self.scratch.base_of != (self, start, stop):
            self.scratch.base_of = None
            stored = self._read(self._base, "the base", start, stop)
            finite = (
                float_bits.from_bfloat16(_bits(stored), values)
                if stored.dtype is torch.bfloat16
                else float_bits.is_finite(_converted(stored, values))
            )
            if not finite:
                raise not_finite(self.name, "the base", self._base)
            self.scratch.base_of = self, start, stop
        return values

    def vectors(self, start: int, stop: int, into: Sequence[Array] | None = None) -> Array:
        """The block of every expert's task vector, [experts, stop - start]; written to the arrays of `into` instead, if there are any."""
        base = self.base(start, stop)
        vectors = self.scratch.array("vectors", 0 if into is not None else self.count, stop - start)
        for (name, checkpoint), vector in zip(self._experts, vectors if into is None else into, strict=True):
            known = checkpoint.change(self.name, start, stop, self._base)
            if known is not None:
                vector[:] = known.numpy()
                if not float_bits.is_finite(vector):
                    raise not_finite(self.name, repr(name), checkpoint)
                continue
            stored = self._read(checkpoint, repr(name), start, stop)
            if stored.dtype is torch.bfloat16:
                finite = float_bits.difference_of_bfloat16(_bits(stored), base, vector)
            else:
                finite = float_bits.is_finite(_converted(stored, vector))
                np.subtract(vector, base, out=vector)
            if not finite:
                raise not_finite(self.name, repr(name), checkpoint)
        return vectors

    def summed(self, total: WeightedSum, start: int, stop: int) -> Array:
        """The block of a weighted sum."""
        merged = self.scratch.array("merged", stop - start)
        float_bits.add_weighted(self.vectors(start, stop), *total.arguments, merged)
        return merged

    def summed_onto_base(self, total: WeightedSum, start: int, stop: int, dtype: torch.dtype) -> Tensor | None:
        """`plus_base` of `summed`: the same bits, in one walk where all is bfloat16."""
        if dtype is torch.bfloat16 and self._plain_bfloat16:
            size = stop - start
            stored = self.scratch.take("stored", (self.count + 1) * size, dtype).view(self.count + 1, size)
            for checkpoint, row in zip((self._base, *(model for _, model in self._experts)), stored, strict=True):
                checkpoint.read_part(self.name, start, stop, row)
            rounded = self.scratch.take("rounded", size, dtype)
            if float_bits.weighted_bfloat16(_bits(stored), *total.arguments, _bits(rounded)):
                return rounded  # else: the walks of which each says what is wrong
        return self.plus_base(self.summed(total, start, stop), start, stop, dtype)

    @cached_property
    def _plain_bfloat16(self) -> bool:
        """Whether base and experts are stored in bfloat16, and no expert knows its task vector by itself."""
        experts = [model for _, model in self._experts]
        return all(
            model.dtypes[model.resolve(self.name) or self.name] is torch.bfloat16 for model in (self._base, *experts)
        ) and all(model.change(self.name, 0, 0, self._base) is None for model in experts)

    def generators(self, draws: Sequence[bool]) -> list[torch.Generator | None]:
        """One for every expert that draws, each where the tensor's generator stands once it has drawn a number for every value of those before:
        so a block of each can be drawn at a time, with the numbers of a program that draws for whole tensors."""
        rng = torch.Generator().manual_seed(self._seed)
        found: list[torch.Generator | None] = []
        for expert, wanted in enumerate(draws):
            found.append(torch.Generator().set_state(rng.get_state()) if wanted else None)
            if wanted and any(draws[expert + 1 :]):
                for start, stop in self.spans():
                    self.drawn(rng, stop - start)
        return found

    def drawn(self, rng: torch.Generator, elements: int) -> Array:
        """The next numbers, from 0 to 1."""
        return torch.rand(elements, generator=rng, out=self.scratch.take("drawn", elements)).numpy()

    def plus_base(self, vector: Array, start: int, stop: int, dtype: torch.dtype) -> Tensor | None:
        """The base's block plus `vector`, added in float32 (float64 for a float64 base) and rounded once to `dtype`; None where a value
        overflows that."""
        size = stop - start
        if dtype is torch.bfloat16:
            rounded = self.scratch.take("rounded", size, dtype)
            return rounded if float_bits.bfloat16_sum(self.base(start, stop), vector, _bits(rounded)) else None
        if dtype is torch.float64:
            stored = self._read(self._base, "the base", start, stop).to(dtype)
            total = torch.add(stored, torch.from_numpy(vector), out=self.scratch.take("sum", size, dtype))
            return total if total.isfinite().all() else None
        total = self.scratch.take("sum", size)
        if not float_bits.float32_sum(self.base(start, stop), vector, total.numpy()):
            return None
        if dtype is torch.float32:
            return total
        rounded = self.scratch.take("rounded", size, dtype).copy_(total)
        return rounded if rounded.to(torch.float32).isfinite().all() else None

    def onto_base(self, merged: Iterable[Array], dtype: torch.dtype) -> Iterator[Tensor | None]:
        """`plus_base` of all blocks of a merged task vector."""
        stop = 0
        for block in merged:
            start, stop = stop, stop + block.size
            yield self.plus_base(block, start, stop, dtype)

    def _read(self, checkpoint: Weights, owner: str, start: int, stop: int) -> Tensor:
        stored = checkpoint.resolve(self.name) or self.name
        raw = self.scratch.take("raw", stop - start, checkpoint.dtypes[stored])
        return checkpoint.read_part(self.name, start, stop, raw)


def not_finite(name: str, owner: str, model: Weights) -> CheckpointError:
    """The error for a tensor of a model, called `owner`, that has values which cannot be merged."""
    return CheckpointError(
        f"tensor {name!r} of {owner} ({model.path}): expected finite values, got NaN or infinity; "
        "download it again or leave the tensor out of the selection"
    )


def _bits(tensor: Tensor) -> Array:
    """The bits of bfloat16 values, which numpy has no type for."""
    return tensor.view(torch.int16).numpy().view(np.uint16)


def _converted(stored: Tensor, values: Array) -> Array:
    torch.from_numpy(values).copy_(stored)
    return values
