"""Numbers over seeds: means with intervals, and paired differences between methods.

A run is one observation: its programs share a generator, so only another seed is another piece of evidence. Intervals are Student's; with a handful of
seeds they are wide, and they are meant to be. What is measured on held-out problems has a second source of chance: all seeds meet the same problems, and other problems would give
other means however many seeds there were. There the interval is that of two crossed random effects, seeds and problems (Clark 1973,
https://doi.org/10.1016/S0022-5371(73)80014-3): the variances of both means add up, less what both count. The p-value is of the seeds alone and
makes no assumption on the distribution: signs are flipped in all ways.
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
MAX_FLIPS = 16
"""Seeds up to which all signs are tried: 65,536 ways."""


@dataclass(frozen=True)
class OverSeeds:
    """A mean over seeds.

    Attributes:
        mean: of the seeds' values.
        low, high: 95 % interval; None with fewer than two seeds, and where all seeds agree and nothing is known by problem: they say nothing of their spread.
        n: seeds.
        problems: on which the interval holds the chance of the draw; None: of the seeds alone.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    problems: int | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class PairedOverSeeds:
    """The difference of two methods by seed.

    Attributes:
        difference: of the first less the second.
        p: two-sided, of the mean over all flips of signs; 1 / 2^(n−1) at the least, None with more than MAX_FLIPS seeds.
        seeds: those that both have.
    """

    difference: OverSeeds
    p: float | None
    seeds: tuple[int, ...]


def over_seeds(values: Sequence[Value], weights: Sequence[float] = ()) -> OverSeeds | None:
    """Mean and interval; None without a value.

    Args:
        values: of the seeds: all numbers, or all by problem.
        weights: of the problems; any scale.
    """
    n = len(values)
    if n == 0:
        return None
    means = [mean_of(value, weights) for value in values]
    mean = fmean(means)
    problems = len(weights) if isinstance(values[0], np.ndarray) else None
    if n == 1:
        return OverSeeds(mean, None, None, 1, problems)
    of_seeds = stdev(means) ** 2 / n if stdev(means) >= ROUNDING else 0.0
    if problems is None:
        variance, freedom = of_seeds, n - 1.0
    else:
        variance, freedom = _crossed(np.stack([np.asarray(v) for v in values]), weights, of_seeds)
    if variance <= 0:
        return OverSeeds(mean, None, None, n, problems)
    half = float(student.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(variance)
    return OverSeeds(mean, mean - half, mean + half, n, problems)


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
    first: Mapping[int, Value], second: Mapping[int, Value], weights: Sequence[float] = ()
) -> PairedOverSeeds | None:
    """The paired difference of two methods; `first` and `second` are values by seed. None where they share no seed."""
    seeds = tuple(sorted(first.keys() & second.keys()))
    differences: list[Value] = [first[seed] - second[seed] for seed in seeds]
    found = over_seeds(differences, weights)
    return (
        None if found is None else PairedOverSeeds(found, _flipped([mean_of(d, weights) for d in differences]), seeds)
    )


def _flipped(differences: Sequence[float]) -> float | None:
    n = len(differences)
    if n > MAX_FLIPS:
        return None
    seen = abs(sum(differences)) * (1 - 1e-12)
    ways = itertools.product((1, -1), repeat=n)
    as_large = sum(abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= seen for signs in ways)
    return float(as_large / 2**n)
