"""Numbers over seeds: means with intervals, and paired differences between methods.

A run is one observation: its programs share a generator, so only another seed is another piece of evidence. Intervals are Student's; with a handful of
seeds they are wide, and they are meant to be. What is measured on held-out problems has a second source of chance: all seeds meet the same problems, and other problems would give
other means however many seeds there were. There the interval is that of two crossed random effects, seeds and problems (Clark 1973,
https://doi.org/10.1016/S0022-5371(73)80014-3): the variances of both means add up, less what both count. The p-value is of the seeds alone and
makes no assumption on the distribution: signs are flipped in all ways.

A seed whose run has no value, because no program of it worked or because the program broke on other experts, gets no number in its place: a failure is never a score, not 0 either, since whoever applies
such a program gets no model at all. The mean is then of the other seeds and flatters the method, so it always says of how many it is (`n` of `of`), and nothing holds by it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

ByProblem = npt.NDArray[np.float64]
"""Of one seed, a value for each problem; as long as the weights of the problems."""
Value = float | ByProblem
"""Of one seed: a number, or where the problems are to be a source of chance too a number for each of them."""

LEVEL = 0.95
ROUNDING = 1e-12  # of shares: differences that are equal on paper
HOLDS_FROM = 3
"""Seeds from which an interval is drawn, and may say that a difference holds: that of two hangs on one number alone."""
MAX_FLIPS = 16
"""Seeds up to which all signs are tried: 65,536 ways."""


@dataclass(frozen=True)
class OverSeeds:
    """A mean over seeds.

    Attributes:
        mean: of the seeds' values; None where no seed has one.
        low, high: 95 % interval; None with fewer than two seeds, and where all seeds agree and nothing is known by problem: they say nothing of their spread.
        n: seeds that have a value.
        of: seeds in all.
        problems: on which the interval holds the chance of the draw; None: of the seeds alone.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    of: int
    problems: int | None = None

    @property
    def holds(self) -> bool:
        """Whether the interval lies on one side of 0, over HOLDS_FROM seeds or more, none of them without a value."""
        beyond = self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)
        return beyond and HOLDS_FROM <= self.n == self.of


@dataclass(frozen=True)
class PairedOverSeeds:
    """The difference of two methods by seed.

    Attributes:
        difference: of the first less the second.
        p: two-sided, of the mean over all flips of signs; 1 / 2^(n−1) at the least, None with more than MAX_FLIPS seeds or none.
        seeds: those of which both have a value.
    """

    difference: OverSeeds
    p: float | None
    seeds: tuple[int, ...]


def over_seeds(values: Sequence[Value | None], weights: Sequence[float] = ()) -> OverSeeds:
    """Mean and interval.

    Args:
        values: of the seeds: all numbers, or all by problem; None of a seed that has none.
        weights: of the problems; any scale.
    """
    of, known = len(values), [value for value in values if value is not None]
    n = len(known)
    if n == 0:
        return OverSeeds(None, None, None, 0, of)
    means = [mean_of(value, weights) for value in known]
    mean = fmean(means)
    problems = len(weights) if isinstance(known[0], np.ndarray) else None
    if n == 1:
        return OverSeeds(mean, None, None, 1, of, problems)
    of_seeds = stdev(means) ** 2 / n if stdev(means) >= ROUNDING else 0.0
    if problems is None:
        variance, freedom = of_seeds, n - 1.0
    else:
        variance, freedom = _crossed(np.stack([np.asarray(v) for v in known]), weights, of_seeds)
    if variance <= 0:
        return OverSeeds(mean, None, None, n, of, problems)
    half = float(student.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(variance)
    return OverSeeds(mean, mean - half, mean + half, n, of, problems)


def mean_of(value: Value, weights: Sequence[float]) -> float:
    """The number itself, or the weighted mean over problems."""
    return float(np.average(value, weights=weights)) if isinstance(value, np.ndarray) else value


def _crossed(table: ByProblem, weights: Sequence[float], of_seeds: float) -> tuple[float, float]:
    """Variance of the mean of a table, seeds × problems, and its degrees of freedom (Satterthwaite 1946, https://doi.org/10.2307/3002019).

    The spread of the seeds' means and that of the problems' means each hold the chance of a single answer, so it is taken off once; never below either of them.
    """
    share = np.asarray(weights) / np.sum(weights)
    seeds, problems = table.shape
    few = problems / (problems - 1) if problems > 1 else 1.0
    by_problem = table.mean(axis=0)
    by_seed = table @ share
    mean = float(by_problem @ share)
    of_problems = few * float(share**2 @ (by_problem - mean) ** 2)
    rest = table - by_problem - by_seed[:, None] + mean
    of_both = few * float((share**2 @ (rest**2).T).sum()) / (seeds * (seeds - 1))
    variance = max(of_seeds + of_problems - of_both, of_seeds, of_problems)
    known = of_seeds**2 / (seeds - 1) + (of_problems**2 / (problems - 1) if problems > 1 else 0.0)
    return variance, variance**2 / known if known else seeds - 1.0


def paired(
    first: Mapping[int, Value | None], second: Mapping[int, Value | None], weights: Sequence[float] = ()
) -> PairedOverSeeds:
    """The paired difference of two methods on the seeds that both have; `first` and `second` are values by seed, None of a seed that has none."""
    both = {seed: (first[seed], second[seed]) for seed in sorted(first.keys() & second.keys())}
    known = {seed: one - other for seed, (one, other) in both.items() if one is not None and other is not None}
    found = over_seeds([known.get(seed) for seed in both], weights)
    return PairedOverSeeds(found, _flipped([mean_of(d, weights) for d in known.values()]), tuple(known))


def _flipped(differences: Sequence[float]) -> float | None:
    n = len(differences)
    if not 0 < n <= MAX_FLIPS:
        return None
    seen = abs(sum(differences)) * (1 - 1e-12)
    ways = itertools.product((1, -1), repeat=n)
    as_large = sum(abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= seen for signs in ways)
    return float(as_large / 2**n)
