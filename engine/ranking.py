"""Which programs are better: the one order by dev score that final, archive and learning share."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.scores import Score
from engine.records import Candidate, Outcome


def best_first(candidate: Candidate) -> tuple[bool, bool, float, int]:
    """Sorts candidates by dev score, best first; of equals the earlier one first, those without a score last.

    Candidates that were stopped in a race come after all that were not, by what they had shown: they could not reach the best any more.
    """
    return candidate.score is None, not candidate.complete, -(candidate.score or 0.0), candidate.number


def standing(score: Score) -> float:
    """The order of `best_first` as one number, −1..1, the higher the better: the share, less 1 where a race stopped the program.

    The two would meet where one has nothing right of everything and the other everything right of what it was asked: no race stops that one.
    """
    return score.value if score.complete else score.value - 1


def scored_best_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    """New, working candidates, sorted by `best_first`."""
    return sorted((c for c in candidates if c.assessment.outcome is Outcome.OK), key=best_first)
