"""The control that uses no language model: programs drawn from the grammar."""

from __future__ import annotations

import random
from collections.abc import Sequence

from engine.generators.protocol import Draft
from engine.grammar import ProgramGrammar
from engine.records import Candidate, Sampling, Task


class GrammarGenerator:
    """See `Generator`."""

    origin = "grammar"
    told = False

    def __init__(self) -> None:
        self._grammar = ProgramGrammar()

    def write(self, places: Sequence[Sampling], tasks: Sequence[Task]) -> list[Draft]:
        """See `Generator.write`; the grammar knows one task only, and reads no programs."""
        sources = [self._grammar.sample(random.Random(place.seed)) for place in places]
        return [Draft("", source, source) for source in sources]

    def tell(self, assessed: Sequence[Candidate]) -> None:
        """See `Generator.tell`."""

    def adopt(self, folder: str) -> None:
        """See `Generator.adopt`."""

    def close(self) -> None:
        """See `Generator.close`."""
