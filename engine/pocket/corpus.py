"""The pocket generator's corpus: programs of the grammar in the prompt formats that a campaign uses.

Documents are prompt + program + end mark. Nothing here has seen a score. The programs that a document asks for have distinct
canonical syntax trees, so "not in the corpus" can be said of a sample by its program id.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from engine.grammar import ProgramGrammar
from engine.prompts import (
    pocket_completion,
    pocket_crossover,
    pocket_one_shot,
    pocket_plain,
    pocket_repair,
    pocket_variant,
)
from merges.contract import program_id

KINDS = {"one_shot": 0.40, "plain": 0.28, "variant": 0.14, "crossover": 0.06, "repair": 0.12}
"""Shares of the formats. The fixed one-shot prompt is what campaigns sample from by default, so it has the most."""


@dataclass(frozen=True)
class Document:
    """One example. `kind` is a key of KINDS; `completion` ends with the end mark; `identity` is the program's id."""

    kind: str
    prompt: str
    completion: str
    identity: str


def documents(seed: int, *, wide: bool) -> Iterator[Document]:
    """Draw documents without end, the same ones for the same seed; `wide` is the grammar's style of naming."""
    rng = random.Random(seed)
    grammar = ProgramGrammar(wide=wide)
    seen: set[str] = set()
    while True:
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        prompt, program = _example(kind, grammar, rng)
        identity = program_id(program)
        if identity not in seen:
            seen.add(identity)
            yield Document(kind, prompt, pocket_completion(program), identity)


def corpus(count: int, seed: int, *, wide: bool) -> list[Document]:
    """The first `count` documents of a seed."""
    return list(islice(documents(seed, wide=wide), count))


def _example(kind: str, grammar: ProgramGrammar, rng: random.Random) -> tuple[str, str]:
    derivation = grammar.derivation(rng)
    source = grammar.render(derivation)
    if kind == "one_shot":
        return pocket_one_shot(), source
    if kind == "plain":
        return pocket_plain(), source
    if kind == "variant":
        return pocket_variant(source), grammar.variant(derivation, rng)
    if kind == "crossover":
        other = grammar.derivation(rng)
        return pocket_crossover(source, grammar.render(other)), grammar.crossover(derivation, other, rng)
    assert kind == "repair", kind
    failed, reason = grammar.broken(source, rng)
    return pocket_repair(failed, reason), source
