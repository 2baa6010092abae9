"""The runs of a server: each as it lies there now, and none of them in the way of another."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from engine import rundir
from engine.config import CampaignConfig
from engine.errors import RunError
from engine.pages.app import create_app
from engine.pages.runs import Runs
from engine.store import Store
from tests.engine.conftest import candidate
from tests.engine.pages.conftest import BASE


@pytest.fixture
def below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def begin(folder: Path, *shares: float, server: str | None = None, name: str = "small") -> None:
    """A run with candidates of these dev shares; what lay there is deleted."""
    shutil.rmtree(folder, ignore_errors=True)
    rundir.new_folder(CampaignConfig.model_validate({"campaign": {"name": name}}), folder, "now")
    with closing(Store.in_folder(folder, create=True, server=server)) as store:
        store.take_over([candidate(at, share) for at, share in enumerate(shares, start=1)])


@contextmanager
def visiting(*references: str | Path) -> Iterator[tuple[Runs, TestClient]]:
    """Runs, open, and a visitor of their pages."""
    with closing(Runs([str(one) for one in references])) as runs:
        yield runs, TestClient(create_app(runs), base_url=BASE)


def assessed(run: Any) -> int:
    return run.overview().assessed  # type: ignore[no-any-return]


def test_a_run_that_fails_once_it_is_open_hides_no_other(below: Path) -> None:
    begin(below / "good", 0.5)
    begin(below / "bad", 0.5)
    with visiting() as (_, visitor):
        assert visitor.get("/").text.count('href="/runs/') == 2
        with sqlite3.connect(below / "bad" / "archive.db") as connection:
            connection.execute("DROP TABLE trials")
        for address in ("/", "/beside?run=good&run=bad"):
            answer = visitor.get(address)
            assert answer.status_code == 200, address
            assert 'href="/runs/good"' in answer.text
            assert 'href="/runs/bad"' not in answer.text
            assert "no such table: trials" in answer.text
        assert [one["name"] for one in visitor.get("/api/runs").json()] == ["good"]
        assert visitor.get("/runs/bad").status_code == 400, "the page of the run itself says what is wrong"


def test_a_run_of_another_program_is_told_and_hides_no_other(below: Path) -> None:
    begin(below / "good", 0.5)
    begin(below / "other", 0.5)
    with sqlite3.connect(below / "other" / "archive.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '1975ea83b712'")
    with visiting() as (_, visitor):
        page = visitor.get("/").text
    assert 'href="/runs/good"' in page
    assert "got a database of another program" in page


@pytest.mark.parametrize("chosen", [False, True])
def test_a_run_begun_again_in_its_folder_is_the_one_that_is_shown(
    below: Path, archive_url: str | None, chosen: bool
) -> None:
    begin(below / "x", 0.5, 0.25, server=archive_url, name="before")
    with visiting(*([below / "x"] if chosen else [])) as (runs, visitor):
        before = runs.named("x")
        assert visitor.get("/api/runs/x").json()["proposed"] == 2
        begin(below / "x", 0.75, server=archive_url, name="after")
        answer = visitor.get("/api/runs/x").json()
        assert (answer["campaign"], answer["proposed"], answer["score"]) == ("after", 1, 0.75)
        assert [one["name"] for one in visitor.get("/api/runs").json()] == ["x"], "under the same name"
        assert runs.named("x") is runs.named("x") is not before
        if archive_url is None:
            assert assessed(before) == 2, "who was reading it reads on"


def test_what_nobody_reads_any_more_is_closed(below: Path) -> None:
    begin(below / "x", 0.5)
    with visiting() as (runs, _):
        reading = runs.named("x")
        begin(below / "x", 0.5)
        runs.refresh()
        assert deleted_files(below)
        del reading
        assert not deleted_files(below)


def deleted_files(below: Path) -> list[str]:
    """Files of runs that this process holds open and that are no more."""
    held = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    names = [str(link.readlink()) for link in held]
    return [name for name in names if name.startswith(str(below)) and name.endswith(" (deleted)")]


def test_a_run_that_is_gone_is_gone_and_may_come_back(below: Path) -> None:
    for name in ("x", "y"):
        begin(below / name, 0.5)
    with visiting() as (runs, visitor), visiting(below / "x", below / "y") as (_, other):
        shutil.rmtree(below / "x")
        with pytest.raises(RunError, match="expected an archive"):
            runs.named("x")
        assert 'href="/runs/x"' not in visitor.get("/").text
        page = other.get("/").text
        assert "expected an archive" in page, "one that was asked for by name is missed"
        assert 'href="/runs/y"' in page
        assert not (below / "x").exists(), "and a look makes nothing"
        begin(below / "x", 0.5)
        assert other.get("/runs/x").status_code == 200
        assert 'href="/runs/x"' in visitor.get("/").text


def test_a_run_that_takes_long_to_open_keeps_nobody_from_the_others(
    below: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(below / "x", 0.5)
    with visiting() as (runs, _):
        make = Store.in_folder

        def slow(folder: Path, **options: Any) -> Store:
            assert assessed(runs.named("x")) == 1, "while the lock is held"
            return make(folder, **options)

        begin(below / "late", 0.5)
        monkeypatch.setattr(Store, "in_folder", slow)
        runs.refresh()
        assert {run.name for run in runs} == {"x", "late"}
