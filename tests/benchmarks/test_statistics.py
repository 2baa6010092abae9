import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from benchmarks.statistics import (
    anytime_interval,
    mcnemar,
    newcombe,
    paired_difference,
    simultaneous_intervals,
    standard_error,
    wilson,
    wilson_share,
)

bits = st.text("01", min_size=1, max_size=60)


def test_wilson_gives_newcombes_published_values():
    # Newcombe 1998 (Statistics in Medicine 17, 857-872), table I, method 3.
    for k, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        interval = wilson(k, n)
        assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


@given(
    st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95, 0.99])
)
def test_wilson_agrees_with_scipy(count, level):
    ours, theirs = wilson(*count, level), binomtest(*count).proportion_ci(level, method="wilson")
    assert ours.low == pytest.approx(theirs.low, abs=1e-9)
    assert ours.high == pytest.approx(theirs.high, abs=1e-9)
    assert ours.low <= ours.estimate <= ours.high


@given(st.lists(st.sampled_from(["00", "01", "10", "11"]), min_size=1, max_size=80))
def test_mcnemar_is_the_exact_binomial_test_on_the_discordant_pairs(pairs):
    a, b = ("".join(column) for column in zip(*pairs, strict=True))
    discordant = pairs.count("01") + pairs.count("10")
    expected = binomtest(pairs.count("10"), discordant).pvalue if discordant else 1.0
    assert mcnemar(a, b) == pytest.approx(expected, abs=1e-12)
    assert mcnemar(a, b) == mcnemar(b, a)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 1), (1, 0), (7, 8), (50, 3), (311, 290), (700, 650)])
def test_mcnemar_is_exact_whatever_the_counts(only_a, only_b):
    n = only_a + only_b
    tail = sum(math.comb(n, i) for i in range(min(only_a, only_b) + 1))
    assert mcnemar("1" * only_a + "0" * only_b, "0" * only_a + "1" * only_b) == min(1.0, 2 * tail / 2**n)


def test_mcnemar_survives_thousands_of_discordant_problems():
    assert mcnemar("1" * 3000, "0" * 3000) == 0.0
    assert mcnemar("10" * 2000, "01" * 2000) == 1.0


def test_paired_bootstrap_agrees_with_resampling_the_rows():
    rng = np.random.default_rng(1)
    a, b = rng.random(150) < 0.6, rng.random(150) < 0.5
    rows = rng.integers(0, 150, size=(20_000, 150))
    expected = np.quantile((a.astype(float) - b)[rows].mean(axis=1), [0.025, 0.975])
    texts = ("".join("01"[int(bit)] for bit in row) for row in (a, b))
    found = paired_difference(*texts, np.random.default_rng(2)).interval
    assert found.estimate == pytest.approx(a.mean() - b.mean())
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.01)


def test_paired_difference_repeats_with_its_seed_and_turns_its_sign():
    a, b = "1101101110", "1000101010"
    first, again = (paired_difference(a, b, np.random.default_rng(5)) for _ in range(2))
    assert first == again
    assert (first.only_a, first.only_b, first.n) == (3, 0, 10)
    assert paired_difference(b, a, np.random.default_rng(5)).interval.estimate == -first.interval.estimate


@given(bits)
def test_a_model_does_not_differ_from_itself(one):
    same = paired_difference(one, one, np.random.default_rng(0))
    assert (same.interval.low, same.interval.high, same.p_value) == (0.0, 0.0, 1.0)


def test_simultaneous_intervals_are_wider_and_hold_together():
    rng = np.random.default_rng(7)
    alone, together = wilson(60, 100), simultaneous_intervals([0.6] * 14, 100)[0]
    assert together.low < alone.low < alone.high < together.high
    held = sum(
        all(
            one.low <= 0.55 <= one.high
            for one in simultaneous_intervals((rng.binomial(200, 0.55, 14) / 200).tolist(), 200)
        )
        for _ in range(400)
    )
    assert held / 400 >= 0.93


def test_one_simultaneous_interval_is_a_plain_one():
    assert simultaneous_intervals([0.6], 100) == (wilson(60, 100),)


def test_standard_error_is_that_of_a_proportion():
    assert standard_error(0.25, 200) == pytest.approx(math.sqrt(0.25 * 0.75 / 200))
    assert standard_error(0.0, 10) == 0.0


def test_a_weighted_interval_is_wilsons_at_the_effective_number():
    assert wilson_share(0.3, 100) == wilson(30, 100)
    assert wilson_share(0.3, 50.5).low < wilson_share(0.3, 100).low


def test_unasked_problems_count_for_neither_of_a_pair():
    found = paired_difference("11-0-1", "10--11", np.random.default_rng(0))
    assert (found.n, found.only_a, found.only_b) == (3, 1, 0)
    assert found.interval.estimate == pytest.approx(1 / 3)


def test_a_weighted_difference_agrees_with_resampling_the_rows_within_each_part():
    rng = np.random.default_rng(3)
    a, b = rng.random(150) < 0.6, rng.random(150) < 0.5
    weights = np.array([0.5 / 50] * 50 + [0.5 / 100] * 100)
    rows = np.hstack([rng.integers(0, 50, size=(20_000, 50)), rng.integers(50, 150, size=(20_000, 100))])
    differences = ((a.astype(float) - b) * weights)[rows].sum(axis=1)
    texts = ("".join("01"[int(bit)] for bit in row) for row in (a, b))
    found = paired_difference(*texts, np.random.default_rng(2), weights=weights).interval
    assert found.estimate == pytest.approx(((a.astype(float) - b) * weights).sum())
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])), abs=0.01)


def test_the_gap_of_two_sets_has_newcombes_published_interval():
    # Newcombe 1998 (Statistics in Medicine 17, 873-890), table II, method 10: 56/70 - 48/80 and 9/10 - 3/10.
    for (k, n), (m, o), low, high in (((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090)):
        gap = newcombe(wilson(k, n), wilson(m, o))
        assert (round(gap.low, 4), round(gap.high, 4)) == (low, high)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.97])
def test_an_anytime_interval_holds_at_all_times_together_where_wilsons_does_not(share):
    rng = np.random.default_rng(int(1000 * share))
    runs, missed, missed_by_wilson = 400, 0, 0
    for _ in range(runs):
        right = np.cumsum(rng.random(400) < share)
        looks = [(int(right[n - 1]), n) for n in range(5, 401, 5)]
        found = [(anytime_interval(k / n, n), wilson(k, n)) for k, n in looks]
        missed += not all(one.low <= share <= one.high for one, _ in found)
        missed_by_wilson += not all(one.low <= share <= one.high for _, one in found)
    assert missed / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5
    assert missed_by_wilson / runs > 0.15


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_anytime_interval_holds_the_rate_and_is_wider_than_wilsons(count):
    k, n = count
    found, plain = anytime_interval(k / n, n), wilson(k, n)
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert found.high - found.low >= plain.high - plain.low - 0.02
