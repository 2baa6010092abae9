"""What a model is asked to get one score: the problems of one benchmark, or of several with weights, in the order of a race.

A suite is fixed before the first model is scored. Its items stand in the order of the parts and of their problems (bits follow it); the race order is
drawn once from a seed, and cut into blocks that are always asked together: an answer may depend on its neighbours in a batch by the order of sums.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from benchmarks.benchmark import Benchmark
from benchmarks.evaluators import Chat, Prompt
from benchmarks.problems import Problem

__all__ = ["Item", "Part", "Suite"]


@dataclass(frozen=True)
class Part:
    """One benchmark's share of a suite.

    Attributes:
        benchmark: how its problems are asked and judged.
        problems: at least one.
        weight: of its share of right answers in the score, > 0; only the proportions count.
        name: label in tables; None: the benchmark's name.
    """

    benchmark: Benchmark
    problems: tuple[Problem, ...]
    weight: float = 1.0
    name: str | None = None

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.name or self.benchmark.name


@dataclass(frozen=True)
class Item:
    """One problem of a suite. `weight`: its part of the whole score; those of all items sum to 1."""

    problem: Problem
    benchmark: Benchmark
    weight: float
    part: str

    @cached_property
    def prompt(self) -> Prompt:
        """What the model reads."""
        return self.benchmark.prompt(self.problem)


class Suite:
    """Items, and the order and the blocks in which they are asked.

    Args:
        parts: at least one, labels unique.
        rng: draws the race order; None: the order of the items.
        block: items between two looks of a race; None: all at once.
    """

    def __init__(
        self, parts: Sequence[Part], *, rng: np.random.Generator | None = None, block: int | None = None
    ) -> None:
        assert parts
        assert all(part.problems and part.weight > 0 for part in parts)
        assert len({part.label for part in parts}) == len(parts)
        assert block is None or block >= 1
        self.parts = tuple(parts)
        whole = sum(part.weight for part in parts)
        self.items = tuple(
            Item(problem, part.benchmark, part.weight / whole / len(part.problems), part.label)
            for part in parts
            for problem in part.problems
        )
        count = len(self.items)
        self.order = tuple(range(count)) if rng is None else tuple(int(place) for place in rng.permutation(count))
        size = block or count
        self.blocks = tuple(self.order[at : at + size] for at in range(0, count, size))

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def weights(self) -> npt.NDArray[np.float64]:
        """[items], sum 1."""
        return np.array([item.weight for item in self.items])

    @property
    def several(self) -> bool:
        """Whether there is more than one part."""
        return len(self.parts) > 1

    @cached_property
    def scorer_version(self) -> str:
        """Versions of all checkers in it."""
        return "+".join(dict.fromkeys(part.benchmark.scorer_version for part in self.parts))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that answers and verdicts depend on beside the model and the machine."""
        digest = hashlib.sha256()
        for item in self.items:
            b = item.benchmark
            asked = item.prompt.turns if isinstance(item.prompt, Chat) else item.prompt
            digest.update(repr((asked, item.problem.final, b.stop, b.max_new_tokens, b.scorer_version)).encode())
        digest.update(repr(self.blocks).encode())
        return digest.hexdigest()
