"""Names, ranges and meanings of the descriptors of a program, and the record that holds them. `diversity.py` takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SKETCH_NUMBERS = 8
"""Numbers of a sketch for each probe tensor."""


@dataclass(frozen=True)
class Number:
    """What one numeric descriptor means.

    Attributes:
        low, high: where its values lie; those beyond count as the bound where it is an axis.
        meaning: in a line.
    """

    low: float
    high: float
    meaning: str


NUMBERS: Mapping[str, Number] = {
    "scale": Number(-1.0, 3.0, "sum of the weights in the weighted sum of task vectors that comes nearest"),
    "balance": Number(0.0, 1.0, "how evenly these weights fall on the experts: 1 all alike, 0 all on one (entropy)"),
    "variation": Number(0.0, 1.0, "how much the weights change from tensor to tensor (spread over size)"),
    "rest": Number(0.0, 1.0, "share of the result's squared norm that no weighted sum explains"),
    "size": Number(0.0, 4.0, "norm of the result over the mean norm of the task vectors"),
    "sparsity": Number(0.0, 1.0, "share of the result's entries that are 0"),
    "agreement": Number(0.0, 1.0, "share of its other entries whose sign is that of the task vectors' sum"),
    "scaling": Number(0.0, 1.0, "how far twice the task vectors give anything but twice the result; 0: it is homogeneous"),
    "order": Number(0.0, 1.0, "how far the result changes with the order of the experts"),
    "entries": Number(0.0, 1.0, "how far shuffled entries give anything but the shuffled result; 0: entries are treated alike"),
    "depth": Number(0.0, 1.0, "how far the result changes with the layer's depth"),
    "name": Number(0.0, 1.0, "how far it changes with the parameter's name"),
    "base": Number(0.0, 1.0, "how far it changes with the seed model's tensor"),
    "randomness": Number(0.0, 1.0, "how far it changes with the seed of the random generators"),
    "nodes": Number(20.0, 500.0, "size of the text: nodes of its syntax tree"),
}  # fmt: skip
"""The numeric descriptors. Those that say "how far" are relative differences, 0 none to 1 another result altogether, or none at all. None depends on the
machine: what a program costs in seconds and bytes is in its assessment, and its size here."""


DEPENDENCES = ("scaling", "order", "entries", "depth", "name", "base", "randomness")
"""Descriptors that are told by a change of the probes."""


@dataclass(frozen=True)
class Descriptors:
    """What a program does.

    Attributes:
        numbers: name → value, as in `NUMBERS`; not bounded but where the meaning bounds it.
        weights: mean weight of each expert, in their order, in the nearest weighted sum.
        operations: names of the methods and functions that its text calls, sorted.
        sketch: random projections of its answers to the probes; see `distance`.
    """

    numbers: Mapping[str, float]
    weights: tuple[float, ...]
    operations: tuple[str, ...]
    sketch: tuple[float, ...]


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """How far two programs' answers to the probes lie apart, 0 (alike) to 1 (nothing in common, or more), from their sketches.

    It is the relative difference of each probe's part, and the mean over the probes: a tensor of small numbers counts as much as one of large ones.
    """
    return float(distances(one, np.asarray(other)[None])[0])


def distances(one: Sequence[float], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`distance` of a sketch from each of many.

    Args:
        others: programs × numbers of a sketch.
    """
    a, b = (np.asarray(numbers).reshape(-1, len(one) // SKETCH_NUMBERS, SKETCH_NUMBERS) for numbers in (one, others))
    apart = np.linalg.norm(a - b, axis=2)
    sizes = np.maximum(np.linalg.norm(a, axis=2), np.linalg.norm(b, axis=2))
    shares = np.divide(apart, sizes, out=np.zeros_like(apart), where=sizes > 0)
    found: npt.NDArray[np.float64] = np.minimum(shares, 1.0).mean(axis=1)
    return found
