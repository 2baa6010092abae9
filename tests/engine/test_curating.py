"""One command takes a program of a finished run into the archive that ships, with its scores on other experts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import curating, discovered, locations
from engine.records import Outcome
from engine.store import Store


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder in place of data/discovered."""
    here = locations.shipped("data")
    data = tmp_path / "data"
    data.mkdir()
    (data / "pocket").symlink_to(here / "pocket")
    monkeypatch.setattr(locations, "shipped", lambda name: tmp_path / name)
    discovered.entries.cache_clear()
    yield data / "discovered"
    discovered.entries.cache_clear()


def curate(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["discovered", *arguments])
    with pytest.raises(SystemExit) as ended:
        curating.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_finalist_is_added_with_its_transfer(
    finished_run: Path,
    shipped: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = Store.in_folder(finished_run)
    best = next(f for f in store.finals() if f.kind == "discovered" and f.rank == 1)
    (tmp_path / "why.md").write_text("It **sums**.\n")
    said = ["--title", "A sum", "--explanation", str(tmp_path / "why.md")]
    other = ["--transfer", "pocket/transfer_a,pocket/transfer_b,pocket/transfer_c", "--split", "fresh:5"]
    monkeypatch.setattr("engine.transfer.open_splits", lambda config, splits: _short(config, splits))
    assert curate(monkeypatch, f"{finished_run}#{best.name}", *said, *other) == 0, capsys.readouterr().err
    (entry,) = discovered.entries().values()
    assert (entry.id, entry.title, entry.explanation) == (best.name, "A sum", "It **sums**.")
    assert entry.test is not None
    assert entry.test.score.bits == best.score.bits
    (transfer,) = entry.transfer
    assert list(transfer.experts) == ["transfer_a", "transfer_b", "transfer_c"]
    assert transfer.splits == ("fresh:5",)
    assert {one.name for one in transfer.humans} == {"task_arithmetic", "model_stock"}
    assert transfer.evaluations == 3
    assert "It **sums**." in (shipped / "README.md").read_text()
    capsys.readouterr()
    unlucky = next(c.program.id for c in store.candidates() if c.assessment.outcome is Outcome.OK and c.program.id not in {f.name for f in store.finals()})  # fmt: skip
    for wrong, message in (
        (f"{finished_run}#{unlucky}", "expected a finalist of a finished run"),
        ("ties", "expected one of a run (RUN#ID)"),
        ("nosuch", "or an id from an archive below"),
    ):
        assert curate(monkeypatch, wrong, *said) == 2
        assert message in capsys.readouterr().err
    assert curate(monkeypatch, f"{finished_run}#{best.name}", "--title", "", "--explanation", str(tmp_path)) == 2
    assert len(discovered.files()) == 1


def _short(config: object, splits: tuple[str, ...]) -> object:
    """The first 24 problems of a split."""
    from engine import suites

    suite = suites.open_splits(config, splits)  # type: ignore[arg-type]
    part = suite.parts[0]
    return suites.Suite([type(part)(part.benchmark, part.problems[:24], part.weight, part.label)])
