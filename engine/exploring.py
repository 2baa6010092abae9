"""Parents from all over the map: an archive of the best program of every kind, by MAP-Elites (https://arxiv.org/abs/1504.04909), and islands that breed apart.

Kinds are cells over descriptors that the campaign chooses as axes: a grid, or the regions of a centroidal Voronoi tessellation (https://arxiv.org/abs/1610.05729),
both of `ribs`. The map is a function of the candidates assessed so far, in order: nothing of it is stored, and a resumed run draws the same parents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from engine.config import ExploreSection
from engine.descriptors import NUMBERS
from engine.ranking import best_first, standing
from engine.records import Candidate, Outcome, Sampling

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase

CVT_SAMPLES = 20_000
"""Points over which the centres of a tessellation are found."""


@dataclass(frozen=True)
class Elite:
    """The best program of a cell.

    Attributes:
        cell: number of the cell.
        candidate: who holds it.
    """

    cell: int
    candidate: Candidate


@dataclass(frozen=True)
class MapStats:
    """How much of the map is held, and how well.

    Attributes:
        held, cells: cells with an elite, and all.
        qd_score: sum of the elites' dev shares, of those that a race stopped of what they were asked (Pugh et al. 2016, https://doi.org/10.3389/frobt.2016.00040).
        best: share of the best of them, None where nothing is held.
    """

    held: int
    cells: int
    qd_score: float
    best: float | None

    @property
    def coverage(self) -> float:
        """Share of the cells that are held, 0..1."""
        return self.held / self.cells


class EliteMap:
    """The best program of every kind.

    A program stands in the cell of its descriptors; what lies beyond an axis stands at its edge. A tessellation measures each axis by its whole length: distances in
    the descriptors' own units would leave a short axis beside a long one without borders. It takes the cell where it is better than
    who holds it, by the order of `ranking.best_first`: an elite never gets worse, and of equals the earlier one stays. Who was stopped in a race holds a cell, with the share
    of what it was asked, until one comes that was asked everything.

    Args:
        section: axes and cells.
        seed: of the tessellation.
    """

    def __init__(self, section: ExploreSection, seed: int = 0) -> None:
        from ribs.archives import CVTArchive, GridArchive  # takes a second, and most campaigns have no map

        self._axes, self._relative = section.axes, section.layout == "cvt"
        fields = {"number": ((), np.int64)}
        self._archive: ArchiveBase
        if section.layout == "grid":
            self._archive = GridArchive(
                solution_dim=1,
                dims=section.cells,
                ranges=[(NUMBERS[name].low, NUMBERS[name].high) for name in section.axes],
                seed=seed,
                extra_fields=fields,
            )
        else:
            self._archive = CVTArchive(
                solution_dim=1,
                centroids=section.regions,
                ranges=[(0.0, 1.0)] * len(section.axes),
                samples=CVT_SAMPLES,
                seed=seed,
                extra_fields=fields,
            )
        self._candidates: dict[int, Candidate] = {}

    def add(self, candidate: Candidate) -> bool:
        """Offer a candidate; whether it took a cell. One that has no score or no descriptors does not."""
        found, score = candidate.assessment.descriptors, candidate.assessment.score
        if candidate.assessment.outcome is not Outcome.OK or found is None or score is None:
            return False
        place = self.place(candidate)
        status = self._archive.add_single([0.0], standing(score), place, number=candidate.number)["status"]
        if status > 0:
            self._candidates[candidate.number] = candidate
        return bool(status > 0)

    def place(self, candidate: Candidate) -> list[float]:
        """Where a candidate with descriptors stands, on each axis: in the descriptor's unit, of a tessellation in 0..1."""
        assert candidate.assessment.descriptors
        found = []
        for name in self._axes:
            axis = NUMBERS[name]
            value = float(np.clip(candidate.assessment.descriptors.numbers[name], axis.low, axis.high))
            found.append((value - axis.low) / (axis.high - axis.low) if self._relative else value)
        return found

    def elites(self) -> list[Elite]:
        """Who holds which cell, in the order of the cells."""
        held = self._archive.data(["index", "number"])
        found = zip(held["index"].tolist(), held["number"].tolist(), strict=True)
        return [Elite(cell, self._candidates[number]) for cell, number in sorted(found)]

    def cell(self, candidate: Candidate) -> int:
        """The cell in which a candidate with descriptors stands."""
        return int(self._archive.index_of_single(self.place(candidate)))

    def stats(self) -> MapStats:
        """How much of the map is held."""
        elites = [elite.candidate for elite in self.elites()]
        best = min(elites, key=best_first).score if elites else None
        return MapStats(len(elites), int(self._archive.cells), sum(c.score or 0.0 for c in elites), best)


def growth(section: ExploreSection, candidates: Sequence[Candidate], seed: int = 0) -> dict[int, MapStats]:
    """One map over all programs of a run, after each iteration; whatever it explores, so that runs can be compared."""
    one, found = EliteMap(section, seed), {}
    for iteration, some in groupby(candidates, key=lambda c: c.iteration):
        for candidate in some:
            one.add(candidate)
        found[iteration] = one.stats()
    return found


class Explorer:
    """Whom a prompt may show as a parent, where a campaign explores.

    Args:
        section: see `ExploreSection`.
        seed: of the campaign.
    """

    def __init__(self, section: ExploreSection, seed: int) -> None:
        self._section = section
        count = {"none": 0, "map-elites": 1, "islands": section.islands}[section.kind]
        self._maps = [EliteMap(section, seed) for _ in range(count)]
        self._taken = 0

    @property
    def explores(self) -> bool:
        """Whether there is a map at all."""
        return bool(self._maps)

    def parents(self, place: Sampling, assessed: Sequence[Candidate]) -> list[Candidate]:
        """The elites of the island on which a place's program is to live, in the order of their cells.

        Args:
            assessed: all that may be shown, in order; never fewer than the time before.
        """
        for candidate in assessed[self._taken :]:
            self._maps[self._island(candidate.program.sampling)].add(candidate)
        self._taken = len(assessed)
        return [elite.candidate for elite in self._maps[self._island(place)].elites()]

    def neighbours(self, place: Sampling, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Those that live on the island of a place."""
        return [c for c in candidates if self._island(c.program.sampling) == self._island(place)]

    def _island(self, place: Sampling) -> int:
        """The rows of a batch are dealt out to the islands in turn."""
        return place.row % len(self._maps)
