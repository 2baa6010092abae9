"""Inner loops of the library's methods in streamed form (how they are compiled: `compiled.py`).

Magnitudes are compared as bit patterns, which order floats of one sign as integers.
"""

from __future__ import annotations

import numpy as np

from merges.compiled import TILE, Array, kernel

__all__ = [
    "count_changes",
    "count_high",
    "count_low",
    "drop",
    "drop_by_rank",
    "elect",
    "mean_of_changed",
    "place_of",
    "products",
    "reinforced",
    "trim",
    "variances",
]

_SHIFT = np.uint32(16)
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_LOW = np.uint32(0xFFFF)
_ZERO = np.float32(0)


@kernel
def products(rows: Array, width: int, out: Array) -> None:
    """Add to out[g, a, b] the inner product of rows a and b over the g-th `width` values, in float64.

    Args:
        rows: [k, n] float32, n a multiple of width.
        out: [n / width, k, k] float64; the half with a <= b is filled.
    """
    count, size = rows.shape
    for group in range(size // width):
        for a in range(count):
            for b in range(a, count):
                x, y = rows[a, group * width : (group + 1) * width], rows[b, group * width : (group + 1) * width]
                out[group, a, b] += _product(x, y)


@kernel
def _product(x: Array, y: Array) -> float:
    """In eight parts, of every eighth value each: a fixed order that the processor's vectors can hold."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    whole = x.size // 8 * 8
    for i in range(0, whole, 8):
        s0 += np.float64(x[i]) * np.float64(y[i])
        s1 += np.float64(x[i + 1]) * np.float64(y[i + 1])
        s2 += np.float64(x[i + 2]) * np.float64(y[i + 2])
        s3 += np.float64(x[i + 3]) * np.float64(y[i + 3])
        s4 += np.float64(x[i + 4]) * np.float64(y[i + 4])
        s5 += np.float64(x[i + 5]) * np.float64(y[i + 5])
        s6 += np.float64(x[i + 6]) * np.float64(y[i + 6])
        s7 += np.float64(x[i + 7]) * np.float64(y[i + 7])
    for i in range(whole, x.size):
        s0 += np.float64(x[i]) * np.float64(y[i])
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))


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
    if left == 0:
        return 0, 0
    for start in range(0, vector.size, TILE):
        bits = vector[start : start + TILE].view(np.uint32)
        found = 0
        for i in range(bits.size):
            found += bits[i] & _MAGNITUDE == magnitude
        if found < left:
            left -= found
            continue
        for i in range(bits.size):
            left -= bits[i] & _MAGNITUDE == magnitude
            if left == 0:
                return start + i + 1, 0
    return vector.size, left


@kernel
def trim(vector: Array, low: Array, high: Array, weight: np.float32, out: Array) -> None:
    """weight * vector where its magnitude is kept, else 0.

    Args:
        low, high: int64 [before, from, place] each: the least and the largest magnitude (as bits) that is kept before and from a place on.
    """
    for start in range(0, out.size, TILE):
        elements = min(TILE, out.size - start)
        stop = start + elements
        values, kept = vector[start:stop], out[start:stop]
        bits = values.view(np.uint32)
        if start < low[2] < stop or start < high[2] < stop:  # a place lies inside
            for i in range(elements):
                size = np.int64(bits[i] & _MAGNITUDE)
                least = low[0] if start + i < low[2] else low[1]
                most = high[0] if start + i < high[2] else high[1]
                kept[i] = weight * values[i] if least <= size <= most else _ZERO
        else:
            first = low[0] if stop <= low[2] else low[1]
            last = high[0] if stop <= high[2] else high[1]
            lowest, span = np.uint32(first), np.uint32(max(0, last - first + 1))
            for i in range(elements):
                inside = np.uint32((bits[i] & _MAGNITUDE) - lowest) < span
                kept[i] = weight * values[i] if inside else _ZERO


@kernel
def elect(vectors: Array, factors: Array, weights: Array, least: np.float32, scale: np.float32, merged: Array) -> None:
    """scale times the sum of the values, each times its factor, whose sign is that of all of them together (zero counting as +).

    Args:
        vectors: [k, n].
        factors: [k].
        weights: [k]; the sum is divided by that of the weights that agree, or by `least` where that is more; where it is 0 the sum stays. Empty: no
            division.
        merged: [n], the result.
    """
    count, size = vectors.shape
    total, divisor = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    for start in range(0, size, TILE):
        elements = min(TILE, size - start)
        signs, sums, divisors = total[:elements], merged[start : start + elements], divisor[:elements]
        for i in range(elements):
            signs[i] = _ZERO
        for j in range(count):
            vector = vectors[j, start : start + elements]
            for i in range(elements):
                signs[i] += vector[i]
        for i in range(elements):
            sums[i] = _ZERO
            divisors[i] = _ZERO
        for j in range(count):
            vector, factor = vectors[j, start : start + elements], factors[j]
            weight = weights[j] if weights.size else _ZERO
            for i in range(elements):
                value = vector[i]
                agrees = (value > _ZERO) if signs[i] >= _ZERO else (value < _ZERO)
                sums[i] += factor * value if agrees else _ZERO
                divisors[i] += weight if agrees else _ZERO
        if weights.size:
            for i in range(elements):
                by = max(divisors[i], least) if least > 0 else divisors[i]
                sums[i] /= by if by != 0 else np.float32(1)
        if scale != 1:
            for i in range(elements):
                sums[i] *= scale


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
    means, divisor = np.empty(TILE, np.float32), np.float32(count)
    for start in range(0, size, TILE):
        elements = min(TILE, size - start)
        squares, mean = out[start : start + elements], means[:elements]
        for i in range(elements):
            mean[i] = _ZERO
            squares[i] = _ZERO
        for j in range(count):
            vector = vectors[j, start : start + elements]
            for i in range(elements):
                mean[i] += vector[i]
        for i in range(elements):
            mean[i] /= divisor
        for j in range(count):
            vector = vectors[j, start : start + elements]
            for i in range(elements):
                off = vector[i] - mean[i]
                squares[i] += off * off
        for i in range(elements):
            squares[i] /= divisor


@kernel
def mean_of_changed(vectors: Array, epsilon: np.float32, out: Array) -> None:
    """Mean of the values of magnitude above epsilon; 0 where there is none."""
    count, size = vectors.shape
    counts = np.empty(TILE, np.float32)
    for start in range(0, size, TILE):
        elements = min(TILE, size - start)
        total, changed = out[start : start + elements], counts[:elements]
        for i in range(elements):
            total[i] = _ZERO
        _count_changed(vectors[:, start : start + elements], epsilon, changed)
        for j in range(count):
            vector = vectors[j, start : start + elements]
            for i in range(elements):
                total[i] += vector[i] if abs(vector[i]) > epsilon else _ZERO
        for i in range(elements):
            total[i] /= max(changed[i], np.float32(1))


@kernel
def _count_changed(vectors: Array, epsilon: np.float32, changed: Array) -> None:
    """How many vectors have a value above epsilon, place by place."""
    for i in range(changed.size):
        changed[i] = _ZERO
    for j in range(vectors.shape[0]):
        vector = vectors[j]
        for i in range(changed.size):
            changed[i] += np.float32(1) if abs(vector[i]) > epsilon else _ZERO


@kernel
def count_changes(vectors: Array, epsilon: np.float32, alone: Array, shared: Array) -> None:
    """Add, per vector, the number of values above epsilon in it alone, and in it and others."""
    count, size = vectors.shape
    counts = np.empty(TILE, np.float32)
    for start in range(0, size, TILE):
        elements = min(TILE, size - start)
        changed = counts[:elements]
        _count_changed(vectors[:, start : start + elements], epsilon, changed)
        for j in range(count):
            vector, ones, others = vectors[j, start : start + elements], 0, 0
            for i in range(elements):
                has = abs(vector[i]) > epsilon
                ones += has & (changed[i] == 1)
                others += has & (changed[i] > 1)
            alone[j] += ones
            shared[j] += others


@kernel
def reinforced(vectors: Array, epsilon: np.float32, factors: Array, out: Array) -> None:
    """The mean of the values above epsilon where there are several, and the one value times its vector's factor where there is one."""
    count, size = vectors.shape
    counts = np.empty(TILE, np.float32)
    for start in range(0, size, TILE):
        elements = min(TILE, size - start)
        total, changed = out[start : start + elements], counts[:elements]
        _count_changed(vectors[:, start : start + elements], epsilon, changed)
        for i in range(elements):
            total[i] = _ZERO
        for j in range(count):
            vector, factor = vectors[j, start : start + elements], factors[j]
            for i in range(elements):
                value = vector[i] * factor if changed[i] == 1 else vector[i] / max(changed[i], np.float32(1))
                total[i] += value if abs(vector[i]) > epsilon else _ZERO
