"""The pocket benchmark: frozen, in GSM8K's form, right, and never seen by a training."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import pocket
from benchmarks.answers import extract_lenient, extract_strict
from benchmarks.problems import Problem

STEP = re.compile(r"(\d+)([+\-*/%])(\d+)=(\d+)")


def calculated(problem: Problem) -> list[tuple[int, str, int, int]]:
    lines = problem.answer.split("\n")
    steps = []
    for line in lines[:-1]:
        match = STEP.fullmatch(line)
        assert match, line
        steps.append((int(match[1]), match[2], int(match[3]), int(match[4])))
    return steps


def check_problem(problem: Problem) -> None:
    steps = calculated(problem)
    assert pocket.MIN_STEPS <= len(steps) <= pocket.MAX_STEPS
    for a, operator, b, result in steps:
        exact = {
            "+": a + b,
            "-": a - b,
            "*": a * b,
            "/": a // b if operator == "/" and a % b == 0 else None,
            "%": a % b if operator == "%" else None,
        }
        assert exact[operator] == result, problem
        assert 0 <= result <= pocket.MAX_NUMBER
    assert problem.final == str(steps[-1][3])
    assert problem.answer.endswith(f"\n#### {problem.final}")
    assert extract_strict(problem.answer) == extract_lenient(problem.answer) == problem.final


@given(st.sampled_from(pocket.FAMILIES), st.integers(0, 2**32))
def test_every_problem_is_worked_out_rightly(family: str, seed: int) -> None:
    problem = pocket.sample(family, random.Random(seed))
    check_problem(problem)
    assert problem.family == family


@given(st.sampled_from(pocket.FAMILIES), st.integers(0, 2**32))
def test_numbers_that_start_a_calculation_stand_in_the_question_or_before(family: str, seed: int) -> None:
    problem = pocket.sample(family, random.Random(seed))
    known = {int(n) for n in re.findall(r"\d+", problem.question)}
    for a, operator, b, result in calculated(problem):
        assert a in known
        assert operator in "*/" or b in known, "only factors may be words (twice, a quarter)"
        known.add(result)


def test_there_are_at_least_eight_families() -> None:
    assert len(pocket.FAMILIES) >= 8


@pytest.mark.parametrize(("split", "size"), [("dev", 1000), ("test", 2000)])
def test_splits_are_frozen_full_and_even(split: str, size: int) -> None:
    problems = pocket.load(split)
    assert len(problems) == size
    counts = Counter(p.family for p in problems)
    assert max(counts.values()) - min(counts.values()) <= 1
    for problem in problems:
        check_problem(problem)


def test_freezing_again_gives_the_shipped_bytes(tmp_path: Path) -> None:
    pocket.freeze(tmp_path)
    for split in pocket.SPLIT_SIZES:
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (pocket.folder() / f"{split}.jsonl").read_bytes()


def test_the_files_are_in_gsm8ks_form() -> None:
    row = json.loads((pocket.folder() / "dev.jsonl").read_text().splitlines()[0])
    assert set(row) == {"id", "family", "question", "answer"}


def test_no_question_stands_in_both_splits() -> None:
    dev, test = ({p.question for p in pocket.load(split)} for split in ("dev", "test"))
    assert len(dev) == 1000
    assert len(test) == 2000
    assert not dev & test


def test_fresh_problems_refuse_every_frozen_one() -> None:
    family = "comparisons"  # the smallest space, so that the stream would hit frozen ones
    frozen = pocket.frozen_questions()
    open_stream = pocket.fresh(3, families=[family], refuse=frozenset())
    assert any(p.question in frozen for p in itertools.islice(open_stream, 40_000)), (
        "the stream must hit, or the test proves nothing"
    )
    assert not any(p.question in frozen for p in itertools.islice(pocket.fresh(3, families=[family]), 40_000))


def test_fresh_problems_follow_from_their_seed() -> None:
    one, two, other = (list(itertools.islice(pocket.fresh(seed), 30)) for seed in (5, 5, 6))
    assert one == two != other


def test_english_varies() -> None:
    shapes = {re.sub(r"\d+", "N", p.question) for p in pocket.load("test")}
    assert len(shapes) > 1500
