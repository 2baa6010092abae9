"""Programs by what a user calls them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine import locations, rundir
from engine.config import CampaignConfig
from engine.errors import UnknownNameError
from engine.programs import choose, find_program, look_up
from engine.store import Store
from tests.engine.conftest import candidate


def archive(folder: Path, *ids: str) -> Store:
    """An archive of programs with these ids."""
    rundir.new_folder(CampaignConfig(), folder, "now")
    store = Store.in_folder(folder, create=True)
    some = [candidate(number, 0.5) for number, _ in enumerate(ids, start=1)]
    store.take_over([replace(c, program=replace(c.program, id=one)) for c, one in zip(some, ids, strict=True)])
    return store


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(locations, "RUNS", tmp_path / "runs")
    return tmp_path / "runs"


MANY = tuple(f"abcd{number:08x}" for number in range(1, 8))


@pytest.mark.parametrize("reference", ["abcd00000003", "abcd00000003"[:12], "3"])
def test_a_program_is_found_by_its_id_and_by_its_number(tmp_path: Path, reference: str) -> None:
    assert choose(archive(tmp_path / "x", *MANY), reference, "x").number == 3


def test_an_id_of_digits_comes_before_a_number(tmp_path: Path) -> None:
    store = archive(tmp_path / "x", *(f"{number:012d}" for number in range(1, 3)), "1000" + "0" * 8)
    assert choose(store, "1000", "x").number == 3


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
    ["", "abc", "abc%", "____", "%%%%", "ABCD", "8", "0", "-1", "9" * 5000, "²", "٣٣٣٣٣٣٣٣٣٣٣", "abcd'; --", "1e3"],
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
