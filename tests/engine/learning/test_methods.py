"""The contract of a learning method, over all of them, and what each chooses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import cast

import pytest

from engine.config import CampaignConfig
from engine.config_learning import LearnSection
from engine.generators import LanguageModelGenerator
from engine.learning import Lesson, Method, Past, method_named
from engine.learning.account import update_lines
from engine.learning.dpo import dpo_trainer
from engine.learning.rest_em import sft_trainer
from engine.records import Candidate, Outcome
from tests.engine.conftest import candidate

METHODS = ("dpo", "rest-em", "kto")  # self-rewarding needs a generator to write and judge: tests/engine/judging/


NO_GENERATOR = cast(LanguageModelGenerator, None)  # these methods learn from the archive alone


def choose(method: Method, past: Past, section: LearnSection | None = None) -> Lesson:
    """The lesson of a method that has one; an empty one where there is nothing to learn."""
    config = CampaignConfig(learn=section or LearnSection())
    return next(method.lessons(past, config, NO_GENERATOR), Lesson([], dpo_trainer))


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Method:
    return method_named(request.param)


def mixed() -> list[Candidate]:
    """Thirty programs: scores 1 to 20 %, ten failures."""
    return [candidate(i, i / 100) for i in range(1, 21)] + [candidate(i, None) for i in range(21, 31)]


def test_the_same_past_gives_the_same_lesson(method: Method) -> None:
    past = Past({1: mixed()}, "fixed", seed=3)
    assert choose(method, past) == choose(method, past)


def test_what_the_archive_remembers_is_json(method: Method) -> None:
    lesson = choose(method, Past({1: mixed()}, "fixed"))
    assert lesson.rows
    assert json.loads(json.dumps(lesson.record)) == lesson.record


def test_what_is_held_against_a_reference_says_so(method: Method) -> None:
    lesson = choose(method, Past({1: mixed()}, "fixed"))
    assert lesson.compares == (lesson.trainer is not sft_trainer)


@pytest.mark.parametrize("rows", [[], [candidate(1, None)], [candidate(1, 0.4)]], ids=["none", "failed", "one"])
def test_nothing_to_learn_from_gives_no_rows(method: Method, rows: list[Candidate]) -> None:
    assert not choose(method, Past({1: rows}, "fixed")).rows


def test_where_all_tie_there_is_no_good_and_bad() -> None:
    rows = [candidate(i, 0.4) for i in range(1, 10)]
    for name in ("dpo", "kto"):
        assert not choose(method_named(name), Past({1: rows}, "fixed"), LearnSection()).rows


def test_kto_likes_the_better_half_and_dislikes_the_bottom_and_every_failure() -> None:
    lesson = choose(method_named("kto"), Past({1: mixed()}, "fixed"), LearnSection(rejected_floor=4))
    assert lesson.record["desirable"] == list(range(20, 10, -1))
    assert lesson.record["undesirable"] == [4, 3, 2, 1, *range(21, 31)]
    liked = {row["completion"] for row in lesson.rows if row["label"]}
    assert liked == {c.program.text for c in mixed()[10:20]}
    assert len(lesson.rows) == 24


def test_kto_mixes_the_two_sides_as_its_trainer_takes_rows_in_order() -> None:
    for seed in range(5):
        labels = [row["label"] for row in choose(method_named("kto"), Past({1: mixed()}, "fixed", seed=seed)).rows]
        assert all(len(set(labels[start : start + 8])) == 2 for start in range(0, 24, 8)), seed


def test_kto_never_likes_and_dislikes_the_same_score() -> None:
    rows = [candidate(1, 0.5), *(candidate(i, 0.4) for i in range(2, 6))]
    assert not choose(method_named("kto"), Past({1: rows}, "fixed")).rows
    lesson = choose(method_named("kto"), Past({1: [*rows, candidate(6, 0.3)]}, "fixed"))
    assert (lesson.record["desirable"], lesson.record["undesirable"]) == ([1, 2, 3], [6])


def test_kto_learns_from_failures_alone() -> None:
    lesson = choose(method_named("kto"), Past({1: [candidate(1, 0.3), candidate(2, None)]}, "fixed"), LearnSection())
    assert (lesson.record["desirable"], lesson.record["undesirable"]) == ([1], [2])


def test_rest_em_keeps_the_top_share_and_holds_some_of_it_out() -> None:
    lesson = choose(method_named("rest-em"), Past({1: mixed()}, "fixed"), LearnSection(keep=0.5))
    kept = lesson.record["kept"] + lesson.record["held_out"]
    assert sorted(kept) == list(range(11, 21))
    assert len(lesson.held_out) == len(lesson.record["held_out"]) == 1


def test_rest_em_takes_at_most_so_many_texts_of_one_behaviour() -> None:
    best = candidate(1, 0.9)
    twins = [
        replace(
            candidate(i, None, outcome=Outcome.DUPLICATE),
            assessment=replace(
                candidate(i, None, outcome=Outcome.DUPLICATE).assessment,
                reason=None,
                duplicate_of=best.program.id,
                behaviour=best.assessment.behaviour,
            ),
        )
        for i in range(2, 12)
    ]
    past = Past({1: [best, *twins, candidate(12, 0.1), candidate(13, 0.05)]}, "fixed")
    for most in (1, 3, 10):
        record = choose(method_named("rest-em"), past, LearnSection(per_behaviour=most, keep=0.66)).record
        assert sorted(record["kept"] + record["held_out"]) == [*range(1, most + 1), 12]


def repeated(texts: list[int]) -> list[Candidate]:
    """Working programs, so many texts of each: the program itself, and exact repeats of it."""
    rows, number = [], 0
    for at, count in enumerate(texts):
        number += 1
        first = candidate(number, 0.9 - at / 100)
        rows.append(first)
        for _ in range(count - 1):
            number += 1
            fate = replace(first.assessment, outcome=Outcome.DUPLICATE, score=None, duplicate_of=first.program.id)
            rows.append(replace(first, number=number, assessment=fate))
    return rows


@pytest.mark.parametrize(
    ("texts", "held_out"),
    [
        ([1] * 26, {2}),
        ([10] * 3, {10}),  # no less than a whole behaviour
        ([10, 10, 2, 1], {2}),
        ([7, 6, 5, 4, 3, 1, 1, 1], {2}),
        ([9, 9, 4, 4, 4], {4}),
        ([10, 1], {1}),
    ],
)
def test_rest_em_trains_on_no_text_of_a_behaviour_that_it_holds_out(texts: list[int], held_out: set[int]) -> None:
    rows = repeated(texts)
    behaviour = {c.number: c.assessment.behaviour for c in rows}
    for seed in range(20):
        lesson = choose(method_named("rest-em"), Past({1: rows}, "fixed", seed=seed), LearnSection(keep=1.0))
        learnt, apart = (lesson.record[side] for side in ("kept", "held_out"))
        assert sorted(learnt + apart) == [c.number for c in rows]
        assert not {behaviour[n] for n in learnt} & {behaviour[n] for n in apart}
        assert not {row["completion"] for row in lesson.rows} & {row["completion"] for row in lesson.held_out}
        assert len(lesson.rows) == len(learnt)
        assert {len(lesson.held_out)} == {len(apart)} == held_out


def test_rest_em_has_nothing_to_stop_on_where_all_behave_alike() -> None:
    assert not choose(method_named("rest-em"), Past({1: repeated([10])}, "fixed")).rows


@pytest.mark.parametrize(("keep_from", "numbers"), [("latest", [13, 14]), ("all", [1, 2, 3, 4])])
def test_rest_em_keeps_from_the_latest_iteration_or_from_all(keep_from: str, numbers: list[int]) -> None:
    first = [candidate(i, 0.9) for i in range(1, 5)]
    second = [candidate(i, i / 100, iteration=2) for i in range(11, 15)]
    section = LearnSection(keep=0.5, keep_from=keep_from)
    record = choose(method_named("rest-em"), Past({1: first, 2: second}, "fixed"), section).record
    assert sorted(record["kept"] + record["held_out"]) == numbers


def test_an_account_says_what_was_learnt_and_what_was_taken_back() -> None:
    probe = {"programs": 64, "valid": 0.5, "distinct": 1.0, "repeats": 0.0, "characters": 600.0, "kl": None}
    lesson = {
        "examples": 48,
        "steps": 12,
        "learning_rate": 1e-3,
        "loss_first": 0.69,
        "loss_last": 0.4,
        "held_out_losses": [0.5, 0.45],
    }
    attempt = {
        "lessons": [lesson],
        "probe": {**probe, "valid": 0.25, "kl": 0.8},
        "refused": ["KL 0.800 nats a token, above 0.5"],
    }
    report = {"method": "dpo", "trained": False, "probe_before": probe, "attempts": [attempt]}
    lines = update_lines({1: report, 2: {"method": "dpo", "trained": False, "attempts": [], "refused": "nothing"}})
    assert lines == [
        "Learning after iteration 1, dpo: 48 examples, 12 steps at 0.001, loss 0.690 → 0.400, held out 0.500 → 0.450; "
        "of 64 programs 25 % valid after 50 %, 100 % distinct, 0 % repeats, KL 0.800; taken back: KL 0.800 nats a token, above 0.5",
        "Learning after iteration 1, dpo: the generator stays as it was",
        "Learning after iteration 2, dpo: nothing",
    ]
