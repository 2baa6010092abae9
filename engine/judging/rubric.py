"""The rubric by which a generator judges programs: five criteria, one point each (https://arxiv.org/abs/2401.10020 found adding points far better
than choosing among grades). Each is tied to a band of measured dev scores, so what a program deserves is known as soon as it was measured.
Programs that a race stopped count among all that were measured, and stand behind the others as in `ranking.py`: they are never among the best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from engine.ranking import scored_best_first
from engine.records import Candidate, Outcome, Trial

BEST = 5
"""Points of a program that meets every criterion; the least is 0."""

CRITERIA = (
    "It runs and gives a sound merge.",
    "The merged model solves at least as many problems as the seed.",
    "It solves at least as many as the best single expert.",
    "It is among the better quarter of all merges measured so far.",
    "It is among the best tenth of them.",
)


@dataclass(frozen=True)
class Rubric:
    """Dev shares, 0..1, that a program has to reach for the second to the fifth point; for the last two it must have met all dev problems."""

    thresholds: tuple[float, float, float, float]

    @classmethod
    def of(cls, measured: Sequence[Candidate], trials: Sequence[Trial]) -> Rubric:
        """The bands as they are after so many programs; without a seed or expert among the trials their points are given to all that run."""
        ranked = scored_best_first(measured)
        models = {kind: [t.score.value for t in trials if t.kind == kind] for kind in ("seed", "expert")}
        return cls(
            (
                max(models["seed"], default=0.0),
                max(models["expert"], default=0.0),
                _reached_by(ranked, 0.25),
                _reached_by(ranked, 0.10),
            )
        )

    def met(self, candidate: Candidate) -> tuple[bool, ...]:
        """Which criteria a measured program meets, in the order of CRITERIA. One that a race stopped is held against seed and experts by its share of what it was asked."""
        runs = candidate.assessment.outcome is Outcome.OK
        share = candidate.score if candidate.score is not None else -math.inf
        seed, expert, quarter, tenth = (runs and share >= threshold for threshold in self.thresholds)
        return runs, seed, expert, candidate.complete and quarter, candidate.complete and tenth

    def points(self, candidate: Candidate) -> int:
        """What a measured program deserves, 0..5."""
        return sum(self.met(candidate))


def judged_by_measure(candidate: Candidate) -> bool:
    """Whether a candidate's points are known: it was scored or failed. A duplicate, or one that nobody scored, has none."""
    return candidate.assessment.outcome in (Outcome.OK, Outcome.REJECTED, Outcome.FAILED)


def _reached_by(ranked: Sequence[Candidate], share: float) -> float:
    """The score that the best `share` of the programs reach, or those of them that no race stopped; above all where there is none."""
    whole = [c.score or 0.0 for c in ranked[: math.ceil(share * len(ranked))] if c.complete]
    return whole[-1] if whole else math.inf
