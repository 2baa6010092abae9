"""An archive in figures: counts, uses and spreads of programs whose figures are known."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from engine.descriptors import NUMBERS, Descriptors
from engine.records import Candidate, Outcome
from engine.stats import FEWEST, Use, stats
from engine.stats_page import stats_page
from tests.engine.conftest import candidate, dev_score


def doing(number: int, share: float, operations: tuple[str, ...], rest: float = 0.0) -> Candidate:
    one = candidate(number, share)
    found = Descriptors(dict.fromkeys(NUMBERS, 0.0) | {"rest": rest}, (0.5,), operations, (0.0,))
    return replace(one, assessment=replace(one.assessment, descriptors=found))


def text(candidates: list[Candidate]) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(stats_page(stats(candidates)))
    return out.getvalue()


def test_outcomes_and_reasons_are_counted_the_most_frequent_first() -> None:
    failed = [candidate(n, None) for n in (1, 2, 3)]
    refused = replace(failed[0], assessment=replace(failed[0].assessment, outcome=Outcome.REJECTED, reason="syntax"))
    found = stats([refused, *failed, candidate(5, 0.5)])
    assert list(found.outcomes.items()) == [("failed", 3), ("rejected", 1), ("ok", 1)]
    assert list(found.reasons.items()) == [("exception", 3), ("syntax", 1)]


def test_operations_are_told_with_the_scores_of_those_that_use_them() -> None:
    stopped = doing(4, 0.9, ("svd",))
    stopped = replace(stopped, assessment=replace(stopped.assessment, score=dev_score("11--")))
    found = stats([doing(1, 0.2, ("abs", "svd")), doing(2, 0.6, ("abs",)), doing(3, 0.7, ()), stopped])
    assert found.uses == (Use("abs", 2, 0.4, 0.6), Use("svd", 2, 0.6, 0.2))  # what a race stopped is never the best


def test_spreads_have_their_percentiles_and_how_they_go_with_the_score() -> None:
    rising = [doing(n, n / 100, (), rest=n / 20) for n in range(1, 22)]
    rest = next(one for one in stats(rising).spreads if one.name == "rest")
    assert (rest.low, rest.median, rest.high) == (0.1, 0.55, 1.0)
    assert rest.with_score == pytest.approx(1.0)
    assert [one.name for one in stats(rising).spreads] == list(NUMBERS)
    scale = stats(rising).spreads[0]
    assert scale.with_score is None  # the same for all
    few = stats(rising[: FEWEST - 1]).spreads
    assert {one.with_score for one in few} == {None}


def test_the_page_says_what_is_left_out_and_shows_any_text_as_text() -> None:
    many = [doing(1, 0.5, tuple(f"op{n:02d}" for n in range(25))), doing(2, 0.25, ("\x1b[31mred", "[bold]"))]
    shown = text(many)
    assert "7 operations more" in shown
    assert "\x1b[31mred" not in shown
    assert "archive describe RUN" in text([candidate(1, 0.5)])
    assert "Outcomes: \n" in text([])
