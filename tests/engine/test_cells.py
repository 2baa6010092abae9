"""The map over two descriptors: the same cells and holders as `ribs` finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cells import Axis, Cells, cells
from engine.config import ExploreSection
from engine.descriptors import NUMBERS, SKETCH_NUMBERS, Descriptors
from engine.exploring import EliteMap, growth
from engine.records import Candidate
from engine.store import Store
from tests.engine.conftest import candidate, dev_score

ACROSS, DOWN = Axis("scale", 6), Axis("rest", 4)
SECTION = ExploreSection(axes=("scale", "rest"), cells=(6, 4))


def described(
    number: int, share: float | None, scale: float, rest: float, iteration: int = 1, stopped: bool = False
) -> Candidate:
    one = candidate(number, share, iteration=iteration)
    if stopped and one.assessment.score:
        score = dev_score(one.assessment.score.bits + 100 * "-")
        one = replace(one, assessment=replace(one.assessment, score=score))
    numbers = dict.fromkeys(NUMBERS, 0.0) | {"scale": scale, "rest": rest}
    found = Descriptors(numbers, (0.5,), ("abs",), (0.0,) * SKETCH_NUMBERS)
    return one if share is None else replace(one, assessment=replace(one.assessment, descriptors=found))


def mapped(everyone: list[Candidate], folder: Path, archive_url: str | None) -> Cells:
    store = Store.in_folder(folder, create=True, server=archive_url)
    store.take_over(everyone)
    found = cells(store, ACROSS, DOWN)
    store.close()
    return found


borders = st.sampled_from([-2.0, -1.0, -1 / 3, 0.0, 0.25, 0.5, 1.0, 3.0, 9.0])
beside = st.sampled_from([-1e-6, -6e-7, -2e-7, -1e-7, 1e-7])
far = st.sampled_from([-1e30, -1e19, 1e19, 1e25, 1e30]) | st.floats(-1e30, 1e30)
edges = borders | st.builds(float.__add__, borders, beside) | st.floats(-2, 4) | far
programs = st.lists(
    st.tuples(st.none() | st.integers(0, 99), edges, edges, st.integers(1, 3), st.booleans()), min_size=1, max_size=30
)


@settings(max_examples=60, deadline=None)
@given(drawn=programs)
def test_cells_and_their_holders_are_those_of_ribs(
    drawn: list[tuple[int | None, float, float, int, bool]],
    tmp_path_factory: pytest.TempPathFactory,
    archive_url: str | None,
) -> None:
    drawn.sort(key=lambda one: one[3])
    everyone = [
        described(number, None if share is None else share / 100, scale, rest, iteration, stopped)
        for number, (share, scale, rest, iteration, stopped) in enumerate(drawn, start=1)
    ]
    theirs = EliteMap(SECTION)
    for one in everyone:
        theirs.add(one)
    found = mapped(everyone, tmp_path_factory.mktemp("map"), archive_url)
    held = {(cell.column * DOWN.cells + cell.row): (cell.program, cell.value) for cell in found.held}
    assert held == {elite.cell: (elite.candidate.program.id, elite.candidate.score) for elite in theirs.elites()}
    assert sum(cell.programs for cell in found.held) == sum(share is not None for share, *_ in drawn)
    scored = [one for one in everyone if one.score is not None]
    by_iteration = {i: (one.held, pytest.approx(one.qd_score)) for i, one in growth(SECTION, scored).items()}
    assert found.growth == by_iteration


def test_an_empty_archive_has_an_empty_map(tmp_path: Path, archive_url: str | None) -> None:
    found = mapped([candidate(1, None)], tmp_path, archive_url)
    assert (found.held, found.growth, found.size) == ((), {}, 24)
    assert ACROSS.borders == pytest.approx([-1 + 4 * at / 6 for at in range(7)])
