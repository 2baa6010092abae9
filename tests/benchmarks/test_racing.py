"""Racing: who could still be among the best goes on; the stated errors hold; the same candidates give the same race."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import Race, RaceRules, Suite
from benchmarks.racing import LOOKS, Races, halving_rungs, survivors
from tests.benchmarks.made import suite, weighted

BITS = st.text("01", min_size=1, max_size=60)


def drawn(rng: np.random.Generator, right: int, problems: int) -> str:
    """So many right answers, in random places."""
    places = set(rng.permutation(problems)[:right].tolist())
    return "".join("1" if place in places else "0" for place in range(problems))


def shown(exam: Suite, bits: str, count: int) -> str:
    """What is known of a candidate after `count` problems."""
    met = set(exam.order[:count])
    return "".join(bit if at in met else "-" for at, bit in enumerate(bits))


def asked(race: Race, exam: Suite, bits: str) -> int:
    """How many problems a candidate with these bits is asked."""
    count = 0
    for block in exam.blocks:
        if race.is_beaten(shown(exam, bits, count)):
            break
        count += len(block)
    return count


def against(exam: Suite, rival: str, error: float = 0.05) -> Race:
    race = Race(exam, RaceRules(keep=1, error=error))
    race.enter(rival)
    return race


def test_nobody_is_stopped_before_all_places_are_taken() -> None:
    exam = suite(40, seed=0, block=10)
    race = Race(exam, RaceRules(keep=2))
    for _ in range(2):
        assert asked(race, exam, "0" * 40) == 40
        race.enter("1" * 40)
    assert asked(race, exam, "0" * 40) == 10


def test_the_rival_holds_the_last_place_that_counts() -> None:
    exam = suite(40, block=10)
    race = Race(exam, RaceRules(keep=2))
    half, most = "10" * 20, "1110" * 10
    for bits in ("1000" * 10, "1" * 40, half):
        race.enter(bits)
    level = "01" * 20
    assert asked(race, exam, level) == 40
    race.enter(level)  # level with the rival, and later: the rival stays, so one worse than both is compared as before
    race.enter(most)
    assert race.is_beaten(half), "there are two better ones now"
    assert not race.is_beaten(most)


@settings(max_examples=300, deadline=None)
@given(BITS, st.integers(0, 2**32), st.integers(1, 25), st.floats(0.001, 0.5))
def test_who_cannot_catch_up_any_more_is_stopped_and_whoever_is_stopped_once_stays_so(
    rival: str, seed: int, block: int, error: float
) -> None:
    rng, total = np.random.default_rng(seed), len(rival)
    exam = suite(total, seed=seed, block=block)
    race = against(exam, rival, error)
    bits = drawn(rng, int(rng.integers(0, total + 1)), total)
    beaten = [race.is_beaten(shown(exam, bits, count)) for count in range(1, total + 1)]
    assert beaten == sorted(beaten)
    for count in {*range(block, total + 1, block), total}:
        seen = exam.order[:count]
        best = sum(bits[at] == "1" for at in seen) + total - count
        if best < rival.count("1"):
            assert beaten[count - 1]
    assert beaten[-1] or bits.count("1") >= rival.count("1")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.2, 5.0))
def test_with_weights_too_the_worse_is_beaten_at_the_end_and_the_better_never(seed: int, weight: float) -> None:
    rng = np.random.default_rng(seed)
    exam = weighted({"a": 15, "b": 25}, {"a": weight, "b": 1.0}, rng=rng, block=8)
    rival, bits = (drawn(rng, int(rng.integers(5, 36)), 40) for _ in range(2))
    worth = {line: sum(w for w, bit in zip(exam.weights, line, strict=True) if bit == "1") for line in (rival, bits)}
    race = against(exam, rival)
    if worth[bits] < worth[rival] - 1e-6:
        assert race.is_beaten(bits)
    assert not race.is_beaten("1" * 40)


@pytest.mark.parametrize(
    ("error", "shift", "several"), [(0.05, 0, False), (0.2, 0, False), (0.05, 3, False), (0.1, 0, True)]
)
def test_candidates_as_good_as_the_rival_are_stopped_no_oftener_than_stated(
    error: float, shift: int, several: bool
) -> None:
    rng = np.random.default_rng(1)
    runs, stopped = 1200, 0
    for run in range(runs):
        if several:  # the same number right in each part: level, whatever the weights
            exam = weighted({"a": 60, "b": 140}, {"a": 2.0, "b": 1.0}, rng=rng, block=20)
            rival, bits = (drawn(rng, 30, 60) + drawn(rng, 90, 140) for _ in range(2))
        else:
            exam = suite(200, seed=run, block=20)
            rival, bits = drawn(rng, 120, 200), drawn(rng, 120 + shift, 200)
        race = against(exam, rival, error)
        stopped += asked(race, exam, bits) < 200 or race.is_beaten(bits)
    assert stopped / runs <= error + 3 * (error * (1 - error) / runs) ** 0.5
    assert stopped > 0 or shift  # the test is no idle one


def test_bad_candidates_are_stopped_early() -> None:
    rng = np.random.default_rng(2)
    exam = suite(200, seed=2, block=20)
    race = against(exam, drawn(rng, 140, 200))
    counts = {
        right: np.mean([asked(race, exam, drawn(rng, right, 200)) for _ in range(100)]) for right in (0, 60, 100, 130)
    }
    assert counts[0] == 20
    assert counts[60] < 70
    assert counts[60] < counts[100] < counts[130] < 200


def test_a_campaign_finds_its_best_for_less_than_half_of_the_problems() -> None:
    """As campaigns are by default, with many programs close together at the top; ties in score count as equal."""
    rng, shares, overlaps = np.random.default_rng(3), [], []
    for run in range(4):
        exam = suite(200, seed=run, block=200 // LOOKS)
        races = Races(exam, finalists=15, learnt_from=6, error=RaceRules.error)
        difficulty, right, complete, used = rng.normal(0, 1.5, 200), [], [], 0
        for iteration in range(3):
            near, top = rng.normal(0.2, 0.5, 80), rng.normal(1.0 + 0.1 * iteration, 0.15, 30)
            skill = rng.permutation(np.concatenate([near, top]))[:, None]
            for line in skill - difficulty[None] + rng.logistic(0, 0.6, (110, 200)) > 0:
                bits = "".join("01"[int(bit)] for bit in line)
                count = 0
                for block in exam.blocks:
                    if races.is_beaten(iteration, shown(exam, bits, count)):
                        break
                    count += len(block)
                used += count
                right.append(bits.count("1"))
                if count == 200:
                    races.enter(iteration, bits)
                    complete.append(right[-1])
        best = sorted(right, reverse=True)[:15]
        overlaps.append(sum(score >= best[-1] for score in sorted(complete, reverse=True)[:15]) / 15)
        shares.append(used / (330 * 200))
    assert np.mean(shares) <= 0.5
    assert np.mean(overlaps) >= 0.95


def test_who_is_out_of_the_final_goes_on_for_a_place_of_its_iteration_unless_nothing_is_learnt() -> None:
    exam = suite(40, block=10)
    for learnt_from, beaten in ((1, False), (0, True)):
        races = Races(exam, finalists=1, learnt_from=learnt_from, error=0.05)
        races.enter(1, "1" * 40)
        assert races.is_beaten(1, shown(exam, "0" * 40, 10))
        assert races.is_beaten(2, shown(exam, "0" * 40, 10)) == beaten


def test_rungs_of_halving_end_with_everything_and_grow_by_eta() -> None:
    assert halving_rungs(8, 2) == (1, 2, 4, 8)
    assert halving_rungs(10, 3) == (1, 3, 10)
    assert halving_rungs(1, 2) == (1,)


def test_the_better_part_survives_and_never_fewer_than_count() -> None:
    values = [0.1, 0.9, 0.5, 0.9, 0.2, 0.5, 0.0]
    assert survivors(values, keep=1, eta=2) == (1, 2, 3, 5)
    assert survivors(values, keep=1, eta=4) == (1, 3)
    assert survivors(values, keep=3, eta=4) == (1, 2, 3), "of equal values the earlier one"
    assert survivors(values[:2], keep=15, eta=2) == (0, 1)
