"""The best program of every cell over any two descriptors: what a map of a run shows, whatever the run itself explored by.

Cells are those of `ribs`' grids (a test holds them together); counted here at once for all programs, from a few columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import select

from engine.descriptors import NUMBERS
from engine.errors import ConfigError
from engine.records import Outcome, ProgramId
from engine.schema import CandidateRow, DescriptorRow
from engine.store import Store

EPSILON = 1e-6
"""As in `ribs`: added, so that a value at a border counts as beyond it however it was rounded."""


@dataclass(frozen=True)
class Axis:
    """One side of a map.

    Attributes:
        name: of a descriptor.
        cells: how many, 1 or more.
    """

    name: str
    cells: int

    def __post_init__(self) -> None:
        """Refuse names that nobody knows.

        Raises:
            ConfigError: it is no descriptor.
        """
        if self.name not in NUMBERS:
            raise ConfigError(f"axis: expected one of {', '.join(NUMBERS)}, got '{self.name}'; choose one")

    @property
    def borders(self) -> list[float]:
        """Of its cells, one more than there are."""
        axis = NUMBERS[self.name]
        return [axis.low + (axis.high - axis.low) * at / self.cells for at in range(self.cells + 1)]

    def places(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """The cell of each value; what lies beyond an end stands at it."""
        axis = NUMBERS[self.name]
        inside = np.clip(values, axis.low, axis.high)  # as numbers: an integer holds none that are far beyond
        found = (self.cells * (inside - axis.low) + EPSILON) / (axis.high - axis.low)
        return np.minimum(found.astype(np.int64), self.cells - 1)


@dataclass(frozen=True)
class Cell:
    """A cell that is held.

    Attributes:
        column, row: its place on the two axes, from 0.
        program: who holds it: the first by dev share of those that were asked everything, else of those that a race stopped; of equals the earlier one.
        value: this share, 0..1; of one that a race stopped, of what it was asked.
        programs: how many stand in it.
    """

    column: int
    row: int
    program: ProgramId
    value: float
    programs: int


@dataclass(frozen=True)
class Cells:
    """A map.

    Attributes:
        across, down: its axes.
        held: cells with a program.
        growth: iteration → (cells held, sum of the elites' dev shares) after it.
    """

    across: Axis
    down: Axis
    held: tuple[Cell, ...]
    growth: dict[int, tuple[int, float]]

    @property
    def size(self) -> int:
        """Cells in all."""
        return self.across.cells * self.down.cells


def cells(store: Store, across: Axis, down: Axis) -> Cells:
    """The map of all scored programs with descriptors.

    Raises:
        ConfigError: both axes are the same.
    """
    if across.name == down.name:
        raise ConfigError(f"axes: expected two different ones, got '{across.name}' twice; choose another")
    row, found = CandidateRow, DescriptorRow
    axes = getattr(found, across.name), getattr(found, down.name)
    wanted = select(row.program_id, row.iteration, row.value, row.standing, *axes)
    wanted = wanted.join(found, found.program_id == row.program_id).where(row.outcome == Outcome.OK.value)
    with store.reading() as session:
        rows = session.execute(wanted.order_by(row.number)).all()
    if not rows:
        return Cells(across, down, (), {})
    programs, iterations, values, ranked, x, y = zip(*rows, strict=True)
    columns, lines = across.places(np.array(x)), down.places(np.array(y))
    shares, standings, places = np.array(values), np.array(ranked), lines * across.cells + columns
    held = _best(places, standings)
    counts = dict(zip(*(part.tolist() for part in np.unique(places, return_counts=True)), strict=True))
    return Cells(
        across,
        down,
        tuple(
            Cell(place % across.cells, place // across.cells, programs[at], float(shares[at]), counts[place])
            for place, at in held
        ),
        dict(_growth(np.array(iterations), places, shares, standings)),
    )


def _best(places: npt.NDArray[np.int64], standings: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """(place, who holds it), in the order of the places; of equals the earlier one."""
    order = np.lexsort((np.arange(len(standings)), -standings, places))
    first = np.r_[True, places[order][1:] != places[order][:-1]]
    return [(int(places[at]), int(at)) for at in order[first]]


def _growth(
    iterations: npt.NDArray[np.int64],
    places: npt.NDArray[np.int64],
    shares: npt.NDArray[np.float64],
    standings: npt.NDArray[np.float64],
) -> Iterator[tuple[int, tuple[int, float]]]:
    held: dict[int, int] = {}
    for iteration in np.unique(iterations):
        own = np.flatnonzero(iterations == iteration)
        for place, of_own in _best(places[own], standings[own]):
            at = int(own[of_own])
            if place not in held or standings[at] > standings[held[place]]:
                held[place] = at
        yield int(iteration), (len(held), float(sum(shares[held[place]] for place in sorted(held))))
