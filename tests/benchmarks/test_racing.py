"""Racing: who could still be among the best goes on; the stated errors hold; the same candidates give the same race."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.racing import Race, RaceRules, anytime_interval, race_order

BITS = st.text("01", min_size=1, max_size=60)


def drawn(rng: np.random.Generator, right: int, problems: int) -> str:
    """So many right answers, in random places."""
    places = set(rng.permutation(problems)[:right].tolist())
    return "".join("1" if place in places else "0" for place in range(problems))


def asked(race: Race, bits: str) -> int:
    """How many problems a candidate with these bits is asked."""
    count = 0
    while True:
        count = race.next_look(count)
        if race.is_over(bits[:count]):
            return count


def against(rival: str, rules: RaceRules) -> Race:
    race = Race(len(rival), rules)
    for _ in range(rules.keep):
        race.enter(rival)
    return race


def test_nobody_is_stopped_before_all_places_are_taken() -> None:
    race = Race(40, RaceRules(keep=2, block=10))
    for _ in range(2):
        assert race.rival is None
        assert asked(race, "0" * 40) == 40
        race.enter("1" * 40)
    assert asked(race, "0" * 40) == 10


def test_the_rival_holds_the_last_place_that_counts() -> None:
    race = Race(4, RaceRules(keep=2))
    for bits in ("1000", "1111", "1100"):
        race.enter(bits)
    assert race.rival == "1100"
    race.enter("0011")  # level with it, and later
    assert race.rival == "1100"
    race.enter("1110")
    assert race.rival == "1110"


@settings(max_examples=300, deadline=None)
@given(BITS, st.randoms(use_true_random=False), st.integers(1, 25), st.floats(0.001, 0.5))
def test_who_cannot_catch_up_any_more_is_stopped_and_whoever_is_stopped_once_stays_so(
    rival: str, random: object, block: int, error: float
) -> None:
    rng = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    race = against(rival, RaceRules(keep=1, block=block, error=error))
    bits = drawn(rng, int(rng.integers(0, len(rival) + 1)), len(rival))
    beaten = [race.is_beaten(bits[:count]) for count in range(1, len(rival) + 1)]
    assert beaten == sorted(beaten)
    for count in {*range(block, len(rival) + 1, block), len(rival)}:
        best = bits[:count].count("1") + len(rival) - count
        if best < rival.count("1"):
            assert beaten[count - 1]
    assert beaten[-1] or bits.count("1") >= rival.count("1")


@pytest.mark.parametrize(("error", "shift"), [(0.05, 0), (0.2, 0), (0.05, 3)])
def test_candidates_as_good_as_the_rival_are_stopped_no_oftener_than_stated(error: float, shift: int) -> None:
    rng = np.random.default_rng(1)
    runs, stopped = 1500, 0
    for _ in range(runs):
        rival = drawn(rng, 120, 200)
        race = against(rival, RaceRules(keep=1, block=20, error=error))
        bits = drawn(rng, 120 + shift, 200)
        stopped += asked(race, bits) < 200 or race.is_beaten(bits)
    assert stopped / runs <= error + 3 * (error * (1 - error) / runs) ** 0.5
    assert stopped > 0 or shift  # the test is no idle one


def test_bad_candidates_are_stopped_early() -> None:
    rng = np.random.default_rng(2)
    race = against(drawn(rng, 140, 200), RaceRules(keep=1, block=20))
    counts = {right: np.mean([asked(race, drawn(rng, right, 200)) for _ in range(100)]) for right in (0, 60, 100, 130)}
    assert counts[0] == 20
    assert counts[60] < 70
    assert counts[60] < counts[100] < counts[130] < 200


def test_a_whole_race_finds_the_best_for_less_than_half_of_the_problems() -> None:
    """300 candidates of unlike skill over problems of unlike difficulty; ties in score count as equal."""
    rng = np.random.default_rng(3)
    shares, overlaps = [], []
    for _ in range(10):
        skill = np.minimum(rng.normal(-0.3, 1.0, 300), 1.6)[:, None]
        right = skill + rng.normal(0, 1.5, 200)[None] + rng.normal(0, 0.6, (300, 200)) > -0.5
        order = race_order(200, rng)
        lines = ["".join("1" if line[at] else "0" for at in order) for line in right]
        race, complete, used = Race(200, RaceRules(keep=15)), [], 0
        for bits in lines:
            count = asked(race, bits)
            used += count
            if count == 200 and not race.is_beaten(bits):
                race.enter(bits)
                complete.append(bits.count("1"))
        best = sorted((bits.count("1") for bits in lines), reverse=True)[:15]
        overlaps.append(sum(score >= best[-1] for score in sorted(complete, reverse=True)[:15]) / 15)
        shares.append(used / (300 * 200))
    assert np.mean(shares) <= 0.5
    assert np.mean(overlaps) >= 0.95


def test_an_order_has_every_problem_once_and_follows_its_seed() -> None:
    one, same, other = (race_order(50, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one == same != other
    assert sorted(one) == list(range(50))


@pytest.mark.parametrize("right", [0, 30, 100, 197, 200])
def test_an_interval_holds_at_all_times_together(right: int) -> None:
    rng = np.random.default_rng(right)
    runs, missed = 300, 0
    for _ in range(runs):
        bits = drawn(rng, right, 200)
        looks = (anytime_interval(bits[:count], 200) for count in range(10, 201, 10))
        missed += not all(one.low <= right / 200 <= one.high for one in looks)
    assert missed / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


def test_an_interval_closes_in_on_the_share_and_is_exact_at_the_end() -> None:
    bits = "1101" * 50
    widths = [one.high - one.low for one in (anytime_interval(bits[:count], 200) for count in (4, 20, 100, 180, 200))]
    assert widths == sorted(widths, reverse=True)
    whole = anytime_interval(bits, 200)
    assert (whole.low, whole.estimate, whole.high) == (0.75, 0.75, 0.75)
