"""How far what was expected of programs, before their score, and the score agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean


@dataclass(frozen=True)
class Agreement:
    """What was expected of programs before they were measured, by a judge or a surrogate, against their dev scores.

    Attributes:
        programs: expected something of, and scored on all dev problems.
        pairwise: share of the pairs with different scores that are ordered rightly, 0..1, a tie in what was expected counting half; None without a pair.
        spearman: rank correlation, −1..1; None where one side is constant.
    """

    programs: int
    pairwise: float | None
    spearman: float | None

    @property
    def said(self) -> str:
        """In words; "" without a pair."""
        if self.pairwise is None:
            return ""
        rank = "" if self.spearman is None else f", Spearman {self.spearman:+.2f}"
        return f"{100 * self.pairwise:.0f} % of pairs in the order of the scores{rank} (n = {self.programs})"


def agree(known: Sequence[tuple[float, float]]) -> Agreement:
    """The agreement of (expected, score) of some programs."""
    from scipy.stats import spearmanr

    pairs = [
        0.5 if a == b else float((a > b) == (x > y))
        for index, (a, x) in enumerate(known)
        for b, y in known[:index]
        if x != y
    ]
    varied = all(len(set(side)) > 1 for side in zip(*known, strict=True)) if known else False
    rank = float(spearmanr(*zip(*known, strict=True)).statistic) if varied else None
    return Agreement(len(known), mean(pairs) if pairs else None, rank)
