"""Loops from stored values to float32 and back: read, take differences, add weighted, round, and see that all is finite."""

from __future__ import annotations

import numpy as np

from merges.compiled import TILE, Array, kernel

__all__ = [
    "add_weighted",
    "bfloat16_sum",
    "difference_of_bfloat16",
    "float32_sum",
    "from_bfloat16",
    "is_finite",
    "weighted_bfloat16",
]

_SHIFT = np.uint32(16)
_HALF = np.uint32(0x7FFF)
_ONE = np.uint32(1)
_EXPONENT_16 = np.uint16(0x7F80)
_EXPONENT_32 = np.uint32(0x7F800000)
_ZERO = np.float32(0)


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
def _scale(total: Array, scale: np.float32, divisor: np.float32) -> None:
    """In place; a factor of 1 costs nothing."""
    if scale != 1:
        for i in range(total.size):
            total[i] *= scale
    if divisor != 1:
        for i in range(total.size):
            total[i] /= divisor


@kernel
def add_weighted(vectors: Array, weights: Array, scale: np.float32, divisor: np.float32, out: Array) -> None:
    """scale * (0 + w_0 v_0 + w_1 v_1 + …) / divisor, one vector after the other."""
    count, size = vectors.shape
    for start in range(0, size, TILE):
        elements = min(TILE, size - start)
        total = out[start : start + elements]
        for i in range(elements):
            total[i] = _ZERO
        for j in range(count):
            vector, weight = vectors[j, start : start + elements], weights[j]
            for i in range(elements):
                total[i] += weight * vector[i]
        _scale(total, scale, divisor)


@kernel
def weighted_bfloat16(stored: Array, weights: Array, scale: np.float32, divisor: np.float32, out: Array) -> bool:
    """All of a weighted sum in one walk: from the models' bfloat16 to the merged model's; whether every value was and is finite.

    Args:
        stored: [1 + k, n] uint16, the base first.
        weights: [k].
        scale, divisor: of the sum, as `add_weighted`.
        out: [n] uint16.
    """
    count, size = stored.shape
    bad = np.uint32(0)
    origin, sums = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    for start in range(0, size, TILE):
        elements = min(TILE, size - start)
        base, total, rounded = origin[:elements], sums[:elements], out[start : start + elements]
        first = stored[0, start : start + elements]
        for i in range(elements):
            bits = np.uint32(np.uint32(first[i]) << _SHIFT)
            bad |= np.uint32((bits & _EXPONENT_32) == _EXPONENT_32)
            base[i] = bits.view(np.float32)
            total[i] = _ZERO
        for j in range(1, count):
            model, weight = stored[j, start : start + elements], weights[j - 1]
            for i in range(elements):
                bits = np.uint32(np.uint32(model[i]) << _SHIFT)
                bad |= np.uint32((bits & _EXPONENT_32) == _EXPONENT_32)
                total[i] += weight * np.float32(bits.view(np.float32) - base[i])
        _scale(total, scale, divisor)
        for i in range(elements):
            bits = np.float32(base[i] + total[i]).view(np.uint32)
            nearest = np.uint32(bits + _HALF + ((bits >> _SHIFT) & _ONE))
            bad |= np.uint32(((bits & _EXPONENT_32) == _EXPONENT_32) | ((nearest & _EXPONENT_32) == _EXPONENT_32))
            rounded[i] = np.uint16(nearest >> _SHIFT)
    return bool(bad == 0)
