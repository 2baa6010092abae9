"""What an archive as a whole shows: why programs fail, which operations they use, what they do, and how that goes with their scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from scipy.stats import spearmanr

from engine.descriptors import NUMBERS
from engine.records import Candidate, Outcome

FEWEST = 10
"""Programs from which on a correlation is given."""


@dataclass(frozen=True)
class Use:
    """Programs with a score that call an operation.

    Attributes:
        operation: its name.
        programs: how many.
        median, best: of their dev shares, 0..1; the best of those that were asked everything, None where there is none.
    """

    operation: str
    programs: int
    median: float
    best: float | None


@dataclass(frozen=True)
class Spread:
    """One descriptor over the programs with a score.

    Attributes:
        name: as in `descriptors.NUMBERS`.
        low, median, high: the 5th, 50th and 95th of a hundred.
        with_score: Spearman's correlation with the dev share, −1..1; None of few programs, or where either is the same for all.
    """

    name: str
    low: float
    median: float
    high: float
    with_score: float | None


@dataclass(frozen=True)
class Stats:
    """An archive in figures.

    Attributes:
        outcomes: how many candidates came to which outcome.
        reasons: how many failed or were refused for which reason, the most frequent first.
        uses: operations, by the number of programs.
        spreads: descriptors, in their order.
    """

    outcomes: dict[str, int]
    reasons: dict[str, int]
    uses: tuple[Use, ...]
    spreads: tuple[Spread, ...]


def stats(candidates: Sequence[Candidate]) -> Stats:
    """The figures of an archive; of scores that a race broke off, the share of what was asked."""
    outcomes = Counter(c.assessment.outcome.value for c in candidates)
    reasons = Counter(c.assessment.reason for c in candidates if c.assessment.reason)
    scored = [c for c in candidates if c.assessment.outcome is Outcome.OK and c.assessment.descriptors]
    return Stats(
        dict(outcomes.most_common()),
        dict(reasons.most_common()),
        tuple(_uses(scored)),
        tuple(_spread(name, scored) for name in NUMBERS) if scored else (),
    )


def _uses(scored: Sequence[Candidate]) -> list[Use]:
    by_name: dict[str, list[Candidate]] = {}
    for one in scored:
        for name in one.assessment.descriptors.operations if one.assessment.descriptors else ():
            by_name.setdefault(name, []).append(one)
    uses = [
        Use(
            name,
            len(found),
            median(c.score or 0.0 for c in found),
            max((c.score for c in found if c.complete and c.score is not None), default=None),
        )
        for name, found in by_name.items()
    ]
    return sorted(uses, key=lambda use: (-use.programs, use.operation))


def _spread(name: str, scored: Sequence[Candidate]) -> Spread:
    values = [c.assessment.descriptors.numbers[name] for c in scored if c.assessment.descriptors]
    scores = [c.score or 0.0 for c in scored]
    ordered = sorted(values)
    low, middle, high = (ordered[round(share * (len(ordered) - 1))] for share in (0.05, 0.5, 0.95))
    correlated = len(values) >= FEWEST and len(set(values)) > 1 and len(set(scores)) > 1
    return Spread(name, low, middle, high, float(spearmanr(values, scores).statistic) if correlated else None)
