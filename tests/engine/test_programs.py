"""Programs by what a user calls them."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine import archive_place, locations, rundir
from engine.config import CampaignConfig
from engine.errors import RunError, UnknownNameError
from engine.programs import choose, find_program, look_up
from engine.records import Final
from engine.store import Store
from engine.tables import apply_command
from tests.engine.bundles import SHIPPED
from tests.engine.conftest import Call, candidate, dev_score


def archive(
    folder: Path, *ids: str, share: float | None = 0.5, merge: str = "all", tested: bool = False, imported: bool = False
) -> Store:
    """An archive of programs with these ids, all of one dev share (None: failures), written to after those made before it."""
    rundir.new_folder(CampaignConfig.model_validate({"models": {"merge": merge}}), folder, "now")
    store = Store.in_folder(folder, create=True)
    some = [candidate(number, share) for number, _ in enumerate(ids, start=1)]
    store.take_over([replace(c, program=replace(c.program, id=one)) for c, one in zip(some, ids, strict=True)])
    for rank, one in enumerate(ids if tested else (), start=1):
        store.add_final(Final(one, "discovered", rank, 0.5, {}, dev_score()))
    if imported:
        (folder / rundir.IMPORT_FILE).write_text("{}")
    os.utime(folder / archive_place.FILE, times=(next(TIMES),) * 2)
    return store


TIMES = itertools.count(1_700_000_000)
"""When archives are written to: a file system's clock is too coarse."""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(locations, "RUNS", tmp_path / "runs")
    return tmp_path / "runs"


MANY = tuple(f"abcd{number:08x}" for number in range(1, 8))


@pytest.mark.parametrize("reference", ["abcd00000003", "abcd00000003"[:12], "3", "n3"])
def test_a_program_is_found_by_its_id_and_by_its_number(tmp_path: Path, reference: str) -> None:
    assert choose(archive(tmp_path / "x", *MANY), reference, "x").number == 3


def test_an_id_of_digits_comes_before_a_number(tmp_path: Path) -> None:
    store = archive(tmp_path / "x", *(f"{number:012d}" for number in range(1, 3)), "1000" + "0" * 8)
    assert choose(store, "1000", "x").number == 3


def test_where_an_id_and_a_number_fit_both_are_listed(tmp_path: Path) -> None:
    store = archive(tmp_path / "x", *(f"f{number:011d}" for number in range(1, 1000)), "1002" + "0" * 8, *MANY)
    with pytest.raises(UnknownNameError) as told:
        choose(store, "1002", "runs/x")
    assert str(told.value) == (
        "program '1002': expected one program, got 2: abcd00000002 (candidate 1002 of runs/x), 100200000000 (candidate 1000 of runs/x); "
        "give n1002 for the number, or more of the id"
    )
    assert choose(store, "n1002", "x").program.id == MANY[1]
    assert choose(store, "10020", "x").number == 1000
    assert choose(store, "1001", "x").program.id == MANY[0]


def test_a_number_and_an_id_of_one_program_are_no_question(tmp_path: Path) -> None:
    store = archive(tmp_path / "x", *(f"f{number:011d}" for number in range(1, 1000)), "1000" + "0" * 8)
    assert choose(store, "1000", "x").number == 1000


def test_a_beginning_of_several_lists_them_with_numbers_and_run(tmp_path: Path) -> None:
    store = archive(tmp_path / "x", *MANY)
    with pytest.raises(UnknownNameError) as told:
        choose(store, "abcd", "runs/x")
    assert str(told.value) == (
        "program 'abcd': expected the beginning of one id, got that of 7: abcd00000001 (candidate 1 of runs/x), "
        "abcd00000002 (candidate 2 of runs/x), abcd00000003 (candidate 3 of runs/x), abcd00000004 (candidate 4 of runs/x) and 3 more; "
        "give more of it"
    )


def test_several_in_several_runs_say_where_each_lies(runs: Path) -> None:
    archive(runs / "a", "abcd00000001")
    archive(runs / "b", "abcd00000002", "abcd00000001")
    with pytest.raises(
        UnknownNameError,
        match=r"that of 2: abcd00000001 \(candidate \d of .*runs/[ab]\), abcd00000002 \(candidate 1 of .*runs/b\);",
    ):
        find_program("abcd")
    assert find_program("abcd00000002").origin == "archive:b#abcd00000002"


@pytest.mark.parametrize(
    "reference",
    [
        "n",
        "n8",
        "n0",
        "n03",
        "N3",
        "",
        "abc",
        "abc%",
        "____",
        "%%%%",
        "ABCD",
        "8",
        "0",
        "-1",
        "9" * 5000,
        "²",
        "٣٣٣٣٣٣٣٣٣٣٣",
        "abcd'; --",
        "1e3",
    ],
)
def test_what_names_nobody_is_one_line(tmp_path: Path, runs: Path, reference: str) -> None:
    store = archive(runs / "x", *MANY)
    assert look_up(store, reference, "x") is None
    with pytest.raises(
        UnknownNameError, match=r"expected an id or number of 'x', got none; `mergewright archive list x` shows them"
    ):
        choose(store, reference, "x")
    if not reference.startswith("-"):
        with pytest.raises(UnknownNameError, match=r"expected a .py file, a library name"):
            find_program(reference)


def test_a_broken_archive_beside_a_good_one_is_passed_over(runs: Path) -> None:
    archive(runs / "good", "abcd00000001")
    (runs / "bad").mkdir(parents=True)
    (runs / "bad" / "archive.db").write_bytes(b"no database" * 100)
    assert find_program("abcd0000").origin == "archive:good#abcd00000001"


ID = "abcd00000001"
CAMPAIGN, TESTED, IMPORT, FAILED = {}, {"tested": True}, {"imported": True}, {"share": None}  # type: ignore[var-annotated]


@pytest.mark.parametrize(
    ("older", "newer", "meant"),
    [
        (CAMPAIGN, CAMPAIGN, "newer"),
        (CAMPAIGN, IMPORT, "older"),
        (TESTED, CAMPAIGN, "older"),
        (TESTED, IMPORT, "older"),
        (IMPORT, FAILED, "older"),
        (CAMPAIGN, IMPORT | FAILED, "older"),
        (FAILED, IMPORT | FAILED, "older"),
        (FAILED, FAILED, "newer"),
    ],
)
def test_an_id_of_several_runs_means_the_one_that_knows_most_of_it(
    runs: Path, older: Mapping[str, Any], newer: Mapping[str, Any], meant: str
) -> None:
    archive(runs / "older", ID, **older)
    archive(runs / "newer", ID, **newer)
    for reference in (ID, ID[:6]):
        assert find_program(reference, scored_alike=True).run == runs / meant
    for run in ("older", "newer"):
        assert find_program(f"{runs / run}#{ID}").run == runs / run


def test_runs_that_merged_different_parameters_are_asked_about(runs: Path) -> None:
    archive(runs / "a", ID)
    archive(runs / "b", ID, merge="mlp")
    archive(runs / "failed", ID, merge="attention", share=None)
    with pytest.raises(UnknownNameError) as told:
        find_program(ID[:8], scored_alike=True)
    assert str(told.value) == (
        f"program '{ID}': expected one run's, got that of runs that merged different parameters: "
        f"{runs}/b#{ID} (merge mlp), {runs}/a#{ID} (merge all); give one of these"
    )
    assert find_program(f"{runs}/a#{ID}", scored_alike=True).merge == "all"
    assert find_program(ID).source == find_program(f"{runs}/a#{ID}").source, "its text is the same everywhere"


def test_the_command_to_copy_means_the_run_that_shows_it(
    runs: Path, mergewright: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locations, "RUNS", Path("runs"))
    archive(runs / "a", ID)
    archive(runs / "b", ID, merge="mlp")
    for run, only_mlps in (("a", False), ("b", True)):
        command = apply_command(rundir.read_config(runs / run), ID, runs / run).removeprefix("mergewright ")
        assert f"runs/{run}#{ID}" in command
        merged = json.loads(mergewright(f"{command} --dry-run --json").out)["merged"]
        assert all("mlp" in tensor for tensor in merged) == only_mlps


def test_what_ships_is_meant_by_its_id_whatever_runs_have_it(runs: Path) -> None:
    archive(runs / "a", SHIPPED, tested=True)
    assert find_program(SHIPPED, scored_alike=True).shipped
    assert find_program(f"{runs}/a#{SHIPPED}").run == runs / "a"
    archive(runs / "b", SHIPPED, merge="mlp")
    with pytest.raises(
        UnknownNameError, match=rf"different parameters: shipped#{SHIPPED} \(merge all\), .*b#{SHIPPED}"
    ):
        find_program(SHIPPED, scored_alike=True)
    assert find_program(f"shipped#{SHIPPED}", scored_alike=True).shipped
    archive(runs / "shipped", SHIPPED)
    assert find_program(f"shipped#{SHIPPED}").run == runs / "shipped", "a run called so comes first"


def test_a_run_that_cannot_be_read_is_passed_over_for_one_that_can(runs: Path) -> None:
    archive(runs / "good", ID)
    archive(runs / "bad", ID)
    (runs / "bad" / "campaign.json").write_text("{")
    assert find_program(ID).run == runs / "good"
    with pytest.raises(RunError, match=r"expected a readable campaign.json"):
        find_program(f"{runs}/bad#{ID}")
    (runs / "good" / "campaign.json").write_text("{")
    with pytest.raises(UnknownNameError, match=r"expected a run that can be read, got none of .*bad, .*good"):
        find_program(ID)
