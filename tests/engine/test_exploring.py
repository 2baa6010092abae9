"""The map of a campaign: an elite never gets worse, islands never meet, and what is drawn follows from what was assessed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from engine.composing import compose
from engine.config import ExploreSection, PromptsSection
from engine.config_file import build_config
from engine.descriptors import NUMBERS, Descriptors
from engine.errors import ConfigError
from engine.exploring import EliteMap, Explorer, growth
from engine.ranking import best_first
from engine.records import Candidate, Outcome, Sampling, TaskKind
from tests.engine.conftest import candidate, dev_score

GRID = ExploreSection(kind="map-elites", axes=("scale", "rest"), cells=(4, 2))
CVT = ExploreSection(kind="map-elites", axes=("scale", "rest"), layout="cvt", regions=16)
VARIANTS = PromptsSection(one_shot=0, variant=1)


def at(number: int, share: float, scale: float, rest: float, *, row: int = 0, stopped: bool = False) -> Candidate:
    """A scored candidate in a place of the map, written in a row of its batch; `stopped`: in a race, after 100 of 200 problems."""
    one = described(number, share, {"scale": scale, "rest": rest})
    if stopped and one.assessment.score:
        score = dev_score(one.assessment.score.bits + 100 * "-")
        one = replace(one, assessment=replace(one.assessment, score=score))
    return replace(one, program=replace(one.program, sampling=replace(one.program.sampling, row=row)))


def described(number: int, share: float, numbers: Mapping[str, float]) -> Candidate:
    """A scored candidate with these descriptors, the others 0."""
    one = candidate(number, share)
    found = Descriptors(dict.fromkeys(NUMBERS, 0.0) | numbers, (0.5,), (), (0.0,))
    return replace(one, assessment=replace(one.assessment, descriptors=found))


def mapped(section: ExploreSection, candidates: Sequence[Candidate]) -> EliteMap:
    found = EliteMap(section)
    for one in candidates:
        found.add(one)
    return found


ANY = st.lists(
    st.tuples(
        st.integers(0, 99),
        st.floats(-3.0, 5.0, allow_nan=False),
        st.floats(-1.0, 2.0, allow_nan=False),
        st.booleans(),
    ),
    max_size=40,
).map(lambda rows: [at(n, r[0] / 100, r[1], r[2], stopped=r[3]) for n, r in enumerate(rows, start=1)])


@settings(max_examples=60, deadline=None)
@given(candidates=ANY, section=st.sampled_from([GRID, CVT]))
def test_an_elite_never_gets_worse_and_is_the_best_that_ever_stood_in_its_cell(
    candidates: list[Candidate], section: ExploreSection
) -> None:
    one = EliteMap(section)
    before: dict[int, Candidate] = {}
    best: dict[int, Candidate] = {}
    for c in candidates:
        cell = one.cell(c)
        taken = one.add(c)
        assert taken == (cell not in best or best_first(c) < best_first(best[cell]))
        if taken:
            best[cell] = c
        now = {elite.cell: elite.candidate for elite in one.elites()}
        assert all(best_first(now[held]) <= best_first(elite) for held, elite in before.items())
        before = now
    assert {elite.cell: elite.candidate for elite in one.elites()} == best
    stats = one.stats()
    assert stats.held == len(best)
    assert stats.cells == (8 if section is GRID else 16)
    assert stats.qd_score == pytest.approx(sum(c.score or 0.0 for c in best.values()))
    assert stats.best == (min(best.values(), key=best_first).score if best else None)


def test_who_was_stopped_in_a_race_takes_no_cell_from_who_was_asked_everything() -> None:
    one = EliteMap(GRID)
    early, whole, late = at(1, 0.9, 0.5, 0.1, stopped=True), at(2, 0.6, 0.5, 0.1), at(3, 0.95, 0.5, 0.1, stopped=True)
    assert [one.add(c) for c in (early, whole, late)] == [True, True, False]
    assert [elite.candidate for elite in one.elites()] == [whole]
    assert (one.stats().best, one.stats().qd_score) == (0.6, 0.6)


def test_the_cells_of_a_grid_are_those_of_the_axes_and_what_lies_beyond_stands_at_the_edge() -> None:
    one = mapped(GRID, [at(1, 0.5, -1.0, 0.0), at(2, 0.5, 0.5, 0.0), at(3, 0.5, 9.0, 5.0), at(4, 0.6, -7.0, -1.0)])
    assert [(e.cell, e.candidate.number) for e in one.elites()] == [(0, 4), (2, 2), (7, 3)]
    assert one.stats().coverage == pytest.approx(3 / 8)


def test_who_has_no_score_or_no_descriptors_takes_no_cell() -> None:
    plain = candidate(1, 0.5)
    failed = replace(at(2, 0.5, 0, 0), assessment=candidate(2, None).assessment)
    duplicate = at(3, 0.5, 0, 0)
    duplicate = replace(duplicate, assessment=replace(duplicate.assessment, outcome=Outcome.DUPLICATE))
    one = EliteMap(GRID)
    assert [one.add(c) for c in (plain, failed, duplicate)] == [False, False, False]
    assert one.elites() == []
    assert one.stats().best is None


def test_the_map_of_a_run_grows_from_iteration_to_iteration() -> None:
    rows = [at(1, 0.5, -1.0, 0.0), at(2, 0.4, 2.9, 0.9), at(3, 0.75, -1.0, 0.0)]
    rows = [rows[0], replace(rows[1], iteration=2), replace(rows[2], iteration=2)]
    first, second = growth(ExploreSection(axes=("scale", "rest"), cells=(4, 2)), rows).values()
    assert (first.held, first.qd_score, first.best) == (1, 0.5, 0.5)
    assert (second.held, second.qd_score, second.best) == (2, pytest.approx(1.15), 0.75)
    assert second.coverage == 0.25


def test_a_tessellation_is_the_same_for_the_same_seed() -> None:
    rng = random.Random(3)
    rows = [at(n, rng.random(), rng.uniform(-1, 3), rng.random()) for n in range(1, 60)]
    assert mapped(CVT, rows).elites() == mapped(CVT, rows).elites()


@pytest.mark.parametrize("axes", [("nodes", "rest"), ("scale", "rest")])
def test_each_axis_of_a_tessellation_tells_programs_apart(axes: tuple[str, str]) -> None:
    one = EliteMap(CVT.model_copy(update={"axes": axes, "regions": 64}))
    for name, other in (axes, axes[::-1]):
        low, high = NUMBERS[name].low, NUMBERS[name].high
        middle = {other: (NUMBERS[other].low + NUMBERS[other].high) / 2}
        along = [described(1, 0.5, {name: low + (high - low) * at / 50} | middle) for at in range(51)]
        assert 6 <= len({one.cell(c) for c in along}) <= 16, f"of 64 regions about 8 lie along {name}"


def placed(row: int, seed: int = 0) -> Sampling:
    return Sampling(1.0, 1.0, seed, 5, row)


def test_parents_come_from_every_kind_alike_and_not_from_the_best_alone() -> None:
    rows = [at(n, 0.1 if n < 4 else 0.9, -0.5 + n % 4, 0.0) for n in range(4)]
    rows = [replace(c, number=n) for n, c in enumerate(rows, start=1)] + [at(5, 0.95, 0.45, 0.1)]
    explorer = Explorer(GRID, 0)
    places = [placed(row, seed) for seed, row in enumerate(range(400))]
    tasks = compose(VARIANTS, places, rows, explorer)
    shown = [task.shown[0].number for task in tasks]
    assert {task.kind for task in tasks} == {TaskKind.VARIANT}
    assert set(shown) == {e.candidate.number for e in mapped(GRID, rows).elites()}
    share = [shown.count(number) / len(shown) for number in set(shown)]
    assert min(share) > 0.5 / len(share)


def test_a_map_that_is_built_at_once_is_the_one_that_grew() -> None:
    rng = random.Random(5)
    rows = [at(n, rng.random(), rng.uniform(-1, 3), rng.random(), row=n % 8) for n in range(1, 50)]
    section = GRID.model_copy(update={"kind": "islands", "islands": 4})
    grown = Explorer(section, 0)
    for count in (8, 16, 31, 49):
        parents = [grown.parents(placed(row), rows[:count]) for row in range(8)]
    at_once = Explorer(section, 0)
    assert [at_once.parents(placed(row), rows) for row in range(8)] == parents


def test_islands_never_meet() -> None:
    rng = random.Random(6)
    rows = [at(n, rng.random(), rng.uniform(-1, 3), rng.random(), row=n % 6) for n in range(1, 80)]
    section = GRID.model_copy(update={"kind": "islands", "islands": 3})
    explorer = Explorer(section, 0)
    crossings = PromptsSection(one_shot=0, crossover=1)
    for place in (placed(row, seed) for seed in range(60) for row in range(6)):
        (task,) = compose(crossings, [place], rows, explorer)
        assert len(task.shown) == 2
        assert {c.program.sampling.row % 3 for c in task.shown} == {place.row % 3}


def test_what_is_mended_comes_from_the_same_island_too() -> None:
    rows = [replace(at(n, 0.5, 0.0, 0.0, row=n % 6), assessment=candidate(n, None).assessment) for n in range(1, 19)]
    explorer = Explorer(GRID.model_copy(update={"kind": "islands", "islands": 3}), 0)
    repairs = PromptsSection(one_shot=0, repair=1)
    for place in (placed(row, seed) for seed in range(20) for row in range(6)):
        (task,) = compose(repairs, [place], rows, explorer)
        assert task.kind is TaskKind.REPAIR
        assert task.shown[0].program.sampling.row % 3 == place.row % 3


def test_without_exploring_parents_are_the_best() -> None:
    rows = [at(n, n / 10, 0.0, 0.0) for n in range(1, 6)]
    explorer = Explorer(ExploreSection(), 0)
    assert not explorer.explores
    assert compose(VARIANTS, [placed(0)], rows, explorer) == compose(VARIANTS, [placed(0)], rows)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"explore": {"kind": "map-elites"}}, r"prompts\.variant or prompts\.crossover above 0 with explore\.kind"),
        ({"explore": {"axes": ["taste", "rest"]}}, r"descriptors out of scale, .* \(got taste\)"),
        ({"explore": {"axes": ["rest", "rest"]}}, "each descriptor once"),
        ({"explore": {"axes": ["rest"]}}, r"as many cells as axes \(got 2 and 1\)"),
        (
            {
                "explore": {"kind": "islands", "islands": 9},
                "prompts": {"variant": 1.0},
                "generator": {"batch": 8},
            },
            r"a generator\.batch of explore\.islands at least \(got 8 and 9\)",
        ),
    ],
)
def test_what_cannot_be_explored_is_told_in_one_line(tree: dict[str, object], message: str) -> None:
    with pytest.raises((ConfigError, ValidationError), match=message):
        build_config(tree)
