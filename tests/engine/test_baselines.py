"""Tuning of human-made merges: within budget, repeatable, and it finds the top of a hill."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.baselines import PER_EXPERT, TUNED, best_by_method, tune, tuned_ranges
from engine.records import Trial
from merges import library
from sandbox import signature_of
from tests.engine.conftest import dev_score


@given(st.integers(1, 40), st.integers(0, 3), st.integers(0, 10))
def test_tuning_spends_exactly_its_budget_within_the_ranges(budget: int, dimensions: int, seed: int) -> None:
    ranges = {f"w{i}": (0.1, 1.5) for i in range(dimensions)}
    tried: list[dict[str, float]] = []

    def score(parameters: dict[str, float]) -> float:
        tried.append(parameters)
        return sum(parameters.values())

    tune(score, ranges, budget, seed=seed)
    assert len(tried) == budget
    assert all(0.1 <= value <= 1.5 for parameters in tried for value in parameters.values())


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_tuning_comes_near_the_top_of_a_hill(dimensions: int) -> None:
    ranges = {f"w{i}": (0.0, 1.0) for i in range(dimensions)}
    best, value = tune(lambda p: -sum((x - 0.37) ** 2 for x in p.values()), ranges, 16 * dimensions, seed=1)
    assert value > -0.03, best


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_large_budget_is_spent_on_points_that_differ(dimensions: int) -> None:
    tried = []
    ranges = {f"w{i}": (0.1, 1.5) for i in range(dimensions)}
    tune(
        lambda p: tried.append(tuple(p.values())) or -sum((x - 0.4) ** 2 for x in p.values()),  # type: ignore[func-returns-value]
        ranges,
        60 * dimensions,
        seed=2,
    )
    assert len(set(tried)) >= 0.99 * 60 * dimensions


def test_where_every_point_was_tried_tuning_still_ends() -> None:
    tune(lambda _: 0.0, {"w": (0.1, 0.102)}, 40, seed=0)


def test_tuning_is_repeatable() -> None:
    ranges = {"a": (0.0, 1.0), "b": (0.0, 2.0)}
    runs = [tune(lambda p: p["a"] - p["b"], ranges, 12, seed=5) for _ in range(2)]
    assert runs[0] == runs[1]


def test_the_first_of_equals_wins() -> None:
    first: list[dict[str, float]] = []
    best, _ = tune(lambda p: first.append(p) or 0.5, {"a": (0.0, 1.0)}, 6, seed=0)  # type: ignore[func-returns-value]
    assert best == first[0]


@pytest.mark.parametrize("name", [*TUNED, *PER_EXPERT])
def test_tuned_hyper_parameters_exist_and_defaults_lie_in_range(name: str) -> None:
    declared = signature_of(library.source(name)).parameters
    for parameter in tuned_ranges(name, 3):
        assert parameter in declared


def test_best_by_method_counts_what_was_spent() -> None:
    def trial(name: str, scale: float, bits: str) -> Trial:
        return Trial(name, "human", {"scale": scale}, dev_score(bits))

    trials = (
        trial("ties", 0.1, "1000"),
        trial("ties", 0.2, "1110"),
        trial("ties", 0.3, "1110"),
        trial("dare_ties", 0.1, "1111"),
    )
    best = best_by_method((*trials, Trial("seed", "seed", {}, dev_score("1111"))))
    assert [(t.trial.name, t.trial.parameters["scale"], t.evaluations) for t in best] == [
        ("dare_ties", 0.1, 1),
        ("ties", 0.2, 3),
    ]
