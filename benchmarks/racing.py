"""Racing: a candidate is asked problem after problem, and no further once it cannot reach the best ones any more.

All candidates meet the problems in one order, drawn at random before the race, in blocks (`suite.Suite`). What a candidate has to
reach is the score of the last place that counts, among the candidates before it that were asked everything. Before each block it
is compared, problem by problem, with what these best ones usually get: so a problem that all solve, or none, tells nothing. It
stops when what it has shown would be too unlikely for a candidate that reaches that score over all problems.

Covered: the test may be looked at after every block (an e-process: Ville's inequality holds at all times together); problems are
drawn without replacement, so the last ones weigh most; ties count for the candidate; problems may carry weights. Not covered: the
stated error holds for a bar that does not depend on the order, and ours was set by candidates that the same order let through.
`benchmarks/speed/racing.py` measures what is lost in all.

Waudby-Smith and Ramdas 2023, "Estimating means of bounded random variables by betting", section 5,
https://doi.org/10.1093/jrsssb/qkad009; 2020, "Confidence sequences for sampling without replacement", https://arxiv.org/abs/2006.04347.

The alternative is successive halving (Jamieson and Talwalkar 2016, https://arxiv.org/abs/1502.07943): all candidates are asked a few
problems, the better ones more, and so on. It states no error, and needs all candidates of an iteration before it asks the second
time; `halving_rungs` and `survivors` are its rules.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.statistics import ItemBits
from benchmarks.suite import Suite

__all__ = ["LOOKS", "Race", "RaceRules", "Races", "halving_rungs", "survivors"]

Floats = npt.NDArray[np.float64]

LOOKS = 8
"""Blocks of a suite where nobody says otherwise: more looks stop earlier, but smaller batches cost more a problem."""

_STAKES = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 0.95])
"""Shares of the largest fair stake; the wealth is spread evenly over them, since nobody knows beforehand which one suits."""

_LEVEL = 1e-9
"""Sums of weights that differ by less are the same."""


@dataclass(frozen=True)
class RaceRules:
    """What a race is about.

    Attributes:
        keep: how many places count, >= 1.
        error: bound for the chance that a candidate is stopped which would reach the last place, 0..1. It bites, if at all, those
            that would just reach it, and they are one place of many; the better a candidate, the smaller its chance.
    """

    keep: int = 15
    error: float = 0.3


class Race:
    """A race over the items of a suite. Bits are those of a `Score`: in the suite's order, '-' where nothing was asked.

    The same candidates in the same order give the same decisions, so a resumed run ends as an unbroken one.
    """

    def __init__(self, suite: Suite, rules: RaceRules) -> None:
        assert rules.keep >= 1
        assert 0 < rules.error < 1
        self._rules, self._suite = rules, suite
        self._order = np.array(suite.order)
        weights = suite.weights[self._order] * len(suite)
        self._weights: Floats = np.ones(len(suite)) if np.ptp(weights) < _LEVEL else weights  # mean 1
        self._looks = np.cumsum([len(block) for block in suite.blocks])
        self._best: list[Floats] = []  # of those asked everything the best `keep`, what each problem won them
        self._to_reach: float | None = None
        self._usual: Floats = np.zeros(len(suite))

    def enter(self, bits: ItemBits) -> None:
        """A candidate was asked everything. Of equal scores the earlier one is ahead."""
        right = self._right(bits)
        assert len(right) == len(self._suite)
        self._best.append(right)
        self._best.sort(key=lambda one: -round(float(one.sum()), 9))
        del self._best[self._rules.keep :]
        self._usual = np.mean(self._best, axis=0)
        if len(self._best) == self._rules.keep:
            self._to_reach = float(self._best[-1].sum())

    def is_beaten(self, bits: ItemBits) -> bool:
        """Whether a candidate is stopped that has shown these bits. Looks were after every block, and what was once lost stays lost."""
        right = self._right(bits)
        if self._to_reach is None or not len(right):
            return False
        count, total = len(right), len(self._suite)
        differences = right - self._usual[:count]
        ahead, top = np.cumsum(differences), float((self._weights - self._usual).max())
        # mean of what was left before each problem, for a candidate that ends level with the last place
        due = (self._to_reach - self._usual.sum() - (ahead - differences)) / (total - np.arange(count))
        possible = due < top - _LEVEL
        stakes = _STAKES / np.where(possible, top - due, 1.0)[:, None]
        gains = np.where(possible, differences - due, 0.0)[:, None]
        wealth = np.exp(np.minimum(np.cumsum(np.log1p(-stakes * gains), axis=0), 700.0)).mean(axis=1)
        at_most = np.cumsum(right) + self._weights.sum() - np.cumsum(self._weights[:count])
        lost = (at_most < self._to_reach - _LEVEL) | (np.maximum.accumulate(wealth) >= 1 / self._rules.error)
        return bool(np.any(lost & np.isin(np.arange(1, count + 1), self._looks)))

    def _right(self, bits: ItemBits) -> Floats:
        """Weights won, in the order of the race, up to the first problem that was not asked."""
        raced = np.frombuffer(bits.encode("ascii"), np.uint8)[self._order]
        unasked = np.flatnonzero(raced == ord("-"))
        asked = int(unasked[0]) if len(unasked) else len(raced)
        won: Floats = np.where(raced[:asked] == ord("1"), self._weights[:asked], 0.0)
        return won


class Races:
    """The races of one campaign: for the places of the final, among all its candidates, and for those that are learnt from, within an iteration.

    A candidate is asked further as long as it can reach a place in one of them.

    Args:
        suite: what all are asked.
        finalists: places among all, >= 1.
        learnt_from: places within each iteration; 0: nothing is learnt.
        error: see `RaceRules`.
    """

    def __init__(self, suite: Suite, *, finalists: int, learnt_from: int, error: float) -> None:
        self._suite, self._learnt_from, self._error = suite, learnt_from, error
        self._among_all = Race(suite, RaceRules(finalists, error))
        self._within: dict[int, Race] = {}

    def enter(self, iteration: int, bits: ItemBits) -> None:
        """A candidate of `iteration` was asked everything."""
        self._among_all.enter(bits)
        if race := self._race_within(iteration):
            race.enter(bits)

    def is_beaten(self, iteration: int, bits: ItemBits) -> bool:
        """Whether a candidate of `iteration` is stopped that has shown these bits."""
        race = self._race_within(iteration)
        return self._among_all.is_beaten(bits) and (race is None or race.is_beaten(bits))

    def _race_within(self, iteration: int) -> Race | None:
        if not self._learnt_from:
            return None
        return self._within.setdefault(iteration, Race(self._suite, RaceRules(self._learnt_from, self._error)))


def halving_rungs(blocks: int, eta: int) -> tuple[int, ...]:
    """After how many blocks a rung ends, ascending, the last one all of them: each rung asks `eta` times as much as the one before.

    Args:
        blocks: >= 1.
        eta: >= 2.
    """
    assert blocks >= 1
    assert eta >= 2
    rungs = [blocks]
    while rungs[-1] > 1:
        rungs.append(max(1, rungs[-1] // eta))
    return tuple(reversed(rungs))


def survivors(values: Sequence[float], keep: int, eta: int) -> tuple[int, ...]:
    """Places of those who go on to the next rung, ascending: the best `eta`-th part, at least `keep`; of equal values the earlier one."""
    count = min(len(values), max(keep, math.ceil(len(values) / eta)))
    ranked = sorted(range(len(values)), key=lambda at: (-values[at], at))
    return tuple(sorted(ranked[:count]))
