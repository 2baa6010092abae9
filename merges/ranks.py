"""Magnitudes by rank, without holding or sorting a tensor: which values of a task vector are among its largest or its smallest.

Two passes over the data: one counts magnitudes by the upper half of their bits, the other by the lower half those near the rank. Exact, and
as much memory for a tensor of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from merges import kernels
from merges.blocks import Array

__all__ = ["ALL", "Edge", "Kept", "Rank", "at_ranks", "largest", "middle"]

Pass = Callable[[], Iterator[Array]]
"""Gives the data once more, from the first block to the last: [rows, elements of the block] float32."""

_BINS = 1 << 16
_SORTED = 1 << 13
"""Tensors up to this size are sorted: to add up the bins of both passes takes as long."""

_INFINITY = 0x7F800000


@dataclass(frozen=True)
class Rank:
    """The magnitude at one place of the ascending order.

    Attributes:
        magnitude: its bits.
        before: how many values are smaller.
        equal: how many have this magnitude.
    """

    magnitude: int
    before: int
    equal: int

    @property
    def value(self) -> np.float32:
        """The magnitude itself."""
        return np.uint32(self.magnitude).view(np.float32)


def at_ranks(data: Pass, ranks: Sequence[Sequence[int]]) -> list[list[Rank]]:
    """What stands at these places of each row's magnitudes.

    Args:
        data: see `Pass`.
        ranks: per row, places from 0 (the smallest) to elements - 1.
    """
    rows = _sorted(data)
    if rows is not None:
        return [[_found(row, place) for place in places] for row, places in zip(rows, ranks, strict=True)]
    high = [np.zeros(_BINS, np.int64) for _ in ranks]
    for block in data():
        for row, counts in zip(block, high, strict=True):
            kernels.count_high(row, counts)
    bins = [[_bin(counts, place) for place in places] for counts, places in zip(high, ranks, strict=True)]
    low = [{upper: np.zeros(_BINS, np.int64) for upper, _ in row} for row in bins]
    for block in data():
        for row, wanted in zip(block, low, strict=True):
            for upper, counts in wanted.items():
                kernels.count_low(row, np.uint32(upper), counts)
    return [
        [_rank(upper, before, wanted[upper], place) for (upper, before), place in zip(row, places, strict=True)]
        for row, wanted, places in zip(bins, low, ranks, strict=True)
    ]


def _sorted(data: Pass) -> Array | None:
    """The bits of all magnitudes of a small tensor, each row in ascending order; None for a larger one, or one in several blocks."""
    blocks = data()
    first = next(blocks, None)
    if first is None or first.shape[1] > _SORTED:
        return None
    ordered = np.sort(
        first.view(np.uint32) & np.uint32(0x7FFFFFFF), axis=1
    )  # a copy: the next block takes the first one's place
    return ordered if next(blocks, None) is None else None


def _found(row: Array, place: int) -> Rank:
    before, after = (int(np.searchsorted(row, row[place], side)) for side in ("left", "right"))
    return Rank(int(row[place]), before, after - before)


def _bin(counts: Array, place: int) -> tuple[int, int]:
    """The bin of a place, and how many values lie in lower bins."""
    upto = np.cumsum(counts)
    found = int(np.searchsorted(upto, place, side="right"))
    return found, int(upto[found] - counts[found])


def _rank(upper: int, before: int, counts: Array, place: int) -> Rank:
    lower, smaller = _bin(counts, place - before)
    return Rank(upper << 16 | lower, before + smaller, int(counts[lower]))


@dataclass(frozen=True)
class Edge:
    """Which magnitudes are on this side of a rank: those of `magnitude` itself only as far as its first `first` occurrences count.

    Attributes:
        magnitude: bits; from it on (or up to it) values are kept or dropped.
        first: how many of that magnitude, the first ones, are told from the others; None: all of them.
    """

    magnitude: int
    first: int | None = None


class Kept:
    """Which values of a row are kept: a lower and an upper edge. Blocks have to come in order.

    Args:
        low: magnitudes from here on are kept, of those at the edge the first ones, or (`low_drops`) all but the first ones.
        high: magnitudes up to here are kept, of those at the edge the first ones.
    """

    def __init__(self, low: Edge, high: Edge = Edge(_INFINITY), *, low_drops: bool = False) -> None:
        self._low = low.magnitude + low_drops, low.magnitude + (not low_drops)
        self._high = high.magnitude, high.magnitude - 1
        self._edges = {"low": low.magnitude, "high": high.magnitude}
        self._left = {"low": low.first, "high": high.first}

    def trim(self, vector: Array, weight: np.float32, out: Array) -> None:
        """weight * vector where it is kept, else 0."""
        bounds: list[Array] = []
        for side, (first, then) in (("low", self._low), ("high", self._high)):
            place, left = vector.size, self._left[side]
            if left is not None:
                place, self._left[side] = kernels.place_of(vector, np.uint32(self._edges[side]), left)
            bounds.append(np.array([first, then, place], np.int64))
        low, high = bounds
        kernels.trim(vector, low, high, weight, out)


ALL = Edge(0)
"""Every magnitude is at or above it."""


def largest(rank: Rank, kept: int, elements: int) -> Kept:
    """The `kept` largest values, of equal ones those that come first, given what stands at place elements - kept."""
    first = kept - (elements - rank.before - rank.equal)
    return Kept(Edge(rank.magnitude, None if first == rank.equal else first))


def middle(below: Rank | None, top: Rank | None, dropped: int, kept: int) -> Kept:
    """Of the ascending order (of equal values those that come first count as smaller), the `kept` values after the first `dropped`, given
    what stands at places dropped - 1 and dropped + kept - 1; None where there is no such place."""
    if top is None:
        return Kept(Edge(_INFINITY))
    high = Edge(top.magnitude, _first(top, dropped + kept))
    if below is None:
        return Kept(ALL, high)
    return Kept(Edge(below.magnitude, _first(below, dropped)), high, low_drops=True)


def _first(rank: Rank, count: int) -> int | None:
    first = count - rank.before
    return None if first == rank.equal else first
