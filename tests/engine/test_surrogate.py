"""Scores foretold from what programs do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from engine.descriptors import SKETCH_NUMBERS, Descriptors
from engine.records import Candidate
from engine.surrogate import MOST, Surrogate
from tests.engine.conftest import candidate


def does(number: int, share: float | None, sketch: np.ndarray) -> Candidate:
    one = candidate(number, share)
    return replace(one, assessment=replace(one.assessment, descriptors=Descriptors({}, (), (), tuple(sketch))))


def world(count: int, seed: int = 0) -> tuple[list[Candidate], np.ndarray, np.ndarray]:
    """Programs on a sheet in the space of sketches, whose score falls with the way from one point, plus noise of two points."""
    random = np.random.default_rng(seed)
    sheet = np.random.default_rng(7).normal(size=(2, 3 * SKETCH_NUMBERS))
    places = random.uniform(0.5, 2.0, size=(count, 2))
    shares = np.clip(0.75 - 0.25 * np.abs(places - 1.3).sum(axis=1) + random.normal(0, 0.02, count), 0, 1)
    sketches = places @ sheet
    return [does(i + 1, s, k) for i, (s, k) in enumerate(zip(shares, sketches, strict=True))], sketches, shares


def test_it_ranks_programs_that_it_has_not_met() -> None:
    surrogate = Surrogate(world(120)[0])
    _, sketches, shares = world(80, seed=1)
    foretold = [surrogate.foretell(sketch) for sketch in sketches]
    assert spearmanr(foretold, shares).statistic > 0.8
    assert np.abs(np.array(foretold) - shares).mean() < 0.05


def test_scores_without_a_pattern_are_not_ranked() -> None:
    programs, _, shares = world(120)
    shuffled = np.random.default_rng(2).permutation(shares)
    surrogate = Surrogate(
        [does(c.number, s, np.array(c.assessment.descriptors.sketch)) for c, s in zip(programs, shuffled, strict=True)]
    )  # type: ignore[union-attr]
    _, sketches, fresh = world(80, seed=1)
    assert abs(spearmanr([surrogate.foretell(sketch) for sketch in sketches], fresh).statistic) < 0.4


def test_far_from_everything_it_foretells_the_middle() -> None:
    programs, sketches, shares = world(41)
    opposite = -sketches[0]  # nothing in common with any: distance 1
    middle, spread = float(np.median([c.score for c in programs])), float(np.std(shares))  # type: ignore[type-var]
    assert Surrogate(programs).foretell(opposite) == pytest.approx(middle, abs=3 * spread)


def test_the_same_program_twice_and_programs_without_scores_do_no_harm() -> None:
    programs, sketches, _ = world(40)
    more = [*programs, *programs, does(99, None, sketches[0]), candidate(98, 0.5)]
    surrogate = Surrogate(more, least=80)
    assert (surrogate.programs, surrogate.ready) == (80, True)
    assert Surrogate(more, least=81).ready is False
    assert Surrogate([]).ready is False
    assert np.isfinite(surrogate.foretell(sketches[0]))
    assert surrogate.foretell(sketches[0]) == pytest.approx(programs[0].score, abs=0.06)


def test_the_latest_are_remembered() -> None:
    one, other = np.ones(SKETCH_NUMBERS), -np.ones(SKETCH_NUMBERS)
    many = [does(i, 0.2, one) for i in range(1, 60)] + [does(i, 0.8, other) for i in range(60, 61 + MOST)]
    surrogate = Surrogate(many)
    assert surrogate.programs == MOST
    assert surrogate.foretell(one) == pytest.approx(0.8), (
        "the early ones are forgotten, and the rest scored all the same"
    )
