"""What the forms share: how hyper-parameters come, weighted sums, and how many elements belong together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from merges import float_bits
from merges.blocks import Array, Blocks

__all__ = [
    "NONE",
    "Each",
    "Merged",
    "all_vectors",
    "each_of",
    "given_weights",
    "row_elements",
    "slice_elements",
    "weight_array",
    "weighted_sum",
]

Merged = Iterator[Array]
"""Blocks of the merged task vector, float32."""

NONE = np.empty(0, np.float32)

Each = float | Sequence[float]
"""One number for all experts, or one for each; the library's programs know the first kind only."""


def each_of(value: Each, count: int) -> list[float]:
    """One number per expert."""
    return list(value) if isinstance(value, Sequence) else [value] * count


def given_weights(count: int, given: Mapping[str, Any]) -> list[float]:
    """`weights`, or w0 … w7 for `count` experts; any further expert shares w7."""
    return list(given["weights"]) if "weights" in given else [given[f"w{min(i, 7)}"] for i in range(count)]


def weight_array(count: int, given: Mapping[str, Any]) -> Array:
    """The same as float32."""
    return np.array(given_weights(count, given), np.float32)


def weighted_sum(blocks: Blocks, vectors: Array, weights: Array, scale: float = 1.0) -> Array:
    """scale times the sum of the vectors, each times its weight, in the scratch of the worker."""
    merged = blocks.scratch.array("merged", vectors.shape[1])
    float_bits.add_weighted(vectors, weights, np.float32(scale), np.float32(1), merged)
    return merged


def all_vectors(blocks: Blocks) -> Iterator[Array]:
    """The task vectors, once from the first block to the last."""
    return (blocks.vectors(*span) for span in blocks.spans())


def slice_elements(shape: Sequence[int]) -> int:
    """Elements of one index of the first dimension; a 1-D tensor is one slice."""
    return max(1, math.prod(shape[1:]) if len(shape) > 1 else math.prod(shape))


def row_elements(shape: Sequence[int]) -> int:
    """Elements of a row, which is the last dimension."""
    return max(1, shape[-1]) if shape else 1
