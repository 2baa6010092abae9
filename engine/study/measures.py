"""What a run came to, in numbers: by iteration, and over its programs. Pure functions of the archive's rows; shares are 0..1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from engine.ranking import scored_best_first
from engine.records import WORKS, Candidate

TOP = 0.1
"""Share of an iteration's scored programs whose mean is its top decile."""


@dataclass(frozen=True)
class IterationMeasures:
    """One iteration of one run.

    Attributes:
        programs, scored: how many were written; how many of them were scored.
        valid: share of the written that pass the gate and give sound results.
        distinct: share of the valid that behave as none before them; None without a valid one.
        median, top_decile, best: of the dev scores of the scored; None without one.
        characters: mean length of a program.
    """

    programs: int
    scored: int
    valid: float
    distinct: float | None
    median: float | None
    top_decile: float | None
    best: float | None
    characters: float


def by_iteration(candidates: Sequence[Candidate]) -> Mapping[int, IterationMeasures]:
    """The measures of every iteration."""
    return {
        i: _measured([c for c in candidates if c.iteration == i]) for i in sorted({c.iteration for c in candidates})
    }


def _measured(candidates: Sequence[Candidate]) -> IterationMeasures:
    valid = [c for c in candidates if c.assessment.outcome in WORKS]
    repeats = sum(c.assessment.duplicate_of is not None for c in valid)
    scores = scores_of(candidates)
    return IterationMeasures(
        programs=len(candidates),
        scored=len(scores),
        valid=len(valid) / len(candidates),
        distinct=1 - repeats / len(valid) if valid else None,
        median=median(scores) if scores else None,
        top_decile=top_decile(scores),
        best=scores[0] if scores else None,
        characters=fmean(len(c.program.source) for c in candidates),
    )


def scores_of(candidates: Sequence[Candidate]) -> list[float]:
    """Dev scores, best first. A study races nobody, so all are of all dev problems."""
    return [c.score for c in scored_best_first(candidates) if c.score is not None]


def top_decile(scores: Sequence[float]) -> float | None:
    """Mean of the best tenth, at least one; `scores` are best first."""
    return fmean(scores[: math.ceil(TOP * len(scores))]) if scores else None


def best_so_far(candidates: Sequence[Candidate]) -> list[float | None]:
    """The best dev score after each written program; None before the first score."""
    best: float | None = None
    curve = []
    for candidate in sorted(candidates, key=lambda c: c.number):
        best = max((score for score in (best, candidate.score) if score is not None), default=None)
        curve.append(best)
    return curve
