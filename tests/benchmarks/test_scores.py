"""A score: every bit kept, nothing asked twice, a race that ends early, and no fault that becomes a zero."""

from __future__ import annotations

import pytest

from benchmarks import (
    BenchmarkError,
    Part,
    Race,
    RaceRules,
    Score,
    Suite,
    anytime_interval,
    judge,
    score,
    wilson,
    wilson_share,
)
from tests.benchmarks.made import Answering, Remembered, benchmark, problems, suite, weighted


def test_bits_follow_the_suite_whatever_the_order_of_asking() -> None:
    exam = suite(10, seed=4, block=3)
    evaluator = Answering(exam, "1101000101")
    found = score(evaluator, exam)
    assert found.bits == found.strict_bits == "1101000101"
    assert evaluator.asked == list(exam.order)
    assert [len(call) for call in evaluator.calls] == [3, 3, 3, 1]
    assert (found.value, found.strict, found.n, found.of, found.complete) == (0.5, 0.5, 10, 10, True)
    assert (found.low, found.high) == (wilson(5, 10).low, wilson(5, 10).high)
    assert found.families == {"shares": 0.8, "sums": 0.2}


def test_both_readings_are_kept_and_the_benchmarks_own_ranks() -> None:
    texts = ["#### 0", "it is 1", "it is 7", "#### 4"]
    for ranks, value in (("strict", 0.25), ("lenient", 0.5)):
        exam = Suite([Part(benchmark(ranks=ranks), problems("made", 4))])
        found = judge(texts, exam)
        assert (found.strict_bits, found.lenient_bits) == ("1000", "1100")
        assert (found.value, found.strict, found.lenient) == (value, 0.25, 0.5)
        assert found.bits == (found.strict_bits if ranks == "strict" else found.lenient_bits)


def test_weights_are_those_of_the_parts() -> None:
    exam = weighted({"a": 2, "b": 4}, {"a": 3.0, "b": 1.0})
    found = score(Answering(exam, "100111"), exam)
    assert found.value == pytest.approx(0.75 * 0.5 + 0.25 * 0.75)
    assert found.families == {"a": 0.5, "a/shares": 0.0, "a/sums": 1.0, "b": 0.75, "b/shares": 1.0, "b/sums": 0.5}
    assert found.effective_n == pytest.approx(1 / (2 * 0.375**2 + 4 * 0.0625**2))
    interval = wilson_share(found.value, found.effective_n)
    assert (found.low, found.high) == (interval.low, interval.high)


def test_prompts_of_one_form_are_asked_together_whatever_their_benchmark() -> None:
    exam = weighted({"a": 3, "b": 3}, {"a": 1.0, "b": 1.0})
    evaluator = Answering(exam, "111111")
    score(evaluator, exam)
    assert len(evaluator.calls) == 1
    longer = Suite([Part(benchmark("a"), problems("a", 3)), Part(benchmark("b", max_new_tokens=9), problems("b", 3))])
    evaluator = Answering(longer, "111111")
    assert score(evaluator, longer).value == 1.0
    assert len(evaluator.calls) == 2


def racing(exam: Suite, rival: str) -> Race:
    race = Race(exam, RaceRules(keep=1))
    race.enter(rival)
    return race


def test_a_beaten_model_is_asked_no_further_and_its_score_says_so() -> None:
    exam = suite(80, seed=1, block=20)
    evaluator = Answering(exam, "0" * 80)
    found = score(evaluator, exam, is_beaten=racing(exam, "1" * 80).is_beaten)
    assert evaluator.asked == list(exam.order[:20])
    assert (found.n, found.of, found.complete, found.value) == (20, 80, False, 0.0)
    assert {at for at, bit in enumerate(found.bits) if bit != "-"} == set(exam.order[:20])
    interval = anytime_interval(0.0, 20)
    assert (found.low, found.high) == (interval.low, interval.high)


def test_what_is_known_is_not_asked_again_and_a_broken_off_run_ends_as_an_unbroken_one() -> None:
    exam = suite(80, seed=1, block=20)
    bits = "".join("01"[at % 3 == 0] for at in range(80))
    for rival in ("1" * 80, "0" * 80):
        whole = score(Answering(exam, bits), exam, is_beaten=racing(exam, rival).is_beaten)
        memory, first = Remembered(), Answering(exam, bits)
        score(first, exam, blocks=1, judged=memory)
        rest = Answering(exam, bits)
        assert score(rest, exam, is_beaten=racing(exam, rival).is_beaten, judged=memory) == whole
        assert not set(first.asked) & set(rest.asked)
        again = Answering(exam, bits)
        assert score(again, exam, is_beaten=racing(exam, rival).is_beaten, judged=memory) == whole
        assert again.calls == []


def test_what_is_known_beyond_a_rung_does_not_count_in_it() -> None:
    exam = suite(80, seed=1, block=20)
    memory, bits = Remembered(), "10" * 40
    score(Answering(exam, bits), exam, judged=memory)
    early = score(Answering(exam, bits), exam, blocks=1, judged=memory)
    assert early == score(Answering(exam, bits), exam, blocks=1)
    assert early.n == 20
    assert memory.bits == (bits, bits), "and nothing known is forgotten"


def test_weights_are_swapped_in_only_if_something_is_asked() -> None:
    exam = suite(20, seed=1, block=10)
    memory, swaps = Remembered(), []
    for _ in range(2):
        score(Answering(exam, "1" * 20), exam, judged=memory, ready=lambda: swaps.append(1))
    assert len(swaps) == 1


def test_a_checker_that_breaks_stops_the_run_and_names_the_problem() -> None:
    def broken(text: str, final: str) -> tuple[bool, bool]:
        if final == "2":
            raise ZeroDivisionError("inside")
        return True, True

    exam = Suite([Part(benchmark(checker=broken), problems("made", 4))])
    with pytest.raises(
        BenchmarkError, match=r"checker of 'made': it broke on problem 'made-2' \(ZeroDivisionError: inside\)"
    ):
        score(Answering(exam, "1111"), exam)


def test_time_goes_to_the_stages_by_name() -> None:
    from contextlib import contextmanager

    seen: list[tuple[str, int]] = []

    @contextmanager
    def watch(stage: str, count: int):  # type: ignore[no-untyped-def]
        seen.append((stage, count))
        yield

    exam = suite(5, block=3)
    found = score(Answering(exam, "11111"), exam, watch=watch)
    assert isinstance(found, Score)
    assert seen == [("generate", 3), ("check", 3), ("generate", 2), ("check", 2)]
