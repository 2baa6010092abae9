"""The control that uses no language model: programs drawn from the grammar, and where parents are shown bred from these.

A variant turns a few constants or adds a step to the result, a crossover blends two programs, or where these are long takes constants of the second into the first: children that take after their parents for certain, which a small
language model's need not.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from engine.generators.language_model import parents
from engine.generators.protocol import Draft
from engine.grammar import ProgramGrammar
from engine.records import Candidate, Sampling, Task, TaskKind

MOST_DRAWS = 20
"""Of a variant that is short enough; each second one only turns numbers."""


class GrammarGenerator:
    """See `Generator`."""

    origin = "grammar"
    told = False

    def __init__(self) -> None:
        self._grammar = ProgramGrammar()

    def write(self, places: Sequence[Sampling], tasks: Sequence[Task]) -> list[Draft]:
        """See `Generator.write`. It follows no hint, and mends nothing: where a failure is shown, a new program is drawn."""
        return [self._draft(random.Random(place.seed), task) for place, task in zip(places, tasks, strict=True)]

    def _draft(self, rng: random.Random, task: Task) -> Draft:
        shown = [candidate.program.source for candidate in task.shown]
        match task.kind:
            case TaskKind.VARIANT:
                source = self._variant(shown[0], rng)
            case TaskKind.CROSSOVER:
                source = self._grammar.crossover(shown[0], shown[1], rng)
            case _:
                source = self._grammar.sample(rng)
                return Draft("", source, source)
        return Draft("", source, source, parents(task))

    def _variant(self, parent: str, rng: random.Random) -> str:
        """A variant that is no longer than a program may be, or than its parent: steps that only add up would make a program of every length."""
        longest = max(len(parent), self._grammar.max_characters)
        drawn = (self._grammar.variant(parent, rng) for _ in range(MOST_DRAWS))
        return next((source for source in drawn if len(source) <= longest), parent)

    def tell(self, assessed: Sequence[Candidate]) -> None:
        """See `Generator.tell`."""

    def adopt(self, folder: str) -> None:
        """See `Generator.adopt`."""

    def close(self) -> None:
        """See `Generator.close`."""
