"""Numbers over seeds and over a run's programs, against values worked out by hand or by a library."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp, ttest_rel

from engine.records import Outcome
from engine.study.measures import best_so_far, by_iteration, top_decile
from engine.study.over_seeds import OverSeeds, over_seeds, paired
from tests.engine.conftest import candidate

VALUES = st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=2, max_size=9)


@given(VALUES.filter(lambda values: len(set(values)) > 1))
def test_the_interval_is_students(values: list[float]) -> None:
    found = over_seeds(values)
    low, high = ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.low < found.mean < found.high


def test_one_seed_has_no_interval_and_none_no_mean() -> None:
    assert over_seeds([]) == OverSeeds(None, None, None, 0, 0)
    one = over_seeds([0.5])
    assert (one.mean, one.low, one.high, one.holds) == (0.5, None, None, False)


@pytest.mark.parametrize("values", [[0.5] * 5, [0.745 - 0.74, 0.735 - 0.73]], ids=["equal", "equal but for rounding"])
def test_seeds_that_all_agree_say_nothing_of_their_spread(values: list[float]) -> None:
    found = over_seeds(values)
    assert (found.low, found.high, found.holds, found.n) == (None, None, False, len(values))


def test_methods_are_compared_on_the_seeds_that_both_have() -> None:
    first, second = {1: 0.5, 2: 0.7, 3: 0.6, 9: 0.0}, {1: 0.4, 2: 0.5, 3: 0.55, 8: 1.0}
    found = paired(first, second)
    assert found.seeds == (1, 2, 3)
    low, high = ttest_rel([0.5, 0.7, 0.6], [0.4, 0.5, 0.55]).confidence_interval(0.95)
    assert (found.difference.low, found.difference.high) == pytest.approx((low, high))
    assert found.p == 2 / 8  # all three the same way: the largest of eight, and its mirror
    assert paired(first, {7: 1.0}).difference == OverSeeds(None, None, None, 0, 0)


def test_a_seed_without_a_value_is_counted_and_nothing_holds_by_the_others() -> None:
    all_of_them, none = {0: 0.5, 1: 0.6, 2: 0.7, 3: 0.5}, dict.fromkeys(range(4), 0.0)
    assert paired(all_of_them, none).difference.holds
    found = paired(all_of_them | {3: None}, none)
    assert (found.difference.n, found.difference.of, found.seeds, found.difference.holds) == (3, 4, (0, 1, 2), False)
    assert found.difference.low is not None
    assert found.difference.low > 0  # it is the missing seed that stands against it
    assert over_seeds([None, 0.5, 0.7]).mean == pytest.approx(0.6)
    nobody = paired(dict.fromkeys(range(4)), none)
    assert (nobody.difference.mean, nobody.difference.n, nobody.difference.of, nobody.p) == (None, 0, 4, None)


def test_two_seeds_hold_nothing() -> None:
    two = over_seeds([0.50, 0.51])
    assert two.low is not None
    assert two.low > 0
    assert not two.holds
    assert over_seeds([0.50, 0.51, 0.52]).holds


@pytest.mark.parametrize(
    ("differences", "p"), [([0.1, 0.1], 0.5), ([0.1, -0.1], 1.0), ([0.1] * 5, 2 / 32), ([0.3, 0.2, 0.1, -0.1], 6 / 16)]
)
def test_p_is_the_share_of_sign_flips_that_are_as_large(differences: list[float], p: float) -> None:
    found = paired(dict(enumerate(differences)), dict.fromkeys(range(len(differences)), 0.0))
    assert found.p == p


def test_values_that_differ_by_seed_alone_have_students_interval() -> None:
    seeds, weights = [0.1, 0.4, 0.2], [1.0, 2.0, 1.0, 1.0]
    found, plain = over_seeds([np.full(4, value) for value in seeds], weights), over_seeds(seeds)
    assert (found.mean, found.low, found.high) == pytest.approx((plain.mean, plain.low, plain.high))
    assert (found.problems, plain.problems) == (4, None)


def test_values_that_differ_by_problem_alone_have_the_interval_of_the_problems() -> None:
    problems = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    found = over_seeds([problems] * 3, [2.0] * 7)
    low, high = ttest_1samp(problems, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_problems_count_by_their_weights() -> None:
    found = over_seeds([np.array([1.0, 0.0]), np.array([1.0, 0.0])], [3.0, 1.0])
    assert found.mean == 0.75
    assert over_seeds([np.array([1.0, 0.0])], [3.0, 1.0]) == OverSeeds(0.75, None, None, 1, 1, 2)


@pytest.mark.parametrize(("of_seeds", "of_problems"), [(0.3, 0.3), (0.0, 0.5), (0.5, 0.0), (0.02, 0.2)])
def test_the_interval_over_seeds_and_problems_holds_what_it_promises(of_seeds: float, of_problems: float) -> None:
    """Drawn anew 600 times, it holds the true mean at least as often as it says, within what chance allows."""
    random, held = np.random.default_rng(7), 0
    for _ in range(600):
        seeds, problems = random.normal(0, of_seeds, (5, 1)), random.normal(0, of_problems, (1, 40))
        found = over_seeds(list(seeds + problems + random.normal(0, 1, (5, 40))), [1.0] * 40)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0 <= found.high
    assert held / 600 > 0.93


def test_seeds_alone_promise_too_much_where_problems_are_drawn_too() -> None:
    """Why there is a second kind of interval."""
    random, held = np.random.default_rng(7), 0
    for _ in range(300):
        table = random.normal(0, 0.3, (1, 40)) + random.normal(0, 0.5, (5, 40))
        found = over_seeds([float(row.mean()) for row in table])
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0 <= found.high
    assert held / 300 < 0.9


def test_methods_are_compared_by_problem_where_that_is_known() -> None:
    first = {1: np.array([1.0, 1.0, 0.0]), 2: np.array([1.0, 0.0, 1.0])}
    found = paired(first, {1: np.array([0.0, 1.0, 0.0]), 2: np.array([0.0, 0.0, 0.0])}, [1.0, 1.0, 1.0])
    assert found.difference.mean == pytest.approx(0.5)
    assert found.difference.problems == 3
    assert found.p == 0.5


def test_measures_of_an_iteration() -> None:
    rows = [candidate(i, i / 100) for i in range(1, 22)]  # 21 scored
    rows += [candidate(i, None) for i in range(22, 31)]
    twin = candidate(31, None, outcome=Outcome.DUPLICATE)
    object.__setattr__(twin.assessment, "duplicate_of", rows[0].program.id)
    measured = by_iteration([*rows, twin, candidate(40, 0.9, iteration=2)])
    one = measured[1]
    assert (one.programs, one.scored) == (31, 21)
    assert one.valid == pytest.approx(22 / 31)
    assert one.distinct == pytest.approx(21 / 22)
    assert (one.median, one.best) == (0.11, 0.21)
    assert one.top_decile == pytest.approx((0.21 + 0.20 + 0.19) / 3)  # a tenth of 21, rounded up
    assert measured[2].best == 0.9


def test_an_iteration_in_which_nothing_ran_has_no_scores() -> None:
    one = by_iteration([candidate(1, None)])[1]
    assert (one.valid, one.scored, one.distinct, one.median, one.top_decile, one.best) == (
        0.0,
        0,
        None,
        None,
        None,
        None,
    )
    assert top_decile([]) is None


def test_the_best_so_far_never_falls() -> None:
    rows = [candidate(1, None), candidate(2, 0.3), candidate(3, 0.2), candidate(4, 0.5)]
    assert best_so_far(rows[::-1]) == [None, 0.3, 0.3, 0.5]  # a program that fails has no score, not 0 either
