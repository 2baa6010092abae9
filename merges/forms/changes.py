"""Methods that look at how much each value has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from merges import kernels, ranks
from merges.blocks import Array, Blocks
from merges.forms.common import Merged, all_vectors, row_elements
from merges.ranks import Kept

__all__ = ["arcee_fusion", "nearswap", "ram", "ramplus", "sce"]


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
    for vectors in all_vectors(blocks):
        kernels.count_changes(vectors, np.float32(epsilon), alone, shared)
    rho = torch.from_numpy(shared) / torch.from_numpy(alone).clamp(min=epsilon)
    factors = (1 + r * rho.clamp(min=0, max=alpha)).to(torch.float32).numpy()
    for vectors in all_vectors(blocks):
        merged = blocks.scratch.array("merged", vectors.shape[1])
        kernels.reinforced(vectors, np.float32(epsilon), factors, merged)
        yield merged


def sce(blocks: Blocks, *, density: float) -> Merged:
    """Select what varies most, weigh experts by their energy there, erase minority signs."""

    def variances() -> Iterator[Array]:
        for vectors in all_vectors(blocks):
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
    if not blocks.elements:
        return
    width = row_elements(blocks.shape)
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
