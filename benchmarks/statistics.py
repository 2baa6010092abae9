"""How far a score can be trusted: intervals, paired differences, and many candidates at once.

Bits are strings of '0' and '1', one per problem in the order of the problems; two models are paired by position, and a
position where one of them was not asked ('-') counts for neither. Rates and differences are fractions (0..1, -1..1), not percentage points.

No SciPy at run time: everything here needs only the normal quantile and binomial sums, both in the standard library.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

ItemBits = str
"""'1' right, '0' wrong, '-' not asked; one per problem in the order of the problems."""


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
    return wilson_share(k / n, n, level)


def wilson_share(rate: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's interval of an observed rate 0..1 that tells as much as `n` trials; `n` need not be whole.

    For weighted suites: `rate` is the weighted share, `n` Kish's effective number, (sum w)^2 / sum w^2. Korn and Graubard 1998 use
    the effective number so, with another interval: Survey Methodology 24, 193-201.
    """
    assert 0 <= rate <= 1, rate
    assert n > 0
    assert 0 < level < 1
    z = NormalDist().inv_cdf(0.5 + level / 2)
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    low = 0.0 if rate == 0 else max(0.0, centre - half)
    high = 1.0 if rate == 1 else min(1.0, centre + half)
    return Interval(rate, low, high, level)


def standard_error(rate: float, n: float) -> float:
    """Standard error of a rate 0..1 over n (effective) problems: sqrt(p (1 - p) / n), as a fraction."""
    assert 0 <= rate <= 1
    assert n > 0
    return math.sqrt(rate * (1 - rate) / n)


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
    tail = ways = 1
    for chosen in range(1, min(only_a, only_b) + 1):
        ways = ways * (n - chosen + 1) // chosen  # n over `chosen`, from the one before it
        tail += ways
    return min(1.0, float(2 * tail / 2**n))


def paired_difference(
    bits_a: ItemBits,
    bits_b: ItemBits,
    rng: np.random.Generator,
    *,
    weights: Sequence[float] | npt.NDArray[np.float64] | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
) -> PairedDifference:
    """mean(a) - mean(b) with a paired percentile bootstrap interval over problems, and McNemar's p.

    A pair has one of three differences (-1, 0, +1), so a resample of the pairs is one multinomial draw of their counts:
    the same distribution as resampling rows, without the rows. Efron and Tibshirani 1993, chapter 13.

    Args:
        rng: seeded by the caller, so that a table can be made again.
        weights: of the problems, positive, where they do not count alike; None: alike. Problems of one weight are a stratum, resampled within
            itself: suites weigh whole benchmarks. McNemar's p counts problems and takes no weights.
    """
    assert len(bits_a) == len(bits_b), "paired statistics need the same problems"
    shared = [at for at, pair in enumerate(zip(bits_a, bits_b, strict=True)) if "-" not in pair]
    assert shared
    a, b = ("".join(bits[at] for at in shared) for bits in (bits_a, bits_b))
    counted = np.ones(len(shared)) if weights is None else np.asarray(weights, dtype=float)[shared]
    whole, estimate, differences = counted.sum(), 0.0, np.zeros(resamples)
    for weight in np.unique(counted):
        inside = np.flatnonzero(counted == weight)
        only_a, only_b = _discordant("".join(a[at] for at in inside), "".join(b[at] for at in inside))
        n = len(inside)
        drawn = rng.multinomial(n, [only_a / n, only_b / n, (n - only_a - only_b) / n], size=resamples)
        differences += weight * (drawn[:, 0] - drawn[:, 1]) / whole
        estimate += weight * (only_a - only_b) / whole
    tail = (1 - level) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    only_a, only_b = _discordant(a, b)
    return PairedDifference(Interval(estimate, float(low), float(high), level), only_a, only_b, len(a), mcnemar(a, b))


def simultaneous_intervals(rates: Sequence[float], n: float, level: float = 0.95) -> tuple[Interval, ...]:
    """Wilson intervals that hold **together** at `level`, for the programs below the headline.

    Bonferroni: each of m intervals is taken at 1 - (1 - level) / m. It holds whatever the dependence, and scores of
    programs on the same problems are dependent (Šidák would be hardly narrower and needs more). Dunn 1961,
    https://doi.org/10.1080/01621459.1961.10482090. The given `level` is written into the intervals.

    Args:
        rates: observed, 0..1.
        n: (effective) number of problems behind each.
    """
    each = 1 - (1 - level) / max(1, len(rates))
    single = (wilson_share(rate, n, each) for rate in rates)
    return tuple(Interval(one.estimate, one.low, one.high, level) for one in single)


def newcombe(a: Interval, b: Interval) -> Interval:
    """Interval of rate a - rate b from two sets of problems of their own, as dev and test; the level is that of both.

    From the two Wilson intervals: Newcombe 1998, method 10, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I.
    """
    assert a.level == b.level
    difference = a.estimate - b.estimate
    low = difference - math.hypot(a.estimate - a.low, b.high - b.estimate)
    high = difference + math.hypot(a.high - a.estimate, b.estimate - b.low)
    return Interval(difference, low, high, a.level)


def anytime_interval(rate: float, n: float, level: float = 0.95) -> Interval:
    """Interval of a rate that holds at whatever moment the counting stopped, for whatever reason.

    Wilson's does not: who is stopped in a race has been unlucky, as a rule. From the ratio of prior to posterior density, the prior being
    uniform: a rate is in the interval as long as that ratio stays below 1 / (1 - level) (Ville's inequality). It estimates what Wilson's does, the rate
    over problems like these. Waudby-Smith and Ramdas 2020, proposition 1, https://arxiv.org/abs/2006.04347; Robbins 1970,
    https://doi.org/10.1214/aoms/1177696786.

    Args:
        rate: observed, 0..1.
        n: trials so far, > 0; with weights Kish's effective number, and the interval is then near to its level, not bound to it.
    """
    assert 0 <= rate <= 1, rate
    assert n > 0
    assert 0 < level < 1
    right, wrong = rate * n, (1 - rate) * n
    log_beta = math.lgamma(right + 1) + math.lgamma(wrong + 1) - math.lgamma(n + 2)

    def holds(share: float) -> bool:
        likely = (right * math.log(share) if right else 0.0) + (wrong * math.log1p(-share) if wrong else 0.0)
        return log_beta - likely < -math.log(1 - level)

    low = 0.0 if rate == 0 else _edge(holds, outside=0.0, inside=rate)
    high = 1.0 if rate == 1 else _edge(holds, outside=1.0, inside=rate)
    return Interval(rate, low, high, level)


def _edge(holds: Callable[[float], bool], *, outside: float, inside: float) -> float:
    """Where a property that holds at `inside` ends towards `outside`, to 1e-9."""
    while abs(outside - inside) > 1e-9:
        middle = (outside + inside) / 2
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return inside


def _discordant(bits_a: str, bits_b: str) -> tuple[int, int]:
    assert len(bits_a) == len(bits_b), "paired statistics need the same problems"
    assert set(bits_a) | set(bits_b) <= {"0", "1"}
    pairs = list(zip(bits_a, bits_b, strict=True))
    return pairs.count(("1", "0")), pairs.count(("0", "1"))
