"""Library merges in streamed form: the same arithmetic as the program of that name, value for value, but block by block.

A form yields the merged task vector's blocks in order, as float32 in the scratch of its worker, each to be used before the next
is asked for. The operations and their order are the program's, so the bits are too (`tests/merges/test_streamed.py`); what needs a
whole tensor first (a rank) makes a pass of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merges import library
from merges.blocks import Blocks, Scratch
from merges.contract import program_id

__all__ = ["FORMS", "Form", "form_of"]


Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Form:
    """A merge in streamed form.

    Attributes:
        blocks: `blocks(Blocks, **hyper-parameters)` yields the merged task vector's blocks.
        whole: bytes per element of the tensor that it holds at once, beside its blocks.
        takes: how many experts; None: any number. With another number the program says so itself, in the sandbox.
    """

    blocks: Callable[..., Iterator[Tensor]]
    whole: int = 0
    takes: int | None = None


def _weights(count: int, given: Mapping[str, float]) -> list[float]:
    """w0 … w7 for `count` experts; any further expert shares w7."""
    return [given[f"w{min(i, 7)}"] for i in range(count)]


def _weighted_sum(blocks: Blocks, weights: list[float], start: int, stop: int) -> Tensor:
    merged = blocks.scratch.take("merged", stop - start).zero_()
    for expert, weight in enumerate(weights):
        merged.add_(blocks.vector(expert, start, stop).mul_(weight))
    return merged


def task_arithmetic(blocks: Blocks, *, scale: float) -> Iterator[Tensor]:
    """scale * sum of the task vectors."""
    for start, stop in blocks.spans():
        merged = blocks.scratch.take("merged", stop - start).zero_()
        for expert in range(blocks.count):
            merged.add_(blocks.vector(expert, start, stop))
        yield merged.mul_(scale)


def weighted_task_arithmetic(blocks: Blocks, *, scale: float, **weights: float) -> Iterator[Tensor]:
    """scale * weighted sum."""
    for start, stop in blocks.spans():
        yield _weighted_sum(blocks, _weights(blocks.count, weights), start, stop).mul_(scale)


def linear(blocks: Blocks, **weights: float) -> Iterator[Tensor]:
    """Weighted average."""
    used = _weights(blocks.count, weights)
    total = 0.0
    for weight in used:
        total = total + weight
    for start, stop in blocks.spans():
        merged = _weighted_sum(blocks, used, start, stop)
        yield merged.zero_() if abs(total) < 1e-8 else merged.div_(total)


_SAMPLE_RUNS, _SAMPLE_RUN = 32, 4096
"""Places of a tensor that are looked at first, and how many values at each, to know about where its edge lies."""

_MARGIN = 0.02
"""On either side of the place in the sample: ten times the standard error of 131,072 independent values."""


class _Edge:
    """The smallest magnitude that a trimmed task vector keeps, and how many values of just that magnitude.

    Exact, whatever the sample says: it only tells between which magnitudes to look. What lies between is collected, what lies above
    counted; where the edge is not between, everything is collected.
    """

    def __init__(self, blocks: Blocks, expert: int, kept: int) -> None:
        low, high = _bracket(blocks, expert, kept)
        above, between = _collected(blocks, expert, low, high)
        if not 0 < kept - above <= between.size:
            above, between = _collected(blocks, expert, 0.0, float("inf"))
        place = between.size - (kept - above)
        between.partition(place)
        self.value = between[place]
        self.left = int(np.count_nonzero(between[place:] == self.value))
        self._all = self.left == int(np.count_nonzero(between == self.value))

    def keep(self, sizes: Array, scratch: Scratch) -> Array:
        """Which of the next block's values are kept: all above the edge, and of those at it the first ones."""
        mask = scratch.take("mask", sizes.size, torch.bool).numpy()
        if self._all:
            np.greater_equal(sizes, self.value, out=mask)
            return mask
        np.greater(sizes, self.value, out=mask)
        if self.left:
            first = np.flatnonzero(sizes == self.value)[: self.left]
            mask[first] = True
            self.left -= first.size
        return mask


def _bracket(blocks: Blocks, expert: int, kept: int) -> tuple[float, float]:
    """Two magnitudes between which the edge most likely lies."""
    count = blocks.elements
    if count <= 4 * _SAMPLE_RUNS * _SAMPLE_RUN:
        return 0.0, float("inf")
    starts = np.linspace(0, count - _SAMPLE_RUN, _SAMPLE_RUNS).astype(int)
    sample = np.concatenate([np.abs(blocks.vector(expert, s, s + _SAMPLE_RUN).numpy()) for s in starts.tolist()])
    share = 1 - kept / count
    low, high = np.quantile(sample, [max(0.0, share - _MARGIN), min(1.0, share + _MARGIN)])
    return (float(low) if share > _MARGIN else 0.0), (float(high) if share < 1 - _MARGIN else float("inf"))


def _collected(blocks: Blocks, expert: int, low: float, high: float) -> tuple[int, Array]:
    """How many magnitudes lie above `high`, and those from `low` to `high`."""
    above, found, scratch = 0, [], blocks.scratch
    for start, stop in blocks.spans():
        sizes = _magnitudes(blocks.vector(expert, start, stop), scratch)
        over = np.greater(sizes, np.float32(high), out=scratch.take("over", sizes.size, torch.bool).numpy())
        above += int(np.count_nonzero(over))
        inside = np.greater_equal(sizes, np.float32(low), out=scratch.take("inside", sizes.size, torch.bool).numpy())
        found.append(sizes[np.greater(inside, over, out=inside)])
    return above, np.concatenate(found)


def _magnitudes(vector: Tensor, scratch: Scratch) -> Array:
    return torch.abs(vector, out=scratch.take("sizes", vector.numel())).numpy()


def _trims(blocks: Blocks, density: float) -> list[_Edge | None]:
    if density >= 1 or density <= 0 or not blocks.elements:
        return [None] * blocks.count
    kept = max(1, int(density * blocks.elements))
    return [_Edge(blocks, expert, kept) for expert in range(blocks.count)]


def ties(blocks: Blocks, *, density: float, scale: float, normalize: float, **weights: float) -> Iterator[Tensor]:
    """Trim, elect signs, merge what agrees. Masks by numpy, whose comparisons are ten times as fast as torch's."""
    scratch, used, edges = blocks.scratch, _weights(blocks.count, weights), _trims(blocks, density)
    for start, stop in blocks.spans():
        total = scratch.take("total", stop - start).zero_()
        vectors = []
        for expert, (weight, edge) in enumerate(zip(used, edges, strict=True)):
            vector = blocks.vector(expert, start, stop, f"vector {expert}")
            if density <= 0:
                vector.zero_()
            values = vector.numpy()
            if edge is not None:
                np.multiply(values, edge.keep(_magnitudes(vector, scratch), scratch), out=values)
            if weight != 1:
                vector.mul_(weight)
            total.add_(vector)
            vectors.append(vector)
        merged, divisor = _agreeing(total, vectors, used, scratch)
        if normalize:
            divisor[divisor == 0] = 1.0
            np.divide(merged.numpy(), divisor, out=merged.numpy())
        yield merged.mul_(scale)


def _agreeing(total: Tensor, vectors: list[Tensor], weights: list[float], scratch: Scratch) -> tuple[Tensor, Array]:
    """The sum of the values whose sign is that of `total` (zero counting as +), and the sum of their weights. Spoils `vectors`."""
    size = total.numel()
    elected = np.greater_equal(total.numpy(), 0, out=scratch.take("elected", size, torch.bool).numpy())
    agrees = scratch.take("agrees", size, torch.bool).numpy()
    nonzero = scratch.take("nonzero", size, torch.bool).numpy()
    merged, divisor = scratch.take("merged", size).zero_(), scratch.take("divisor", size).zero_().numpy()
    weighed = scratch.take("weighed", size).numpy()
    for weight, vector in zip(weights, vectors, strict=True):
        values = vector.numpy()
        np.equal(np.greater(values, 0, out=agrees), elected, out=agrees)
        np.logical_and(agrees, np.not_equal(values, 0, out=nonzero), out=agrees)
        merged.add_(torch.from_numpy(np.multiply(values, agrees, out=values)))
        np.add(divisor, np.multiply(agrees, np.float32(weight), out=weighed), out=divisor)
    return merged, divisor


def nearswap(blocks: Blocks, *, t: float) -> Iterator[Tensor]:
    """min(1, t / |tau|) * tau, for one expert."""
    for start, stop in blocks.spans():
        vector = blocks.vector(0, start, stop)
        weight = torch.abs(vector, out=blocks.scratch.take("weight", stop - start)).clamp_(min=1e-6)
        yield weight.reciprocal_().mul_(t).clamp_(min=0, max=1).mul_(vector)


FORMS: Mapping[str, Form] = {
    "linear": Form(linear),
    "nearswap": Form(nearswap, takes=1),
    "task_arithmetic": Form(task_arithmetic),
    "ties": Form(ties, whole=4),
    "weighted_task_arithmetic": Form(weighted_task_arithmetic),
}
"""Library name -> streamed form."""


def form_of(program: str, experts: int) -> Form | None:
    """The streamed form of the program with this id, if it is a library program that has one for so many experts."""
    found = next((form for name, form in FORMS.items() if program_id(library.source(name)) == program), None)
    return found if found is not None and found.takes in (None, experts) else None
