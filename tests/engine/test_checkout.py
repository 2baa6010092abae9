"""Which state of the code runs: of a checkout, and of nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from engine.checkout import commit


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit."""
    if shutil.which("git") is None:
        pytest.skip("it needs git")
    (tmp_path / "file").write_text("one")
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    for words in (["init", "--quiet"], ["add", "file"], [*who, "commit", "--quiet", "--message", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    return tmp_path


def test_a_checkout_has_its_commit_and_says_where_files_differ_from_it(checkout: Path) -> None:
    told = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    (checkout / "new").write_text("git does not know it")
    assert commit(checkout) == told.stdout.strip()
    (checkout / "file").write_text("two")
    assert commit(checkout) == f"{told.stdout.strip()}+changes"


def test_what_lies_in_somebody_elses_checkout_has_no_commit(checkout: Path) -> None:
    installed = checkout / "venv" / "site-packages"
    installed.mkdir(parents=True)
    assert commit(installed) is None


def test_without_git_and_with_a_repository_that_cannot_be_read_there_is_none(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(checkout / ".git" / "refs")
    assert commit(checkout) is None
    monkeypatch.setenv("PATH", "")
    assert commit() is None
