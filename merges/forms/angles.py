"""Interpolation on spheres, and whatever else goes by norms and angles: inner products first, in float64, then weighted sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from merges import kernels
from merges.blocks import Array, Blocks, WeightedSum
from merges.forms.common import Merged, row_elements, slice_elements, weight_array, weighted_sum
from merges.forms.sums import task_arithmetic

__all__ = ["karcher", "model_stock", "multislerp", "nuslerp", "slerp"]


def _models(blocks: Blocks, start: int, stop: int) -> Array:
    """The experts' own weights, base + task vector."""
    vectors = blocks.vectors(start, stop)
    return np.add(vectors, blocks.base(start, stop), out=vectors)


def _products(blocks: Blocks, rows: Callable[[int, int], Array], width: int | None = None) -> Array:
    """Inner products [groups, k, k] of what `rows` gives, over the whole tensor or over every `width` values."""
    groups = blocks.elements // width if width else 1
    found = np.zeros((groups, blocks.count, blocks.count))
    for start, stop in blocks.fixed_spans(width or 1):
        part = found[start // width : stop // width] if width else found
        kernels.products(rows(start, stop), width or stop - start, part)
    return found + np.triu(found, 1).swapaxes(1, 2)


def _cosine(product: Array, a: Array, b: Array, floor: float) -> Array:
    """Of two vectors with these squared norms, whose product counts as `floor` at least; 0 where one is zero."""
    norms = np.maximum(np.sqrt(a) * np.sqrt(b), floor)
    cosine: Array = np.divide(product, norms, out=np.zeros_like(norms), where=norms > 0)
    return cosine.clip(-1.0, 1.0)


def slerp(blocks: Blocks, *, t: float) -> Merged:
    """On the arc between two models."""
    found = _products(blocks, partial(_models, blocks))[0]
    safe = np.where(np.diag(found) > 1e-16, np.diag(found), 1.0)
    cosine = np.clip(found[0, 1] / np.sqrt(safe[0] * safe[1]), -1.0, 1.0)
    straight = abs(cosine) > 0.9995
    angle = math.acos(cosine)
    weights = np.array([1 - t, t] if straight else [math.sin((1 - t) * angle), math.sin(t * angle)])
    weights = (weights if straight else weights / math.sin(angle)).astype(np.float32)
    for start, stop in blocks.spans():
        rows = blocks.vectors(start, stop) if straight else _models(blocks, start, stop)
        merged = weighted_sum(blocks, rows, weights)
        if not straight:
            np.subtract(merged, blocks.base(start, stop), out=merged)
        yield merged


def nuslerp(blocks: Blocks, *, w0: float, w1: float, flatten: float, row_wise: float) -> Merged | WeightedSum:
    """On the arc between two task vectors, of the whole tensor or of each of its rows."""
    t = 0.5 if abs(w0 + w1) < 1e-6 else w1 / (w0 + w1)
    if flatten:
        return WeightedSum(_arc(_products(blocks, blocks.vectors), t)[0].astype(np.float32))
    if row_wise:
        return _column_by_column(blocks, t)
    return _row_by_row(blocks, _arc(_products(blocks, blocks.vectors, row_elements(blocks.shape)), t))


def _column_by_column(blocks: Blocks, t: float) -> Merged:
    """On the arc between the same columns of two task vectors."""
    columns = slice_elements(blocks.shape) if len(blocks.shape) > 1 else 1
    found = np.zeros((columns, 2, 2))
    for start, stop in blocks.fixed_spans(columns):
        rows = blocks.vectors(start, stop).reshape(2, -1, columns).astype(np.float64)
        found += np.einsum("arc,brc->cab", rows, rows)
    by_column = _arc(found, t).astype(np.float32)
    for span in blocks.spans(columns):
        rows = blocks.vectors(*span).reshape(2, -1, columns)
        yield (by_column[:, 0] * rows[0] + by_column[:, 1] * rows[1]).reshape(-1)


def _arc(products: Array, t: float) -> Array:
    """Weights [groups, 2] of two vectors with these inner products, where they are interpolated on the sphere."""
    floor = 1e-14  # norms below 1e-7 count as that
    squares = np.maximum(np.diagonal(products, axis1=1, axis2=2), floor)
    cosine = np.clip(products[:, 0, 1] / np.sqrt(squares[:, 0] * squares[:, 1]), -1.0, 1.0)
    parallel = 1 - cosine * cosine <= 1e-16
    angle = np.arccos(np.where(parallel, 0.0, cosine))
    arc = np.stack([np.sin((1 - t) * angle), np.sin(t * angle)], axis=1) / np.sin(angle)[:, None]
    weights: Array = np.where(parallel[:, None], [1 - t, t], arc)
    return weights


def _row_by_row(blocks: Blocks, weights: Array) -> Merged:
    """Weighted sums with weights of each row's own, [rows, k]."""
    width = row_elements(blocks.shape)
    by_row = weights.astype(np.float32)
    for start, stop in blocks.spans(width):
        vectors = blocks.vectors(start, stop).reshape(blocks.count, -1, width)
        merged = blocks.scratch.array("merged", stop - start).reshape(-1, width)
        merged[:] = 0
        for vector, weight in zip(vectors, by_row[start // width : stop // width].T, strict=True):
            merged += vector * weight[:, None]
        yield merged.reshape(-1)


def model_stock(blocks: Blocks, *, filter_wise: float, floor: float = 0.0) -> Merged | WeightedSum:
    """Towards the mean, as far as the angle says. mergekit takes a product of norms below 1e-6 for that (`floor`), which shrinks small changes."""
    count = blocks.count
    if count < 2:
        return task_arithmetic(blocks, scale=1.0)
    rows = filter_wise and len(blocks.shape) > 1
    found = _products(blocks, blocks.vectors, row_elements(blocks.shape) if rows else None)
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    angle = np.mean([_cosine(found[:, i, j], found[:, i, i], found[:, j, j], floor) for i, j in pairs], axis=0)
    denominator = 1 + (count - 1) * angle
    singular = np.abs(denominator) < 1e-6
    ratio = np.where(singular, 0.0, count * angle / np.where(singular, 1.0, denominator))
    weights = np.repeat(ratio[:, None] / count, count, axis=1)
    return _row_by_row(blocks, weights) if rows else WeightedSum(weights[0].astype(np.float32))


def karcher(blocks: Blocks, *, steps: float, tolerance: float) -> Merged:
    """Mean on the sphere. All of it lies in the experts' span, so the iteration runs over their weights alone."""
    found = _products(blocks, partial(_models, blocks))[0]
    norms = np.sqrt(np.diag(found))
    used = norms > tolerance
    if not used.any():
        for span in blocks.spans():
            yield np.negative(blocks.base(*span), out=blocks.scratch.array("merged", span[1] - span[0]))
        return
    units = np.divide(used, norms, out=np.zeros_like(norms), where=used)  # weights of the unit vectors
    cosines = found * np.outer(units, units)
    weights = _karcher_weights(cosines[np.ix_(used, used)], int(steps), tolerance)
    mixed = np.zeros(blocks.count)
    mixed[used] = weights
    mixed *= units * norms.mean()
    for start, stop in blocks.spans():
        merged = weighted_sum(blocks, _models(blocks, start, stop), mixed.astype(np.float32))
        yield np.subtract(merged, blocks.base(start, stop), out=merged)


def _karcher_weights(cosines: Array, steps: int, tolerance: float) -> Array:
    """Weights of the mean in the span of unit vectors that have these cosines."""
    count = len(cosines)

    def length(weights: Array) -> float:
        return math.sqrt(max(0.0, float(weights @ cosines @ weights)))

    mean = np.full(count, 1 / count)
    norm = length(mean)
    mean = np.eye(count)[0] if norm < tolerance else mean / norm
    for _ in range(steps):
        step = np.zeros(count)
        for i in range(count):
            cosine = float(np.clip(mean @ cosines[i], -1.0, 1.0))
            tangent = np.eye(count)[i] - cosine * mean
            sine = length(tangent)
            if sine >= tolerance:
                step += math.atan2(sine, cosine) / sine * tangent / count
        norm = length(step)
        if norm < tolerance:
            break
        mean = math.cos(norm) * mean + math.sin(norm) * step / norm
        mean /= length(mean)
    return mean


def multislerp(blocks: Blocks, *, normalize: float = 1, eps: float = 1e-8, **given: Any) -> WeightedSum:
    """Several task vectors on the sphere, in the tangent space at their mean: weights of them all the same."""
    if blocks.count == 1:
        return task_arithmetic(blocks, scale=1.0)
    used = weight_array(blocks.count, given).astype(np.float64)
    weights = used / used.sum() if normalize else used
    found = _products(blocks, blocks.vectors)[0]
    norms = np.sqrt(np.diag(found))
    units = 1 / (norms + eps)
    cosines = found * np.outer(units, units)
    length = math.sqrt(max(0.0, float(weights @ cosines @ weights)))
    if length < eps:
        if blocks.count > 2 and norms.max() > 0:
            raise ValueError("the weighted directions cancel; give other weights")
        mixed = weights
    else:
        mean = weights / length
        along = cosines @ mean
        step = weights - float(weights @ along) * mean
        angle = math.sqrt(max(0.0, float(step @ cosines @ step))) + eps
        mixed = (mean * math.cos(angle) + step * (math.sin(angle) / angle)) * units * float(norms @ weights)
    return WeightedSum(mixed.astype(np.float32))
