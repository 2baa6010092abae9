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
import torch
from torch import Tensor

from merges import library
from merges.blocks import Blocks
from merges.contract import program_id

__all__ = ["FORMS", "Form", "form_of"]


@dataclass(frozen=True)
class Form:
    """A merge in streamed form.

    Attributes:
        blocks: `blocks(Blocks, **hyper-parameters)` yields the merged task vector's blocks.
        whole: bytes per element of the tensor that it holds at once, beside its blocks.
    """

    blocks: Callable[..., Iterator[Tensor]]
    whole: int = 0


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


class _Edge:
    """The smallest magnitude that a trimmed task vector keeps, and how many values of just that magnitude."""

    def __init__(self, blocks: Blocks, expert: int, kept: int) -> None:
        sizes = torch.empty(blocks.elements)
        for start, stop in blocks.spans():
            torch.abs(blocks.vector(expert, start, stop), out=sizes[start:stop])
        values = sizes.numpy()
        place = blocks.elements - kept
        values.partition(place)
        self.value = float(values[place])
        self.left = int(np.count_nonzero(values[place:] == values[place]))

    def keep(self, size: Tensor, scratch: Any) -> Tensor:
        """Which of the next block's values are kept: all above the edge, and of those at it the first ones."""
        mask = torch.ge(size, self.value, out=scratch.take("mask", size.numel(), torch.bool))
        at_edge = torch.eq(size, self.value, out=scratch.take("edge", size.numel(), torch.bool))
        here = int(at_edge.count_nonzero())
        if here > self.left:
            mask[at_edge.nonzero().flatten()[self.left :]] = False
        self.left -= min(here, self.left)
        return mask


def _trims(blocks: Blocks, density: float) -> list[_Edge | None]:
    if density >= 1 or density <= 0:
        return [None] * blocks.count
    kept = max(1, int(density * blocks.elements))
    return [_Edge(blocks, expert, kept) for expert in range(blocks.count)] if blocks.elements else []


def ties(blocks: Blocks, *, density: float, scale: float, normalize: float, **weights: float) -> Iterator[Tensor]:
    """Trim, elect signs, merge what agrees."""
    scratch, used, edges = blocks.scratch, _weights(blocks.count, weights), _trims(blocks, density)
    for start, stop in blocks.spans():
        size = stop - start
        total = scratch.take("total", size).zero_()
        vectors = []
        for expert, (weight, edge) in enumerate(zip(used, edges, strict=True)):
            vector = blocks.vector(expert, start, stop, f"vector {expert}")
            if density <= 0:
                vector.zero_()
            if edge is not None:
                mask = edge.keep(torch.abs(vector, out=scratch.take("size", size)), scratch)
                vector.mul_(mask)
            total.add_(vector.mul_(weight))
            vectors.append(vector)
        elected = torch.ge(total, 0, out=scratch.take("elected", size, torch.bool))
        merged = scratch.take("merged", size).zero_()
        divisor = scratch.take("divisor", size).zero_()
        agrees = scratch.take("agrees", size, torch.bool)
        below = scratch.take("below", size, torch.bool)
        for weight, vector in zip(used, vectors, strict=True):
            # sign(vector) == elected: above zero where + was elected, below zero where - was
            torch.gt(vector, 0, out=agrees).logical_and_(elected)
            torch.lt(vector, 0, out=below)
            agrees.logical_or_(below.logical_and_(elected.logical_not()))
            merged.add_(vector.mul_(agrees))
            divisor.add_(agrees, alpha=weight)
        if normalize:
            merged.div_(divisor.masked_fill_(divisor == 0, 1.0))
        yield merged.mul_(scale)


FORMS: Mapping[str, Form] = {
    "linear": Form(linear),
    "task_arithmetic": Form(task_arithmetic),
    "ties": Form(ties, whole=4),
    "weighted_task_arithmetic": Form(weighted_task_arithmetic),
}
"""Library name -> streamed form."""


def form_of(program: str) -> Form | None:
    """The streamed form of the program with this id, if it is a library program that has one."""
    return next((form for name, form in FORMS.items() if program_id(library.source(name)) == program), None)
