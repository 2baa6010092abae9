"""Trees of a family: everybody once, never deeper than their generation."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from engine import rundir
from engine.config import CampaignConfig
from engine.lineage import family
from engine.pages.app import create_app
from engine.pages.kin import Kin, ancestors, descendants
from engine.pages.runs import Runs
from engine.records import Candidate
from engine.store import Store
from tests.engine.conftest import candidate
from tests.engine.pages.conftest import BASE


def child(number: int, *parents: int) -> Candidate:
    one = candidate(number, 0.5)
    return replace(one, program=replace(one.program, parents=tuple(f"{p:012x}" for p in parents), task="variant"))


def depths(trees: Iterable[Kin], depth: int = 1) -> dict[int, int]:
    found = {}
    for one in trees:
        assert one.relative.number not in found
        found[one.relative.number] = depth
        below = depths(one.further, depth + 1)
        assert not found.keys() & below.keys(), "once"
        found |= below
    return found


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 25), limit=st.sampled_from([3, 100]))
def test_everybody_stands_once_in_the_generation_where_they_belong(
    seed: int, count: int, limit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = random.Random(seed)
    store = Store.in_folder(tmp_path_factory.mktemp("kin"), create=True)
    people = [child(n, *rng.sample(range(1, n), min(n - 1, rng.randint(0, 2)))) for n in range(1, count + 1)]
    store.take_over(people)
    found = family(store, people[rng.randrange(count)].program.id, limit=limit)
    assert found
    for trees, generations in ((ancestors(found), found.ancestors), (descendants(found), found.descendants)):
        expected = {one.number: depth for depth, some in enumerate(generations, start=1) for one in some}
        assert depths(trees) == expected
    store.close()


def test_the_page_shows_the_family_and_the_api_has_it(small_config: CampaignConfig, tmp_path: Path) -> None:
    rundir.new_folder(small_config, tmp_path / "kin", "now")
    store = Store.in_folder(tmp_path / "kin", create=True)
    store.take_over([child(1), child(2), child(3, 1, 2), child(4, 3), child(5, 4), child(6, 1, 77)])
    runs = Runs([str(tmp_path / "kin")])
    visitor = TestClient(create_app(runs), base_url=BASE)
    page = visitor.get("/runs/kin/programs/3").text
    up, down = page.index("Ancestors"), page.index("Descendants")
    linked = [(at.start(), int(at[1], 16)) for at in re.finditer(r'programs/(0{11}\w)">', page)]
    assert {number for at, number in linked if up < at < down} == {1, 2}
    assert {number for at, number in linked if at > down} == {4, 5}
    assert "<li" in page[down:].split("candidate 4", 1)[1].split("candidate 5", 1)[0], "5 hangs below 4"
    assert "Not in this archive: 00000000004d" in visitor.get("/runs/kin/programs/6").text
    facts = visitor.get("/api/runs/kin/programs/3/lineage").json()
    assert [[one["number"] for one in some] for some in facts["descendants"]] == [[4], [5]]
    assert {(e["parent"], e["child"]) for e in facts["edges"]} == {(1, 3), (2, 3), (3, 4), (4, 5)}
    runs.close()
    store.close()


def test_the_leaderboard_and_the_api_search_within_a_family(small_config: CampaignConfig, tmp_path: Path) -> None:
    rundir.new_folder(small_config, tmp_path / "kin", "now")
    everyone = [child(1), child(2, 1), child(3), child(4, 2, 3), child(5, 4), child(6, 3)]
    with closing(Store.in_folder(tmp_path / "kin", create=True)) as store:
        store.take_over(everyone)
    ids = {c.number: c.program.id for c in everyone}
    runs = Runs([str(tmp_path / "kin")])
    visitor = TestClient(create_app(runs), base_url=BASE)

    def listed(query: str) -> set[int]:
        page = visitor.get(f"/runs/kin/programs?{query}").text
        found = {n for n, id_ in ids.items() if f'href="/runs/kin/programs/{id_}">' in page}
        answer = visitor.get(f"/api/runs/kin/programs?{query}").json()
        assert {one["number"] for one in answer["programs"]} == found
        return found

    assert listed(f"ancestors_of={ids[5]}") == {1, 2, 3, 4}
    assert listed("descendants_of=3") == {4, 5, 6}, "by number too"
    assert listed("ancestors_of=5&descendants_of=3") == {4}
    assert listed("ancestors_of=5&descendants_of=") == {1, 2, 3, 4}, "an empty field is no filter"
    assert listed("ancestors_of=5&text=nothing+like+it") == set()
    page = visitor.get(f"/runs/kin/programs/{ids[4]}").text
    assert f'href="/runs/kin/programs?ancestors_of={ids[4]}"' in page
    assert f'href="/runs/kin/programs?descendants_of={ids[4]}"' in page
    unknown = visitor.get("/runs/kin/programs?ancestors_of=fedcba")
    assert (unknown.status_code, "fedcba" in unknown.text, 'name="ancestors_of"' in unknown.text) == (404, True, True)
    assert visitor.get("/api/runs/kin/programs?descendants_of=99").status_code == 404
    runs.close()
