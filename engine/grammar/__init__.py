"""A grammar of merge programs: the source of the pocket generator's corpus, and the control that uses no language model.

It knows how merge programs are written, and nothing of which are good: rules and constants are drawn without scores.
"""

from __future__ import annotations

import random

from engine.grammar.damage import broken
from engine.grammar.edit import crossover_of, variant_of
from engine.grammar.plan import Derivation, Stage, cross, derive, render, vary

__all__ = [
    "MAX_SOURCE_CHARACTERS",
    "Derivation",
    "ProgramGrammar",
    "Stage",
    "broken",
    "cross",
    "derive",
    "render",
    "vary",
]

MAX_SOURCE_CHARACTERS = 1100
"""Longer derivations are drawn again: about 320 tokens of the pocket generator's vocabulary."""


class ProgramGrammar:
    """Draws programs under the contract. Everything follows from the `rng` given; no state is kept.

    `variant` and `crossover` take the derivation where there is one (then stages are exchanged), or any source text (then
    constants, sizes and whole programs are), so they work on programs that a language model wrote.
    """

    def __init__(self, max_characters: int = MAX_SOURCE_CHARACTERS, *, wide: bool = False) -> None:
        self.max_characters = max_characters
        self.wide = wide

    def render(self, derivation: Derivation) -> str:
        """The source of a derivation in this grammar's style of naming."""
        return render(derivation, wide=self.wide)

    def sample(self, rng: random.Random) -> str:
        """A new program's source."""
        return self.render(self.derivation(rng))

    def derivation(self, rng: random.Random) -> Derivation:
        """A derivation whose program is not longer than `max_characters`."""
        while True:
            drawn = derive(rng)
            if len(self.render(drawn)) <= self.max_characters:
                return drawn

    def variant(self, parent: Derivation | str, rng: random.Random) -> str:
        """A program near `parent`, different from it in text."""
        if isinstance(parent, str):
            return variant_of(parent, rng)
        before = self.render(parent)
        for _ in range(20):
            after = self.render(vary(parent, rng))
            if after != before and len(after) <= self.max_characters:
                return after
        return variant_of(before, rng)

    def crossover(self, a: Derivation | str, b: Derivation | str, rng: random.Random) -> str:
        """A program with parts of both parents."""
        if isinstance(a, Derivation) and isinstance(b, Derivation):
            for _ in range(20):
                child = self.render(cross(a, b, rng))
                if child not in (self.render(a), self.render(b)) and len(child) <= self.max_characters:
                    return child
        first, second = (self.render(parent) if isinstance(parent, Derivation) else parent for parent in (a, b))
        return crossover_of(first, second, rng, self.max_characters)

    def broken(self, source: str, rng: random.Random) -> tuple[str, str]:
        """`source` with one fault, and the reason that the sandbox would give for it."""
        return broken(source, rng)
