"""A derivation: which stages a program has, and the seeds that decide their wording and their numbers.

Everything about a program follows from its derivation, so a variant is a derivation with one stage or one seed changed and a
crossover is one with stages of two parents. No stage knows anything of scores.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from engine.grammar.combine import ALONE, WEIGHTED
from engine.grammar.finish import LAST, POLISH
from engine.grammar.vectors import JOINT, PER_VECTOR
from engine.grammar.weights import WEIGHTS
from engine.grammar.writer import Writer

_Rule = TypeVar("_Rule")
_SEEDS = 2**31

WEIGHTED_SHARE = 0.5  # of the programs combine by a rule for weights; the rest by a rule that needs none
LENGTHS = (0, 0, 0, 0, 0, 1, 1, 1, 1, 2)  # how many per-vector steps, how many polishing steps
JOINT_SHARE = 0.25


@dataclass(frozen=True)
class Stage:
    """One step: `key` names its rule; `form` seeds wording and idiom, `numbers` seeds constants."""

    key: str
    form: int
    numbers: int


@dataclass(frozen=True)
class Derivation:
    """The whole program. `weights` is None where the way of combining needs none; `style` seeds names and comments."""

    style: int
    per_vector: tuple[Stage, ...]
    joint: Stage | None
    weights: Stage | None
    combine: Stage
    polish: tuple[Stage, ...]
    last: Stage

    @property
    def keys(self) -> tuple[str, ...]:
        stages = (*self.per_vector, self.joint, self.weights, self.combine, *self.polish, self.last)
        return tuple(stage.key for stage in stages if stage is not None)


def _stage(table: Mapping[str, tuple[float, _Rule]], rng: random.Random) -> Stage:
    key = rng.choices(list(table), [weight for weight, _ in table.values()])[0]
    return Stage(key, rng.randrange(_SEEDS), rng.randrange(_SEEDS))


def _several(table: Mapping[str, tuple[float, _Rule]], rng: random.Random) -> tuple[Stage, ...]:
    drawn = [_stage(table, rng) for _ in range(rng.choice(LENGTHS))]
    return tuple({stage.key: stage for stage in drawn}.values())


def derive(rng: random.Random) -> Derivation:
    """Draw a derivation."""
    weighted = rng.random() < WEIGHTED_SHARE
    return Derivation(
        style=rng.randrange(_SEEDS),
        per_vector=_several(PER_VECTOR, rng),
        joint=_stage(JOINT, rng) if rng.random() < JOINT_SHARE else None,
        weights=_stage(WEIGHTS, rng) if weighted else None,
        combine=_stage(WEIGHTED if weighted else ALONE, rng),
        polish=_several(POLISH, rng),
        last=_stage(LAST, rng),
    )


def render(derivation: Derivation, *, wide: bool = False) -> str:
    """Write the program that a derivation stands for; `wide` draws its identifiers from large pools."""
    w = Writer(random.Random(derivation.style), wide=wide)
    for order, stage in enumerate(derivation.per_vector):
        w.pending.append(partial(_write, w, order, stage, PER_VECTOR))
    if derivation.joint is not None:
        _write(w, 10, derivation.joint, JOINT)
    if derivation.weights is not None:
        w.vectors()
        _write(w, 11, derivation.weights, WEIGHTS)
    _write(w, 12, derivation.combine, WEIGHTED if derivation.weights else ALONE)
    for order, stage in enumerate(derivation.polish):
        _write(w, 13 + order, stage, POLISH)
    _write(w, 20, derivation.last, LAST)
    return w.program()


def _write(
    w: Writer, order: int, stage: Stage, table: Mapping[str, tuple[float, Callable[..., None]]], *v: str
) -> None:
    with w.stage(order, stage.form, stage.numbers):
        table[stage.key][1](w, *v)


def vary(parent: Derivation, rng: random.Random) -> Derivation:
    """A neighbour: new numbers in one stage (half of the time), a stage replaced, added, dropped, or said in other words."""
    move = rng.random()
    if move < 0.5:
        return _change_stage(parent, rng, lambda stage, table: replace(stage, numbers=rng.randrange(_SEEDS)))
    if move < 0.7:
        return _change_stage(parent, rng, lambda stage, table: _stage(table, rng))
    if move < 0.85:
        field = rng.choice(("per_vector", "polish"))
        table: Mapping[str, tuple[float, object]] = PER_VECTOR if field == "per_vector" else POLISH
        stages = getattr(parent, field)
        kept = stages[1:] if stages and rng.random() < 0.5 else (*stages, _stage(table, rng))
        return replace(parent, per_vector=kept) if field == "per_vector" else replace(parent, polish=kept)
    if move < 0.95:
        return replace(parent, last=_stage(LAST, rng))
    return _change_stage(parent, rng, lambda stage, table: replace(stage, form=rng.randrange(_SEEDS)))


_Table = Mapping[str, tuple[float, object]]


def _change_stage(parent: Derivation, rng: random.Random, change: Callable[[Stage, _Table], Stage]) -> Derivation:
    fields = ["combine", "last", *("weights" for _ in range(2) if parent.weights)]
    fields += ["joint"] if parent.joint else []
    fields += [name for name in ("per_vector", "polish") if getattr(parent, name)]
    field = rng.choice(fields)
    if field == "per_vector":
        return replace(parent, per_vector=(change(parent.per_vector[0], PER_VECTOR), *parent.per_vector[1:]))
    if field == "polish":
        return replace(parent, polish=(change(parent.polish[0], POLISH), *parent.polish[1:]))
    if field == "joint" and parent.joint:
        return replace(parent, joint=change(parent.joint, JOINT))
    if field == "weights" and parent.weights:
        return replace(parent, weights=change(parent.weights, WEIGHTS))
    if field == "combine":
        return replace(parent, combine=change(parent.combine, WEIGHTED if parent.weights else ALONE))
    return replace(parent, last=change(parent.last, LAST))


def cross(a: Derivation, b: Derivation, rng: random.Random) -> Derivation:
    """Names and some stages of `a`, the other stages of `b`; weights and way of combining go together."""
    core, other = (a, b) if rng.random() < 0.5 else (b, a)
    return Derivation(
        style=a.style,
        per_vector=other.per_vector if rng.random() < 0.7 else core.per_vector,
        joint=rng.choice((a, b)).joint,
        weights=core.weights,
        combine=core.combine,
        polish=rng.choice((a, b)).polish,
        last=rng.choice((a, b)).last,
    )
