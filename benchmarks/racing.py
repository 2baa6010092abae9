"""Racing: a candidate is asked problem after problem, and no further once it cannot reach the best ones any more.

All candidates meet the problems in one order, drawn at random before the race, in blocks. After each block a candidate is compared, problem by problem, with its
rival: of the candidates before it that were asked everything, the one in the last place that counts. It stops when what it has shown would be too
unlikely for a candidate that is level with the rival or better over all problems.

Covered: the test may be looked at after every block (an e-process: Ville's inequality holds at all times together); problems are drawn without
replacement, so the last ones weigh most; ties count for the candidate. Not covered: the rival is one of those that the same order has let
through, so over a whole campaign the stated error is exact for each pair and near for all of them (`tests/benchmarks/test_racing.py` measures it).

Waudby-Smith and Ramdas 2023, "Estimating means of bounded random variables by betting", section 5, https://doi.org/10.1093/jrsssb/qkad009;
Waudby-Smith and Ramdas 2020, "Confidence sequences for sampling without replacement", https://arxiv.org/abs/2006.04347.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.scores import ItemBits
from benchmarks.statistics import Interval

__all__ = ["Race", "RaceRules", "anytime_interval", "race_order"]

_STAKES = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 0.95])
"""Shares of the largest fair stake; the wealth is spread evenly over them, since nobody knows beforehand which one suits."""


@dataclass(frozen=True)
class RaceRules:
    """What a race is about.

    Attributes:
        keep: how many places count, >= 1.
        block: problems between two looks, >= 1.
        error: bound for the chance that a candidate is stopped which is level with its rival, or better, over all problems; 0..1.
    """

    keep: int = 15
    block: int = 20
    error: float = 0.05


def race_order(problems: int, rng: np.random.Generator) -> tuple[int, ...]:
    """The order in which all candidates meet the problems: place in the race -> number of the problem."""
    return tuple(int(number) for number in rng.permutation(problems))


class Race:
    """A race over `problems` problems. Bits are in the order of the race.

    The same candidates in the same order give the same decisions, so a resumed run ends as an unbroken one.
    """

    def __init__(self, problems: int, rules: RaceRules) -> None:
        assert problems >= 1
        assert rules.keep >= 1
        assert rules.block >= 1
        assert 0 < rules.error < 1
        self._problems, self._rules = problems, rules
        self._complete: list[ItemBits] = []
        self._rival: ItemBits | None = None

    @property
    def rival(self) -> ItemBits | None:
        """The bits to beat; None as long as fewer candidates are complete than places count."""
        return self._rival

    def enter(self, bits: ItemBits) -> None:
        """A candidate was asked everything. Of equal scores the earlier one is ahead."""
        assert len(bits) == self._problems
        self._complete.append(bits)
        self._complete.sort(key=lambda one: -one.count("1"))
        del self._complete[self._rules.keep :]
        if len(self._complete) == self._rules.keep:
            self._rival = self._complete[-1]

    def next_look(self, asked: int) -> int:
        """After how many problems in all a candidate is looked at next."""
        return min(asked + self._rules.block - asked % self._rules.block, self._problems)

    def is_over(self, bits: ItemBits) -> bool:
        """Whether a candidate with these first bits need not be asked further: it has been asked everything, or is stopped."""
        return len(bits) == self._problems or self.is_beaten(bits)

    def is_beaten(self, bits: ItemBits) -> bool:
        """Whether a candidate with these first bits is stopped. Looks were at every block before; a wealth reached at one of them stays reached."""
        if self._rival is None or not bits:
            return False
        count, total = len(bits), self._problems
        rival = _numbers(self._rival)
        differences = _numbers(bits) - rival[:count]
        ahead = np.cumsum(differences)
        left = total - np.arange(count)
        least = -(ahead - differences) / left  # mean of what was left before each, for a candidate that ends level
        if np.any(least > 1) or np.any((least == 1) & (differences < 1)):
            return True  # it would have had to win more than there was, or lost where it had to win all
        stakes = _STAKES / (1 - np.where(least < 1, least, 0.0))[:, None]
        gains = np.where(least < 1, differences - least, 0.0)[:, None]
        wealth = np.exp(np.minimum(np.cumsum(np.log1p(-stakes * gains), axis=0), 700.0)).mean(axis=1)
        to_win = (total - rival.sum()) - np.cumsum(1 - rival[:count])  # problems to come that the rival got wrong
        looks = np.arange(1, count + 1)
        looked = (looks % self._rules.block == 0) | (looks == total)
        return bool(np.any(looked & ((ahead + to_win < 0) | (wealth >= 1 / self._rules.error))))


def _numbers(bits: ItemBits) -> npt.NDArray[np.int64]:
    return np.frombuffer(bits.encode("ascii"), np.uint8).astype(np.int64) - ord("0")


def anytime_interval(bits: ItemBits, problems: int, level: float = 0.95) -> Interval:
    """Interval for the share of all `problems` that a candidate would get right, from the first ones in random order.

    It holds at whatever moment the asking stopped, for whatever reason (Wilson's does not: who is stopped has been unlucky, as a rule). From the
    ratio of prior and posterior of the number right, the prior being uniform; exact integers. Waudby-Smith and Ramdas 2020, theorem 1.

    Args:
        bits: of the problems asked, at least one.
        problems: all of them.
        level: chance that the interval holds at all times together, 0..1.
    """
    asked, right = len(bits), bits.count("1")
    assert 0 < asked <= problems
    assert 0 < level < 1
    weight = math.comb(problems + 1, asked + 1)
    held = [
        total
        for total in range(right, problems - (asked - right) + 1)
        if weight * (1 - level) < (problems + 1) * math.comb(total, right) * math.comb(problems - total, asked - right)
    ]
    return Interval(right / asked, min(held) / problems, max(held) / problems, level)
