"""Numbers over seeds: means with intervals, and paired differences between methods.

A run is one observation: its programs share a generator, so only another seed is another piece of evidence. Intervals are Student's; with a handful of
seeds they are wide, and they are meant to be. The p-value beside them makes no assumption on the distribution: signs are flipped in all ways.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.stats import t as student

LEVEL = 0.95
ROUNDING = 1e-12  # of shares: differences that are equal on paper
MAX_FLIPS = 16
"""Seeds up to which all signs are tried: 65,536 ways."""


@dataclass(frozen=True)
class OverSeeds:
    """A mean over seeds.

    Attributes:
        mean: of the seeds' values.
        low, high: 95 % interval; None with fewer than two seeds, and where all seeds agree: they say nothing of their spread.
        n: seeds.
    """

    mean: float
    low: float | None
    high: float | None
    n: int

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


def over_seeds(values: Sequence[float]) -> OverSeeds | None:
    """Mean and interval; None without a value."""
    n = len(values)
    if n == 0:
        return None
    mean = fmean(values)
    if n == 1:
        return OverSeeds(mean, None, None, 1)
    spread = stdev(values)
    if spread < ROUNDING:
        return OverSeeds(mean, None, None, n)
    half = float(student.ppf((1 + LEVEL) / 2, n - 1)) * spread / math.sqrt(n)
    return OverSeeds(mean, mean - half, mean + half, n)


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> PairedOverSeeds | None:
    """The paired difference of two methods; `first` and `second` are values by seed. None where they share no seed."""
    seeds = tuple(sorted(first.keys() & second.keys()))
    differences = [first[seed] - second[seed] for seed in seeds]
    found = over_seeds(differences)
    return None if found is None else PairedOverSeeds(found, _flipped(differences), seeds)


def _flipped(differences: Sequence[float]) -> float | None:
    n = len(differences)
    if n > MAX_FLIPS:
        return None
    seen = abs(sum(differences)) * (1 - 1e-12)
    ways = itertools.product((1, -1), repeat=n)
    as_large = sum(abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= seen for signs in ways)
    return float(as_large / 2**n)
