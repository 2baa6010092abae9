"""How far a score can be trusted: intervals, paired differences, and many candidates at once.

Bits are strings of '0' and '1', one per problem in the order of the problems; two models are paired by position. Rates
and differences are fractions (0..1, -1..1), not percentage points.

No SciPy at run time: everything here needs only the normal quantile and binomial sums, both in the standard library.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True)
class Interval:
    """An estimate with a confidence interval.

    Attributes:
        estimate: the observed rate or difference.
        low, high: ends of the interval; low <= estimate <= high up to rounding.
        level: coverage, 0..1. For simultaneous intervals: of all of them together.
    """

    estimate: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class PairedDifference:
    """Model a against model b on the same problems.

    Attributes:
        interval: mean(a) - mean(b) with its bootstrap interval.
        only_a, only_b: problems that only a, only b got right.
        n: problems.
        p_value: exact McNemar, two-sided.
    """

    interval: Interval
    only_a: int
    only_b: int
    n: int
    p_value: float


def wilson(k: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of k successes in n trials; without continuity correction.

    Chosen over the plain normal interval because it stays inside 0..1 and holds its level at the small and extreme
    counts that dev sets give. Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953; recommended in Brown, Cai
    and DasGupta 2001, https://doi.org/10.1214/ss/1009213286.
    """
    assert 0 <= k <= n, (k, n)
    assert n > 0
    assert 0 < level < 1
    z = NormalDist().inv_cdf(0.5 + level / 2)
    rate = k / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    low = 0.0 if k == 0 else max(0.0, centre - half)
    high = 1.0 if k == n else min(1.0, centre + half)
    return Interval(rate, low, high, level)


def standard_error(k: int, n: int) -> float:
    """Standard error of the rate k/n: sqrt(p (1 - p) / n), as a fraction."""
    assert 0 <= k <= n
    assert n > 0
    return math.sqrt(k / n * (1 - k / n) / n)


def mcnemar(bits_a: str, bits_b: str) -> float:
    """Exact two-sided McNemar p-value: are a and b right equally often?

    A binomial test, with p = 1/2, on the problems that exactly one of the two got right. 1.0 if there are none.
    McNemar 1947, https://doi.org/10.1007/BF02295996.
    """
    only_a, only_b = _discordant(bits_a, bits_b)
    n = only_a + only_b
    if n == 0:
        return 1.0
    # Integers of any size: exact, where a float binomial would underflow beyond some 1000 discordant problems.
    tail = sum(math.comb(n, i) for i in range(min(only_a, only_b) + 1))
    return min(1.0, float(2 * tail / 2**n))


def paired_difference(
    bits_a: str, bits_b: str, rng: np.random.Generator, *, level: float = 0.95, resamples: int = 10_000
) -> PairedDifference:
    """mean(a) - mean(b) with a paired percentile bootstrap interval over problems, and McNemar's p.

    A pair has one of three differences (-1, 0, +1), so a resample of the pairs is one multinomial draw of their counts:
    the same distribution as resampling rows, without the rows. Efron and Tibshirani 1993, chapter 13.

    Args:
        rng: seeded by the caller, so that a table can be made again.
    """
    only_a, only_b = _discordant(bits_a, bits_b)
    n = len(bits_a)
    assert n > 0
    counts = rng.multinomial(n, [only_a / n, only_b / n, (n - only_a - only_b) / n], size=resamples)
    differences = (counts[:, 0] - counts[:, 1]) / n
    tail = (1 - level) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    interval = Interval((only_a - only_b) / n, float(low), float(high), level)
    return PairedDifference(interval, only_a, only_b, n, mcnemar(bits_a, bits_b))


def simultaneous_intervals(ks: Sequence[int], n: int, level: float = 0.95) -> tuple[Interval, ...]:
    """Wilson intervals that hold **together** at `level`, for the programs below the headline.

    Bonferroni: each of m intervals is taken at 1 - (1 - level) / m. It holds whatever the dependence, and scores of
    programs on the same problems are dependent (Šidák would be hardly narrower and needs more). Dunn 1961,
    https://doi.org/10.1080/01621459.1961.10482090. The given `level` is written into the intervals.
    """
    each = 1 - (1 - level) / max(1, len(ks))
    single = (wilson(k, n, each) for k in ks)
    return tuple(Interval(one.estimate, one.low, one.high, level) for one in single)


def _discordant(bits_a: str, bits_b: str) -> tuple[int, int]:
    assert len(bits_a) == len(bits_b), "paired statistics need the same problems"
    assert set(bits_a) | set(bits_b) <= {"0", "1"}
    pairs = list(zip(bits_a, bits_b, strict=True))
    return pairs.count(("1", "0")), pairs.count(("0", "1"))
