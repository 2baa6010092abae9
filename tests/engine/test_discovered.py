"""The archive that ships: its files say the truth, its programs behave as they say, and they are found by their ids."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest
from blake3 import blake3

from engine import curating, discovered, locations, programs
from engine.bench import Prober
from engine.config import CampaignConfig
from engine.descriptors import distance
from engine.errors import HostError, UnknownNameError
from engine.programs import find_program
from merges.contract import program_id
from merges.probes import behaves_as
from tests.engine.bundles import SHIPPED, changed, shipped_tree, written
from tests.engine.conftest import Call, candidate

ROOT = Path(__file__).parents[2]


def test_every_shipped_program_is_what_its_file_says() -> None:
    assert SHIPPED in discovered.entries()
    with Prober(CampaignConfig()) as prober:
        for id, entry in discovered.entries().items():
            answer = prober.probe_with(entry.source, entry.behaviour.experts)
            assert answer.outputs is not None
            assert behaves_as(answer.outputs, entry.behaviour.hash)
            assert program_id(entry.source) == id
            assert entry.licence == "Apache-2.0"
            for told in (entry.title, entry.explanation, entry.found, entry.dev, entry.test, entry.transfer):
                assert told, f"{id} ships without something that every shipped program has"


def test_those_that_ship_do_different_things() -> None:
    with Prober(CampaignConfig()) as prober:
        sketches = [
            prober.describe(entry.source, prober.probe_with(entry.source, entry.behaviour.experts)).sketch
            for entry in discovered.entries().values()
        ]
    assert len(sketches) >= 5
    assert min(distance(*pair) for pair in itertools.combinations(sketches, 2)) > 0.4


def test_the_page_is_what_the_files_say_with_their_hashes() -> None:
    page = (discovered.folder() / "README.md").read_text()
    assert page == curating.page(discovered.entries())
    rows = dict(re.findall(r"^\| `(\S+\.json)` \| \d+ \| `(\w+)` \|$", page, re.M))
    assert rows == {path.name: blake3(path.read_bytes()).hexdigest() for path in discovered.files()}
    assert all(id in page for id in discovered.entries())


def test_a_wheel_takes_them_along() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included["data/discovered"] == "engine/_shipped/data/discovered"


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped folder, which `discovered` reads."""
    copy = tmp_path / "data" / "discovered"
    shutil.copytree(discovered.folder(), copy)
    monkeypatch.setattr(locations, "shipped", lambda name: tmp_path / name)
    discovered.entries.cache_clear()
    yield copy  # type: ignore[misc]
    discovered.entries.cache_clear()


@pytest.mark.parametrize("place", [("id",), ("source",), ("dev", "share")])
def test_a_changed_file_is_the_hosts_fault(shipped: Path, place: tuple[str, ...]) -> None:
    lie = {"id": "0" * 12, "source": "def merge_models(model_dict, device):\n    return 0\n", "share": 0.9}[place[-1]]
    written(changed(shipped_tree(), ("programs", 0, *place), lie), shipped / f"{SHIPPED}.json")
    with pytest.raises(HostError, match="ships with Mergewright; install it again"):
        find_program(SHIPPED)


def test_a_file_under_another_id_is_refused(shipped: Path) -> None:
    (shipped / f"{SHIPPED}.json").rename(shipped / "000000000000.json")
    with pytest.raises(HostError, match="expected the one program 000000000000, got 2cacd0fdbed4"):
        find_program("0000")


def test_they_are_found_by_the_beginning_of_their_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = find_program(SHIPPED[:4])
    assert (found.origin, found.merge, found.shipped) == (f"shipped:{SHIPPED}", "all", True)
    for reference in (SHIPPED[:3], "ffff", f"nosuch#{SHIPPED}"):
        with pytest.raises(UnknownNameError):
            find_program(reference)


def test_a_beginning_of_two_ids_lists_both_with_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = candidate(1, 0.5)
    other = type(one)(1, 1, type(one.program)(**{**vars(one.program), "id": "2cac00000000"}), one.assessment)
    monkeypatch.setattr(programs, "run_folders", lambda: [Path("runs/a"), Path("runs/b")])
    monkeypatch.setattr(programs, "_ids", lambda folder, beginning, unread: ["2cac00000000"])
    monkeypatch.setattr(programs, "_program", lambda folder, program_id: other)
    with pytest.raises(UnknownNameError) as error:
        find_program("2cac")
    lies = "2cac00000000 (candidate 1 of runs/a, candidate 1 of runs/b)"
    assert f"got that of 2: {lies}, {SHIPPED} (shipped); give more of it" in str(error.value)


def test_the_command_lists_and_shows_them(mergewright: Call) -> None:
    assert SHIPPED in mergewright("archive shipped").out
    (row,) = (row for row in json.loads(mergewright("archive shipped --json").out) if row["id"] == SHIPPED)
    assert row["test"]["against"]["name"] == "ties"
    page = mergewright(f"archive shipped {SHIPPED[:4]}").out
    for words in ("merged += w * v", "The median is its condition", "transfer_a"):
        assert words in page
    assert (
        json.loads(mergewright(f"archive shipped {SHIPPED} --json").out)["source"]
        == discovered.entries()[SHIPPED].source
    )


def test_one_applies_out_of_the_box(mergewright: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    models = " ".join(f"--expert pocket/expert_{x}" for x in "abc")
    assert mergewright(f"apply {SHIPPED[:6]} --base pocket/seed {models} --out merged").code == 0
    assert mergewright("verify merged").code == 0
    dev = discovered.entries()[SHIPPED].dev
    assert dev is not None
    facts = json.loads(mergewright("score merged --limit 60 --json").out)
    assert facts["bits"] == dev.bits[:60]
    card = (tmp_path / "merged" / "README.md").read_text()
    assert "merged += w * v" in card
