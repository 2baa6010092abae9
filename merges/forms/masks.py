"""Task vectors of which only some values are kept, chosen by rank or by chance; then added, or those added that agree in sign."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from merges import kernels, ranks
from merges.blocks import Array, Blocks
from merges.forms.common import NONE, Each, Merged, all_vectors, each_of, slice_elements, weight_array, weighted_sum
from merges.ranks import Kept, Rank

__all__ = ["breadcrumbs", "breadcrumbs_ties", "dare_linear", "dare_ties", "della", "della_linear", "ties"]


def _trimmed(blocks: Blocks, kept: Sequence[Kept | None], weights: Array) -> Iterator[Array]:
    """Blocks of what is kept of every task vector, times its weight; None keeps all."""
    for span in blocks.spans():
        vectors = blocks.vectors(*span)
        for vector, choice, weight in zip(vectors, kept, weights, strict=True):
            if choice is not None:
                choice.trim(vector, weight, vector)
            elif weight != 1:
                np.multiply(vector, weight, out=vector)
        yield vectors


def _none() -> Kept:
    """No value at all."""
    return ranks.middle(None, None, 0, 0)


def _top(blocks: Blocks, density: Each) -> list[Kept | None]:
    count, densities = blocks.elements, each_of(density, blocks.count)
    kept = [max(1, int(share * count)) if 0 < share < 1 and count else 0 for share in densities]
    found = _at_ranks(blocks, [[count - many] if many else [] for many in kept])
    return [
        ranks.largest(row[0], many, count) if row else None if share >= 1 or not count else _none()
        for row, many, share in zip(found, kept, densities, strict=True)
    ]


def _between(blocks: Blocks, density: Each, gamma: Each) -> list[Kept | None]:
    count, shares = (
        blocks.elements,
        list(zip(each_of(density, blocks.count), each_of(gamma, blocks.count), strict=True)),
    )
    cuts = [(max(0, count - int(kept * count) - int(out * count)), int(kept * count)) for kept, out in shares]
    places = [
        [place for place in (below - 1, below + kept - 1) if place >= 0] if kept > 0 and share < 1 else []
        for (below, kept), (share, _) in zip(cuts, shares, strict=True)
    ]
    found = _at_ranks(blocks, places)
    return [
        None
        if share >= 1 or not count
        else ranks.middle(row[0] if len(row) > 1 else None, row[-1], *cut)
        if row
        else _none()
        for row, cut, (share, _) in zip(found, cuts, shares, strict=True)
    ]


def _at_ranks(blocks: Blocks, places: Sequence[Sequence[int]]) -> list[list[Rank]]:
    """As `ranks.at_ranks` of the task vectors' magnitudes, without a look at them where nothing is asked."""
    return ranks.at_ranks(lambda: all_vectors(blocks), places) if any(places) else [[] for _ in places]


def _elected(blocks: Blocks, vectors: Array, weights: Array, normalize: float, scale: float) -> Array:
    """The values that agree in sign, added; divided by the sum of their weights if asked to."""
    merged = blocks.scratch.array("merged", vectors.shape[1])
    divisors = weights if normalize else NONE
    kernels.elect(vectors, np.ones_like(weights), divisors, np.float32(0), np.float32(scale), merged)
    return merged


def ties(blocks: Blocks, *, density: Each, scale: float, normalize: float, **given: Any) -> Merged:
    """Trim, elect signs, merge what agrees."""
    weights = weight_array(blocks.count, given)
    for vectors in _trimmed(blocks, _top(blocks, density), weights):
        yield _elected(blocks, vectors, weights, normalize, scale)


def breadcrumbs(blocks: Blocks, *, density: Each, gamma: Each, scale: float, **given: Any) -> Merged:
    """Drop both tails, add."""
    ones = np.ones(blocks.count, np.float32)
    for vectors in _trimmed(blocks, _between(blocks, density, gamma), weight_array(blocks.count, given)):
        yield weighted_sum(blocks, vectors, ones, scale)


def breadcrumbs_ties(
    blocks: Blocks, *, density: Each, gamma: Each, scale: float, normalize: float, **given: Any
) -> Merged:
    """Drop both tails, elect signs, merge what agrees."""
    weights = weight_array(blocks.count, given)
    for vectors in _trimmed(blocks, _between(blocks, density, gamma), weights):
        yield _elected(blocks, vectors, weights, normalize, scale)


def _dropped(blocks: Blocks, density: Each, rescale: float, weights: Array) -> Iterator[Array]:
    """Blocks of the task vectors, each value kept with this probability, times its weight."""
    densities = [np.float32(min(max(share, 0), 1)) for share in each_of(density, blocks.count)]
    generators = blocks.generators([bool(0 < share < 1) for share in densities])
    for start, stop in blocks.spans():
        vectors = blocks.vectors(start, stop)
        for vector, rng, share, weight in zip(vectors, generators, densities, weights, strict=True):
            if rng is None:
                np.multiply(vector, weight * share, out=vector)
            else:
                divisor = share if rescale else np.float32(1)
                kernels.drop(vector, blocks.drawn(rng, stop - start), share, divisor, weight, vector)
        yield vectors


def dare_linear(blocks: Blocks, *, density: Each, scale: float, rescale: float, **given: Any) -> Merged:
    """Drop at random, add."""
    ones = np.ones(blocks.count, np.float32)
    for vectors in _dropped(blocks, density, rescale, weight_array(blocks.count, given)):
        yield weighted_sum(blocks, vectors, ones, scale)


def dare_ties(blocks: Blocks, *, density: Each, scale: float, rescale: float, normalize: float, **given: Any) -> Merged:
    """Drop at random, elect signs, merge what agrees."""
    weights = weight_array(blocks.count, given)
    for vectors in _dropped(blocks, density, rescale, weights):
        yield _elected(blocks, vectors, weights, normalize, scale)


def _dropped_by_rank(blocks: Blocks, density: Each, epsilon: Each, rescale: float, weights: Array) -> Iterator[Array]:
    """As `_dropped`, the probability growing with the rank along the second dimension."""
    shares = list(zip(each_of(density, blocks.count), each_of(epsilon, blocks.count), strict=True))
    draws = [0 < share < 1 for share, _ in shares]
    if any(drawn and not 0 < share - off <= share + off < 1 for drawn, (share, off) in zip(draws, shares, strict=True)):
        raise ValueError("density + epsilon and density - epsilon have to lie between 0 and 1")
    shape = blocks.shape if len(blocks.shape) > 1 else (1, *blocks.shape)
    columns, depth = shape[1] if len(shape) > 1 else 1, math.prod(shape[2:])
    generators = blocks.generators(draws)
    for start, stop in blocks.spans(slice_elements(blocks.shape)):
        vectors = blocks.vectors(start, stop)
        for vector, rng, (share, off), weight in zip(vectors, generators, shares, weights, strict=True):
            if rng is None:
                np.multiply(vector, weight * np.float32(share >= 1), out=vector)
                continue
            rows = _columns_last(vector, columns, depth)
            drawn = _columns_last(blocks.drawn(rng, stop - start), columns, depth)
            sizes = rows.view(np.uint32).astype(np.uint64) & np.uint64(0x7FFFFFFF)
            order = np.sort(sizes << np.uint64(32) | np.arange(columns, dtype=np.uint64), axis=1).view(np.int64)
            out, least, width = np.empty_like(rows), np.float32(share - off), np.float32(off)
            kernels.drop_by_rank(rows, order, drawn, least, width, bool(rescale), weight, out)
            vector[:] = out.reshape(-1, depth, columns).swapaxes(1, 2).reshape(-1)
        yield vectors


def _columns_last(values: Array, columns: int, depth: int) -> Array:
    return np.ascontiguousarray(values.reshape(-1, columns, depth).swapaxes(1, 2)).reshape(-1, columns)


def della_linear(blocks: Blocks, *, density: Each, epsilon: Each, scale: float, rescale: float, **given: Any) -> Merged:
    """Drop by rank, add."""
    ones = np.ones(blocks.count, np.float32)
    for vectors in _dropped_by_rank(blocks, density, epsilon, rescale, weight_array(blocks.count, given)):
        yield weighted_sum(blocks, vectors, ones, scale)


def della(
    blocks: Blocks, *, density: Each, epsilon: Each, scale: float, rescale: float, normalize: float, **given: Any
) -> Merged:
    """Drop by rank, elect signs, merge what agrees."""
    weights = weight_array(blocks.count, given)
    for vectors in _dropped_by_rank(blocks, density, epsilon, rescale, weights):
        yield _elected(blocks, vectors, weights, normalize, scale)
