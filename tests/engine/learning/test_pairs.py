"""Which pairs are learnt from, by which rule, and how sure they are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config_learning import LearnSection
from engine.learning import Past, choose_pairs
from engine.learning.pairs import compare
from engine.ranking import scored_best_first
from engine.records import Candidate, Outcome
from tests.engine.conftest import candidate, dev_score

FIXED = "fixed prompt"


def past(*iterations: list[Candidate]) -> Past:
    return Past(dict(enumerate(iterations, start=1)), FIXED)


def shown(row: Candidate, prompt: str) -> Candidate:
    return replace(row, program=replace(row.program, prompt=prompt))


def numbers(pairs: list) -> list[tuple[int, int]]:
    return [(p.chosen_number, p.rejected_number) for p in pairs]


def test_best_first_leaves_out_failures_and_duplicates() -> None:
    rows = [
        candidate(1, 0.2),
        candidate(2, None),
        candidate(3, 0.5),
        candidate(4, 0.9, outcome=Outcome.DUPLICATE),
        candidate(5, 0.5),
    ]
    assert [c.number for c in scored_best_first(rows)] == [3, 5, 1]


def test_shares_are_those_of_the_paper_where_the_run_is_large() -> None:
    rows = [candidate(i, i / 100) for i in range(1, 101)]
    pairs = choose_pairs(past(rows), LearnSection(chosen_floor=1, rejected_floor=1, pairs_per_chosen=100))
    assert {p.chosen_number for p in pairs} == {98, 99, 100}
    assert {p.rejected_number for p in pairs} == set(range(1, 11))


def test_elite_of_every_earlier_iteration_is_chosen_again() -> None:
    first = [candidate(i, 0.5 + i / 100, iteration=1) for i in range(1, 11)]
    second = [candidate(20 + i, i / 100, iteration=2) for i in range(1, 21)]
    pairs = choose_pairs(past(first, second), LearnSection(elite=3, chosen_floor=2, rejected_floor=4))
    assert {p.chosen_number for p in pairs if p.chosen_number <= 10} == {10, 9, 8}
    assert all(p.rejected_number > 20 for p in pairs)


@given(st.lists(st.one_of(st.none(), st.integers(0, 100)), max_size=60))
def test_chosen_always_scored_higher_than_rejected(shares: list[int | None]) -> None:
    rows = [candidate(i, None if s is None else s / 100) for i, s in enumerate(shares, start=1)]
    for pair in choose_pairs(past(rows), LearnSection(pairs=("extremes", "halves"))):
        assert pair.margin is not None
        assert pair.margin > 0
        assert pair.certainty > 0.5
        chosen, rejected = rows[pair.chosen_number - 1], rows[pair.rejected_number - 1]
        assert chosen.score is not None
        assert rejected.score is not None
        assert chosen.score > rejected.score


def test_equal_scores_teach_nothing() -> None:
    rows = [candidate(i, 0.4) for i in range(1, 30)]
    assert choose_pairs(past(rows), LearnSection(pairs=("extremes", "halves"))) == []


def test_the_better_half_of_a_prompt_meets_its_worse_half() -> None:
    rows = [shown(candidate(i, i / 10), "a" if i <= 4 else "b") for i in range(1, 8)]
    pairs = choose_pairs(past(rows), LearnSection(pairs=("halves",)))
    assert numbers(pairs) == [(4, 2), (3, 1), (7, 5)]
    assert [p.prompt for p in pairs] == ["a", "a", "b"]


def test_each_failure_meets_a_working_program_of_its_prompt() -> None:
    rows = [
        shown(candidate(1, 0.1), "a"),
        shown(candidate(2, 0.3), "a"),
        shown(candidate(3, None), "a"),
        shown(candidate(4, None, outcome=Outcome.REJECTED), "a"),
        shown(candidate(5, None), "a"),
        shown(candidate(6, None), "nothing works here"),
    ]
    pairs = choose_pairs(past(rows), LearnSection(pairs=("failures",)))
    assert numbers(pairs) == [(2, 3), (1, 4), (2, 5)]
    assert {(p.margin, p.certainty) for p in pairs} == {(None, 1.0)}


def test_only_the_best_are_chosen_over_failures() -> None:
    rows = [*(candidate(i, i / 10) for i in range(1, 6)), *(candidate(i, None) for i in range(6, 10))]
    pairs = choose_pairs(past(rows), LearnSection(pairs=("failures",), chosen_floor=2))
    assert numbers(pairs) == [(5, 6), (4, 7), (5, 8), (4, 9)]


def test_a_pair_that_two_rules_give_is_learnt_once() -> None:
    rows = [candidate(1, 0.1), candidate(2, 0.9)]
    assert numbers(choose_pairs(past(rows), LearnSection(pairs=("extremes", "halves")))) == [(2, 1)]


def test_programs_of_different_prompts_are_compared_under_the_fixed_one() -> None:
    rows = [shown(candidate(1, 0.1), "a"), shown(candidate(2, 0.9), "b")]
    (pair,) = choose_pairs(past(rows), LearnSection())
    assert pair.prompt == FIXED


def test_what_noise_could_explain_is_dropped_on_demand() -> None:
    rows = [candidate(1, 0.50), candidate(2, 0.51), candidate(3, 0.9)]
    section = LearnSection(chosen_floor=2, rejected_floor=1, pairs=("extremes",))
    assert numbers(choose_pairs(past(rows), section)) == [(3, 1)]
    rows = rows[:2]
    assert numbers(choose_pairs(past(rows), section)) == [(2, 1)]
    assert choose_pairs(past(rows), section.model_copy(update={"min_certainty": 0.9})) == []


@pytest.mark.parametrize(
    ("better", "worse", "margin", "certainty"),
    [
        ("1111", "1111", 0.0, 0.5),
        ("1", "0", 1.0, 0.75),  # Beta(2, 1) above one half
        ("11100", "00010", 0.4, 0.8125),  # Beta(4, 2): 1 − 6/32
        ("1-1", "0-0", 1.0, 0.875),  # Beta(3, 1), of what was asked
        ("1--", "-0-", 0.0, 0.5),  # nothing in common
    ],
)
def test_margin_and_certainty_come_from_what_both_were_asked(
    better: str, worse: str, margin: float, certainty: float
) -> None:
    assert compare(better, worse) == pytest.approx((margin, certainty))


def test_weights_count_as_many_equal_problems_as_carry_the_same_information() -> None:
    assert compare("110", "001", [2.0, 2.0, 2.0]) == pytest.approx(compare("110", "001"))
    # Kish: (4 + 1 + 1)² / (16 + 1 + 1) = 2 problems of equal weight
    margin, certainty = compare("110", "001", [4.0, 1.0, 1.0])
    assert margin == pytest.approx(4 / 6)
    assert compare("11", "00")[1] > certainty > compare("10", "01")[1]


def test_a_program_stopped_in_a_race_is_compared_on_its_own_problems() -> None:
    stopped = candidate(1, 0.5)
    stopped = replace(stopped, assessment=replace(stopped.assessment, score=dev_score("01" + 98 * "-")))
    (pair,) = choose_pairs(past([stopped, candidate(2, 0.9)]), LearnSection())
    assert pair.margin == pytest.approx(0.5)
