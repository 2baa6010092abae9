"""Two programs of one campaign held against each other problem by problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.problems import Problem
from benchmarks.scores import Score
from benchmarks.statistics import PairedDifference, paired_difference
from engine.records import Candidate

UNASKED = "-"


@dataclass(frozen=True)
class Comparison:
    """The first program against the second, on the dev problems that both were asked.

    Attributes:
        difference: of the shares, first less second, with its interval and McNemar's p. Of programs picked for their scores it is too favourable: dev is
            what they were picked by.
        only_first, only_second: places of the problems that one solved and the other did not, in the suite's order.
    """

    difference: PairedDifference
    only_first: tuple[int, ...]
    only_second: tuple[int, ...]


def compare(first: Candidate, second: Candidate, *, weights: Sequence[float] | None, seed: int) -> Comparison | None:
    """Two candidates, as `compare_scores`."""
    return compare_scores(first.assessment.score, second.assessment.score, weights=weights, seed=seed)


def compare_scores(
    a: Score | None, b: Score | None, *, weights: Sequence[float] | None, seed: int
) -> Comparison | None:
    """None where there is no problem that both were asked.

    Args:
        a, b: of the same suite.
        weights: of the problems, where they do not count alike.
        seed: of the bootstrap.
    """
    if a is None or b is None or not any(UNASKED not in pair for pair in zip(a.bits, b.bits, strict=True)):
        return None
    pairs = list(zip(a.bits, b.bits, strict=True))
    return Comparison(
        paired_difference(a.bits, b.bits, np.random.default_rng(seed), weights=weights),
        tuple(place for place, pair in enumerate(pairs) if pair == ("1", "0")),
        tuple(place for place, pair in enumerate(pairs) if pair == ("0", "1")),
    )


def by_family(found: Comparison, problems: Sequence[Problem]) -> Mapping[str, tuple[int, int]]:
    """Family → (problems that only the first solved, that only the second solved); families without a difference are left out.

    Args:
        problems: of the suite; none where they are not known any more.
    """
    counts: dict[str, list[int]] = {}
    for side, places in enumerate((found.only_first, found.only_second)):
        for place in places if problems else ():
            counts.setdefault(problems[place].family or "", [0, 0])[side] += 1
    return {family: (one, other) for family, (one, other) in sorted(counts.items())}


def called(places: Sequence[int], problems: Sequence[Problem]) -> list[str | int]:
    """The ids of the problems at these places of the suite; the places themselves where `problems` are not known any more, and none are given."""
    return [problems[place].id if problems else place for place in places]
