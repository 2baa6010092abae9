"""Library merges in streamed form: the same arithmetic as the program of that name, block by block and outside a sandbox.

A form yields the merged task vector's blocks in order, as float32 in the scratch of its worker, each to be used before the next is asked for. What needs
to know the whole tensor first (a rank, an angle) makes a pass of its own over it: the inputs are in the system's cache by then. Operations and
their order are the program's, so the bits are too, but for sums over a whole tensor or row, which are taken in float64 here
(`tests/merges/test_streamed.py` holds every form equal to its program).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from merges import kernels, library, ranks
from merges.blocks import Array, Blocks
from merges.contract import program_id
from merges.ranks import Kept, Rank

__all__ = ["FORMS", "Form", "form_of"]

Merged = Iterator[Array]

_NONE = np.empty(0, np.float32)


@dataclass(frozen=True)
class Form:
    """A merge in streamed form.

    Attributes:
        blocks: `blocks(Blocks, **hyper-parameters)` yields the merged task vector's blocks.
        takes: how many experts; None: any number. With another number the program says so itself, in the sandbox.
        unit: elements of a tensor of this shape that are only of use together (rows that are ranked or measured).
    """

    blocks: Callable[..., Merged]
    takes: int | None = None
    unit: Callable[[Sequence[int]], int] = lambda shape: 1


Each = float | Sequence[float]
"""One number for all experts, or one for each; the library's programs know the first kind only."""


def _each(value: Each, count: int) -> list[float]:
    return list(value) if isinstance(value, Sequence) else [value] * count


def _given(count: int, given: Mapping[str, Any]) -> list[float]:
    """`weights`, or w0 … w7 for `count` experts; any further expert shares w7."""
    return list(given["weights"]) if "weights" in given else [given[f"w{min(i, 7)}"] for i in range(count)]


def _weights(count: int, given: Mapping[str, Any]) -> Array:
    return np.array(_given(count, given), np.float32)


def _sum(blocks: Blocks, vectors: Array, weights: Array, scale: float = 1.0) -> Array:
    merged = blocks.scratch.array("merged", vectors.shape[1])
    kernels.add_weighted(vectors, weights, np.float32(scale), merged)
    return merged


# Weighted sums.


def task_arithmetic(blocks: Blocks, *, scale: float) -> Merged:
    """scale * sum of the task vectors."""
    ones = np.ones(blocks.count, np.float32)
    for span in blocks.spans():
        yield _sum(blocks, blocks.vectors(*span), ones, scale)


def weighted_task_arithmetic(blocks: Blocks, *, scale: float, **given: Any) -> Merged:
    """scale * weighted sum."""
    weights = _weights(blocks.count, given)
    for span in blocks.spans():
        yield _sum(blocks, blocks.vectors(*span), weights, scale)


def linear(blocks: Blocks, **given: Any) -> Merged:
    """Weighted average."""
    weights, total = _weights(blocks.count, given), 0.0
    for weight in _given(blocks.count, given):
        total = total + weight
    for span in blocks.spans():
        merged = _sum(blocks, blocks.vectors(*span), weights)
        if abs(total) < 1e-8:
            merged[:] = 0
        else:
            np.divide(merged, np.float32(total), out=merged)
        yield merged


# Values chosen by rank or by chance, then added or elected.


def _all_vectors(blocks: Blocks) -> Iterator[Array]:
    return (blocks.vectors(*span) for span in blocks.spans())


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
    count, densities = blocks.elements, _each(density, blocks.count)
    kept = [max(1, int(share * count)) if 0 < share < 1 and count else 0 for share in densities]
    found = _at_ranks(blocks, [[count - many] if many else [] for many in kept])
    return [
        ranks.largest(row[0], many, count) if row else None if share >= 1 or not count else _none()
        for row, many, share in zip(found, kept, densities, strict=True)
    ]


def _between(blocks: Blocks, density: Each, gamma: Each) -> list[Kept | None]:
    count, shares = blocks.elements, list(zip(_each(density, blocks.count), _each(gamma, blocks.count), strict=True))
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
    return ranks.at_ranks(lambda: _all_vectors(blocks), places) if any(places) else [[] for _ in places]


def _elected(blocks: Blocks, vectors: Array, weights: Array, normalize: float, scale: float) -> Array:
    """The values that agree in sign, added; divided by the sum of their weights if asked to."""
    merged = blocks.scratch.array("merged", vectors.shape[1])
    divisors = weights if normalize else _NONE
    kernels.elect(vectors, np.ones_like(weights), divisors, np.float32(0), np.float32(scale), merged)
    return merged


def ties(blocks: Blocks, *, density: Each, scale: float, normalize: float, **given: Any) -> Merged:
    """Trim, elect signs, merge what agrees."""
    weights = _weights(blocks.count, given)
    for vectors in _trimmed(blocks, _top(blocks, density), weights):
        yield _elected(blocks, vectors, weights, normalize, scale)


def breadcrumbs(blocks: Blocks, *, density: Each, gamma: Each, scale: float, **given: Any) -> Merged:
    """Drop both tails, add."""
    ones = np.ones(blocks.count, np.float32)
    for vectors in _trimmed(blocks, _between(blocks, density, gamma), _weights(blocks.count, given)):
        yield _sum(blocks, vectors, ones, scale)


def breadcrumbs_ties(
    blocks: Blocks, *, density: Each, gamma: Each, scale: float, normalize: float, **given: Any
) -> Merged:
    """Drop both tails, elect signs, merge what agrees."""
    weights = _weights(blocks.count, given)
    for vectors in _trimmed(blocks, _between(blocks, density, gamma), weights):
        yield _elected(blocks, vectors, weights, normalize, scale)


def _dropped(blocks: Blocks, density: Each, rescale: float, weights: Array) -> Iterator[Array]:
    """Blocks of the task vectors, each value kept with this probability, times its weight."""
    densities = [np.float32(min(max(share, 0), 1)) for share in _each(density, blocks.count)]
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
    for vectors in _dropped(blocks, density, rescale, _weights(blocks.count, given)):
        yield _sum(blocks, vectors, ones, scale)


def dare_ties(blocks: Blocks, *, density: Each, scale: float, rescale: float, normalize: float, **given: Any) -> Merged:
    """Drop at random, elect signs, merge what agrees."""
    weights = _weights(blocks.count, given)
    for vectors in _dropped(blocks, density, rescale, weights):
        yield _elected(blocks, vectors, weights, normalize, scale)


def _slice(shape: Sequence[int]) -> int:
    """Elements of one index of the first dimension; a 1-D tensor is one slice."""
    return max(1, math.prod(shape[1:]) if len(shape) > 1 else math.prod(shape))


def _dropped_by_rank(blocks: Blocks, density: Each, epsilon: Each, rescale: float, weights: Array) -> Iterator[Array]:
    """As `_dropped`, the probability growing with the rank along the second dimension."""
    shares = list(zip(_each(density, blocks.count), _each(epsilon, blocks.count), strict=True))
    draws = [0 < share < 1 for share, _ in shares]
    if any(drawn and not 0 < share - off <= share + off < 1 for drawn, (share, off) in zip(draws, shares, strict=True)):
        raise ValueError("density + epsilon and density - epsilon have to lie between 0 and 1")
    shape = blocks.shape if len(blocks.shape) > 1 else (1, *blocks.shape)
    columns, depth = shape[1] if len(shape) > 1 else 1, math.prod(shape[2:])
    generators = blocks.generators(draws)
    for start, stop in blocks.spans(_slice(blocks.shape)):
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
    for vectors in _dropped_by_rank(blocks, density, epsilon, rescale, _weights(blocks.count, given)):
        yield _sum(blocks, vectors, ones, scale)


def della(
    blocks: Blocks, *, density: Each, epsilon: Each, scale: float, rescale: float, normalize: float, **given: Any
) -> Merged:
    """Drop by rank, elect signs, merge what agrees."""
    weights = _weights(blocks.count, given)
    for vectors in _dropped_by_rank(blocks, density, epsilon, rescale, weights):
        yield _elected(blocks, vectors, weights, normalize, scale)


# Angles.


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


def _cosine(product: Array, a: Array, b: Array) -> Array:
    """Of two vectors with these squared norms; 0 where one is zero."""
    norms = np.sqrt(a) * np.sqrt(b)
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
        merged = _sum(blocks, rows, weights)
        if not straight:
            np.subtract(merged, blocks.base(start, stop), out=merged)
        yield merged


def nuslerp(blocks: Blocks, *, w0: float, w1: float, flatten: float, row_wise: float) -> Merged:
    """On the arc between two task vectors, of the whole tensor or of each of its rows."""
    t = 0.5 if abs(w0 + w1) < 1e-6 else w1 / (w0 + w1)
    if flatten:
        weights = _arc(_products(blocks, blocks.vectors), t)[0].astype(np.float32)
        for span in blocks.spans():
            yield _sum(blocks, blocks.vectors(*span), weights)
    elif row_wise:
        columns = _slice(blocks.shape) if len(blocks.shape) > 1 else 1
        found = np.zeros((columns, 2, 2))
        for start, stop in blocks.fixed_spans(columns):
            rows = blocks.vectors(start, stop).reshape(2, -1, columns).astype(np.float64)
            found += np.einsum("arc,brc->cab", rows, rows)
        by_column = _arc(found, t).astype(np.float32)
        for span in blocks.spans(columns):
            rows = blocks.vectors(*span).reshape(2, -1, columns)
            yield (by_column[:, 0] * rows[0] + by_column[:, 1] * rows[1]).reshape(-1)
    else:
        yield from _row_by_row(blocks, _arc(_products(blocks, blocks.vectors, _last(blocks.shape)), t))


def _last(shape: Sequence[int]) -> int:
    """Elements of a row, which is the last dimension."""
    return max(1, shape[-1]) if shape else 1


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
    width = _last(blocks.shape)
    by_row = weights.astype(np.float32)
    for start, stop in blocks.spans(width):
        vectors = blocks.vectors(start, stop).reshape(blocks.count, -1, width)
        merged = blocks.scratch.array("merged", stop - start).reshape(-1, width)
        merged[:] = 0
        for vector, weight in zip(vectors, by_row[start // width : stop // width].T, strict=True):
            merged += vector * weight[:, None]
        yield merged.reshape(-1)


def model_stock(blocks: Blocks, *, filter_wise: float) -> Merged:
    """Towards the mean, as far as the angle says."""
    count = blocks.count
    if count < 2:
        yield from task_arithmetic(blocks, scale=1.0)
        return
    rows = filter_wise and len(blocks.shape) > 1
    found = _products(blocks, blocks.vectors, _last(blocks.shape) if rows else None)
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    angle = np.mean([_cosine(found[:, i, j], found[:, i, i], found[:, j, j]) for i, j in pairs], axis=0)
    denominator = 1 + (count - 1) * angle
    singular = np.abs(denominator) < 1e-6
    ratio = np.where(singular, 0.0, count * angle / np.where(singular, 1.0, denominator))
    weights = np.repeat(ratio[:, None] / count, count, axis=1)
    if rows:
        yield from _row_by_row(blocks, weights)
        return
    for span in blocks.spans():
        yield _sum(blocks, blocks.vectors(*span), weights[0].astype(np.float32))


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
        merged = _sum(blocks, _models(blocks, start, stop), mixed.astype(np.float32))
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


def multislerp(blocks: Blocks, *, normalize: float = 1, **given: Any) -> Merged:
    """Several task vectors on the sphere, in the tangent space at their mean: weights of them all the same."""
    if blocks.count == 1:
        yield from task_arithmetic(blocks, scale=1.0)
        return
    tiny = 1e-8
    used = _weights(blocks.count, given).astype(np.float64)
    weights = used / used.sum() if normalize else used
    found = _products(blocks, blocks.vectors)[0]
    norms = np.sqrt(np.diag(found))
    units = 1 / (norms + tiny)
    cosines = found * np.outer(units, units)
    length = math.sqrt(max(0.0, float(weights @ cosines @ weights)))
    if length < tiny:
        if blocks.count > 2 and norms.max() > 0:
            raise ValueError("the weighted directions cancel; give other weights")
        mixed = weights
    else:
        mean = weights / length
        along = cosines @ mean
        step = weights - float(weights @ along) * mean
        angle = math.sqrt(max(0.0, float(step @ cosines @ step))) + tiny
        mixed = (mean * math.cos(angle) + step * (math.sin(angle) / angle)) * units * float(norms @ weights)
    for span in blocks.spans():
        yield _sum(blocks, blocks.vectors(*span), mixed.astype(np.float32))


# What changed, and how much.


def nearswap(blocks: Blocks, *, t: float) -> Merged:
    """min(1, t / |tau|) * tau, for one expert."""
    for span in blocks.spans():
        vector = blocks.vectors(*span)[0]
        weight = np.abs(vector, out=blocks.scratch.array("weight", vector.size))
        np.maximum(weight, np.float32(1e-6), out=weight)
        np.divide(np.float32(1), weight, out=weight)
        np.multiply(weight, np.float32(t), out=weight)
        np.clip(weight, np.float32(0), np.float32(1), out=weight)
        yield np.multiply(weight, vector, out=weight)


def ram(blocks: Blocks, *, epsilon: float) -> Merged:
    """Mean over the experts that changed a value."""
    for span in blocks.spans():
        vectors = blocks.vectors(*span)
        merged = blocks.scratch.array("merged", vectors.shape[1])
        kernels.mean_of_changed(vectors, np.float32(epsilon), merged)
        yield merged


def ramplus(blocks: Blocks, *, r: float, alpha: float, epsilon: float) -> Merged:
    """The same, and an expert's own changes made larger where it shares many."""
    alone, shared = np.zeros(blocks.count, np.int64), np.zeros(blocks.count, np.int64)
    for vectors in _all_vectors(blocks):
        kernels.count_changes(vectors, np.float32(epsilon), alone, shared)
    rho = torch.from_numpy(shared) / torch.from_numpy(alone).clamp(min=epsilon)
    factors = (1 + r * rho.clamp(min=0, max=alpha)).to(torch.float32).numpy()
    for vectors in _all_vectors(blocks):
        merged = blocks.scratch.array("merged", vectors.shape[1])
        kernels.reinforced(vectors, np.float32(epsilon), factors, merged)
        yield merged


def sce(blocks: Blocks, *, density: float) -> Merged:
    """Select what varies most, weigh experts by their energy there, erase minority signs."""

    def variances() -> Iterator[Array]:
        for vectors in _all_vectors(blocks):
            found = blocks.scratch.array("variance", 1, vectors.shape[1])
            kernels.variances(vectors, found[0])
            yield found

    def selected(spans: Iterator[tuple[int, int]], choice: Kept | None) -> Iterator[Array]:
        for span in spans:
            vectors = blocks.vectors(*span)
            if choice is not None:
                variance = blocks.scratch.array("variance", vectors.shape[1])
                kernels.variances(vectors, variance)
                mask = blocks.scratch.array("mask", vectors.shape[1])
                choice.trim(variance, np.float32(1), mask)
                np.multiply(vectors, mask > 0, out=vectors)
            yield vectors

    choose: Callable[[], Kept | None] = lambda: None  # noqa: E731
    if density < 1:
        kept = int(sum(int(np.count_nonzero(block)) for block in variances()) * density)
        if kept <= 0:
            for start, stop in blocks.spans():
                yield np.zeros(stop - start, np.float32)
            return
        ((rank,),) = ranks.at_ranks(variances, [[blocks.elements - kept]])
        choose = partial(ranks.largest, rank, kept, blocks.elements)
    energy = np.zeros(blocks.count)
    for vectors in selected(blocks.fixed_spans(), choose()):
        energy += np.einsum("kn,kn->k", vectors, vectors, dtype=np.float64)
    energy /= max(1, blocks.elements)
    total = energy.sum()
    weights = (energy / total if abs(total) >= 1e-6 else np.full(blocks.count, 1 / blocks.count)).astype(np.float32)
    for vectors in selected(blocks.spans(), choose()):
        merged = blocks.scratch.array("merged", vectors.shape[1])
        kernels.elect(vectors, weights, weights, np.float32(1e-6), np.float32(1), merged)
        yield merged


def arcee_fusion(blocks: Blocks) -> Merged:
    """Keep the important changes, of one expert."""
    width = _last(blocks.shape)
    divergence = np.empty(blocks.elements // width, np.float32)
    for start, stop in blocks.spans(width):
        base = torch.from_numpy(blocks.base(start, stop)).reshape(-1, width)
        model = base + torch.from_numpy(blocks.vectors(start, stop)[0]).reshape(-1, width)
        p, q = torch.softmax(model, dim=-1) + 1e-8, torch.softmax(base, dim=-1) + 1e-8
        divergence[start // width : stop // width] = (p * torch.log(p / q)).sum(dim=-1).clamp(min=0).numpy()

    def importance(start: int, stop: int, vector: Array) -> Array:
        rows = np.abs(vector).reshape(-1, width) * divergence[start // width : stop // width, None]
        return rows.reshape(1, -1)

    def all_of_it() -> Iterator[Array]:
        return (importance(*span, blocks.vectors(*span)[0]) for span in blocks.spans(width))

    last = blocks.elements - 1
    ((first, half, third),) = ranks.at_ranks(all_of_it, [[int(0.25 * last), int(0.5 * last), int(0.75 * last)]])
    edge = half.value + np.float32(1.5) * (third.value - first.value)
    for span in blocks.spans(width):
        vector = blocks.vectors(*span)[0]
        yield np.multiply(vector, importance(*span, vector)[0] >= edge, out=vector)


FORMS: Mapping[str, Form] = {
    "arcee_fusion": Form(arcee_fusion, takes=1, unit=_last),
    "breadcrumbs": Form(breadcrumbs),
    "breadcrumbs_ties": Form(breadcrumbs_ties),
    "dare_linear": Form(dare_linear),
    "dare_ties": Form(dare_ties),
    "della": Form(della, unit=_slice),
    "della_linear": Form(della_linear, unit=_slice),
    "karcher": Form(karcher),
    "linear": Form(linear),
    "model_stock": Form(model_stock, unit=_last),
    "multislerp": Form(multislerp),
    "nearswap": Form(nearswap, takes=1),
    "nuslerp": Form(nuslerp, takes=2, unit=_slice),
    "ram": Form(ram),
    "ramplus": Form(ramplus),
    "sce": Form(sce),
    "slerp": Form(slerp, takes=2),
    "task_arithmetic": Form(task_arithmetic),
    "ties": Form(ties),
    "weighted_task_arithmetic": Form(weighted_task_arithmetic),
}
"""Library name -> streamed form."""


def form_of(program: str, experts: int) -> Form | None:
    """The streamed form of the program with this id, if it is a library program that has one for so many experts."""
    found = next((form for name, form in FORMS.items() if program_id(library.source(name)) == program), None)
    return found if found is not None and found.takes in (None, experts) else None
