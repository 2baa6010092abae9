"""Tensors that are no weights: what models compute anew when they are loaded, and whole numbers, which nobody can merge."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from merges.tensor_bytes import tensor_bytes
from merges.weights import Weights

__all__ = ["COMPARED_BYTES", "differ", "is_recomputed", "noted"]

COMPARED_BYTES = 1_000_000
"""Larger tensors of whole numbers are not read to compare them."""


def is_recomputed(name: str) -> bool:
    """Whether it is a table of rotary frequencies, which old checkpoints have and no model reads: transformers computes it from the config."""
    return name.endswith(".inv_freq") and "rotary" in name


def differ(name: str, models: Sequence[Weights]) -> bool:
    """Whether a tensor of whole numbers is known not to be the same in all of these models; those that lack it do not count.

    Raises:
        CheckpointError: a file cannot be read.
    """
    having = [model for model in models if name in model.shapes]
    kinds = {(model.dtypes[name], model.shapes[name]) for model in having}
    if len(kinds) != 1:
        return len(kinds) > 1
    ((dtype, shape),) = kinds
    if prod(shape) * dtype.itemsize > COMPARED_BYTES:
        return False
    return len({bytes(tensor_bytes(model.read(name))) for model in having}) > 1


def noted(recomputed: Sequence[str], differing: Sequence[str], source: str) -> tuple[str, ...]:
    """What a plan says of them, a line each.

    Args:
        recomputed: rotary tables that only some of the models have.
        differing: tensors of whole numbers that differ.
        source: the model that both are copied from, in words.
    """
    found = []
    if recomputed:
        found.append(
            f"{len(recomputed)} rotary tables that only some models have are copied from {source}, first {recomputed[0]}; models compute them anew"
        )
    if differing:
        found.append(
            f"{len(differing)} tensors of whole numbers differ between the models and are copied from {source}, first {differing[0]}"
        )
    return tuple(found)
