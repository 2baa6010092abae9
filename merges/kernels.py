"""Inner loops of streamed merges, compiled by numba when first called (a second or two, then kept on disk).

A torch or numpy expression walks over memory once for every operation in it; these walk over a block in cache a few times in all, outside
Python's lock. Each operation is rounded on its own, in the order that is written here (no fast-math, no fused multiply-add), so the bits are
those of the same operations in torch, on any machine. Arrays are contiguous; magnitudes are compared as bit patterns, which order
floats of one sign as integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

__all__ = [
    "LANES",
    "add_weighted",
    "bfloat16_sum",
    "count_changes",
    "count_high",
    "count_low",
    "difference_of_bfloat16",
    "drop",
    "drop_by_rank",
    "elect",
    "float32_sum",
    "from_bfloat16",
    "is_finite",
    "mean_of_changed",
    "place_of",
    "products",
    "reinforced",
    "trim",
    "variances",
]

Array = npt.NDArray[Any]
P = ParamSpec("P")
R = TypeVar("R")

LANES = 16
"""Sums run in so many parts side by side: a fixed order that the processor's vectors can hold."""

_SHIFT = np.uint32(16)
_HALF = np.uint32(0x7FFF)
_ONE = np.uint32(1)
_EXPONENT_16 = np.uint16(0x7F80)
_EXPONENT_32 = np.uint32(0x7F800000)
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_LOW = np.uint32(0xFFFF)
_ZERO = np.float32(0)


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile at first call, without Python's lock; kept on disk where a place for that can be written."""
    compiler: Any = numba.njit
    try:
        compiled = compiler(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # no writable place
        compiled = compiler(nogil=True, error_model="numpy")(function)
    return cast("Callable[P, R]", compiled)


@kernel
def from_bfloat16(stored: Array, values: Array) -> bool:
    """float32 of bfloat16 (given as uint16); whether all are finite."""
    bad = np.uint16(0)
    for i in range(stored.size):
        bad |= np.uint16((stored[i] & _EXPONENT_16) == _EXPONENT_16)
        values[i] = np.uint32(np.uint32(stored[i]) << _SHIFT).view(np.float32)
    return bool(bad == 0)


@kernel
def is_finite(values: Array) -> bool:
    """Whether all are finite."""
    bits, bad = values.view(np.uint32), np.uint32(0)
    for i in range(bits.size):
        bad |= np.uint32((bits[i] & _EXPONENT_32) == _EXPONENT_32)
    return bool(bad == 0)


@kernel
def difference_of_bfloat16(stored: Array, base: Array, vector: Array) -> bool:
    """float32 of bfloat16 (given as uint16) less the base; whether all were finite."""
    bad = np.uint16(0)
    for i in range(stored.size):
        bad |= np.uint16((stored[i] & _EXPONENT_16) == _EXPONENT_16)
        vector[i] = np.uint32(np.uint32(stored[i]) << _SHIFT).view(np.float32) - base[i]
    return bool(bad == 0)


@kernel
def bfloat16_sum(base: Array, merged: Array, out: Array) -> bool:
    """base + merged, rounded to bfloat16 (as uint16); whether all are finite."""
    bad = np.uint32(0)
    for i in range(base.size):
        bits = np.float32(base[i] + merged[i]).view(np.uint32)
        rounded = np.uint32(bits + _HALF + ((bits >> _SHIFT) & _ONE))
        bad |= np.uint32(((bits & _EXPONENT_32) == _EXPONENT_32) | ((rounded & _EXPONENT_32) == _EXPONENT_32))
        out[i] = np.uint16(rounded >> _SHIFT)
    return bool(bad == 0)


@kernel
def float32_sum(base: Array, merged: Array, out: Array) -> bool:
    """base + merged; whether all are finite."""
    bad = np.uint32(0)
    for i in range(base.size):
        total = np.float32(base[i] + merged[i])
        bad |= np.uint32((total.view(np.uint32) & _EXPONENT_32) == _EXPONENT_32)
        out[i] = total
    return bool(bad == 0)


@kernel
def add_weighted(vectors: Array, weights: Array, out: Array) -> None:
    """0 + w_0 v_0 + w_1 v_1 + …, one vector after the other."""
    out[:] = _ZERO
    for j in range(vectors.shape[0]):
        vector, weight = vectors[j], weights[j]
        for i in range(out.size):
            out[i] += np.float32(weight * vector[i])


@kernel
def products(rows: Array, width: int, out: Array) -> None:
    """Add to out[g, a, b] the inner product of rows a and b over the g-th `width` values, in float64.

    Args:
        rows: [k, n] float32, n a multiple of width.
        out: [n / width, k, k] float64; the half with a <= b is filled.
    """
    count, size = rows.shape
    lanes = np.empty(LANES, dtype=np.float64)
    for group in range(size // width):
        start, stop = group * width, (group + 1) * width
        whole = start + width // LANES * LANES
        for a in range(count):
            for b in range(a, count):
                x, y = rows[a], rows[b]
                lanes[:] = 0.0
                for i in range(start, whole, LANES):
                    for lane in range(LANES):
                        lanes[lane] += np.float64(x[i + lane]) * np.float64(y[i + lane])
                total = 0.0
                for lane in range(LANES):
                    total += lanes[lane]
                for i in range(whole, stop):
                    total += np.float64(x[i]) * np.float64(y[i])
                out[group, a, b] += total


@kernel
def count_high(vector: Array, counts: Array) -> None:
    """Count magnitudes by the upper 16 of their bits."""
    bits = vector.view(np.uint32)
    for i in range(bits.size):
        counts[(bits[i] & _MAGNITUDE) >> _SHIFT] += 1


@kernel
def count_low(vector: Array, high: np.uint32, counts: Array) -> None:
    """Count, by the lower 16 of their bits, the magnitudes whose upper 16 are these."""
    bits = vector.view(np.uint32)
    for i in range(bits.size):
        if (bits[i] & _MAGNITUDE) >> _SHIFT == high:
            counts[bits[i] & _LOW] += 1


@kernel
def place_of(vector: Array, magnitude: np.uint32, left: int) -> tuple[int, int]:
    """Where the first `left` values of this magnitude (as bits) end, and how many of them are still to come after this block."""
    bits = vector.view(np.uint32)
    if left == 0:
        return 0, 0
    for i in range(bits.size):
        if bits[i] & _MAGNITUDE == magnitude:
            left -= 1
            if left == 0:
                return i + 1, 0
    return bits.size, left


@kernel
def trim(vector: Array, low: Array, high: Array, weight: np.float32, out: Array) -> None:
    """weight * vector where its magnitude is kept, else 0.

    Args:
        low, high: int64 [before, from, place] each: the least and the largest magnitude (as bits) that is kept before and from a place on.
    """
    bits = vector.view(np.uint32)
    for start in range(0, out.size, 1024):
        stop = min(start + 1024, out.size)
        first = low[0] if stop <= low[2] else low[1]
        last = high[0] if stop <= high[2] else high[1]
        if start < low[2] < stop or start < high[2] < stop:
            for i in range(start, stop):
                size = np.int64(bits[i] & _MAGNITUDE)
                kept = size >= (low[0] if i < low[2] else low[1]) and size <= (high[0] if i < high[2] else high[1])
                out[i] = weight * (vector[i] * np.float32(kept))
        else:
            least, span = np.uint32(first), np.uint32(max(0, last - first + 1))
            for i in range(start, stop):
                kept = np.uint32((bits[i] & _MAGNITUDE) - least) < span
                out[i] = weight * (vector[i] * np.float32(kept))


@kernel
def elect(vectors: Array, factors: Array, weights: Array, total: Array, merged: Array, divisor: Array) -> None:
    """Of the values whose sign is that of all of them together (zero counting as +): the sum, each times its factor, and the sum of the weights.

    Args:
        vectors: [k, n].
        factors, weights: [k].
        total, merged, divisor: [n]; the sum of all values, and the two results.
    """
    count, size = vectors.shape
    for start in range(0, size, 2048):
        stop = min(start + 2048, size)
        total[start:stop] = _ZERO
        for j in range(count):
            vector = vectors[j]
            for i in range(start, stop):
                total[i] += vector[i]
        merged[start:stop] = _ZERO
        divisor[start:stop] = _ZERO
        for j in range(count):
            vector, factor, weight = vectors[j], factors[j], weights[j]
            for i in range(start, stop):
                agrees = np.float32(((vector[i] > 0) == (total[i] >= 0)) & (vector[i] != 0))
                merged[i] += np.float32(factor * np.float32(vector[i] * agrees))
                divisor[i] += np.float32(weight * agrees)


@kernel
def drop(vector: Array, drawn: Array, density: np.float32, divisor: np.float32, weight: np.float32, out: Array) -> None:
    """weight * vector / divisor where the number drawn is below the density, else 0."""
    for i in range(out.size):
        kept = vector[i] * np.float32(drawn[i] < density)
        out[i] = weight * np.float32(kept / divisor)


@kernel
def drop_by_rank(
    vectors: Array,
    order: Array,
    drawn: Array,
    least: np.float32,
    width: np.float32,
    rescale: bool,
    weight: np.float32,
    out: Array,
) -> None:
    """As `drop`, row by row, the probability to keep a value growing with its rank from `least` by `width`.

    Args:
        vectors, drawn, out: [rows, columns].
        order: [rows, columns] int64, sorted: the lower 32 bits are the columns in the order of their magnitudes.
    """
    rows, columns = vectors.shape
    for row in range(rows):
        for rank in range(columns):
            i = order[row, rank] & 0xFFFFFFFF
            share = np.float32(rank) / np.float32(columns - 1) if columns > 1 else np.float32(0.5)
            keep = np.float32(least + np.float32(np.float32(share * np.float32(2)) * width))
            kept = vectors[row, i] * np.float32(drawn[row, i] < keep)
            out[row, i] = weight * (np.float32(kept / keep) if rescale else kept)


@kernel
def variances(vectors: Array, out: Array) -> None:
    """Variance (of the population) over the vectors, value by value."""
    count, size = vectors.shape
    for i in range(size):
        total = _ZERO
        for j in range(count):
            total += vectors[j, i]
        mean = np.float32(total / np.float32(count))
        squares = _ZERO
        for j in range(count):
            off = np.float32(vectors[j, i] - mean)
            squares += np.float32(off * off)
        out[i] = np.float32(squares / np.float32(count))


@kernel
def mean_of_changed(vectors: Array, epsilon: np.float32, out: Array) -> None:
    """Mean of the values of magnitude above epsilon; 0 where there is none."""
    count, size = vectors.shape
    for i in range(size):
        total, changed = _ZERO, 0
        for j in range(count):
            has = abs(vectors[j, i]) > epsilon
            total += np.float32(vectors[j, i] * np.float32(has))
            changed += has
        out[i] = np.float32(total / np.float32(max(changed, 1)))


@kernel
def count_changes(vectors: Array, epsilon: np.float32, alone: Array, shared: Array) -> None:
    """Add, per vector, the number of values above epsilon in it alone, and in it and others."""
    count, size = vectors.shape
    for i in range(size):
        changed = 0
        for j in range(count):
            changed += abs(vectors[j, i]) > epsilon
        for j in range(count):
            has = abs(vectors[j, i]) > epsilon
            alone[j] += has & (changed == 1)
            shared[j] += has & (changed > 1)


@kernel
def reinforced(vectors: Array, epsilon: np.float32, factors: Array, out: Array) -> None:
    """The mean of the values above epsilon where there are several, and the one value times its vector's factor where there is one."""
    count, size = vectors.shape
    for i in range(size):
        changed = 0
        for j in range(count):
            changed += abs(vectors[j, i]) > epsilon
        total = _ZERO
        for j in range(count):
            if abs(vectors[j, i]) > epsilon:
                value = vectors[j, i]
                total += np.float32(value * factors[j]) if changed == 1 else np.float32(value / np.float32(changed))
        out[i] = total
