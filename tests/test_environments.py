"""Environments of their own are made whole, once, and again where half of one was left; a variable names another."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import environments
from tests.environments import DebianPackage, Environment, outside

Runs = list[list[str]]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runs:
    """Commands in place of which nothing runs; environments are made below `tmp_path`."""
    commands: Runs = []

    class Done:
        stdout = "one>=1\ntwo\n"

    def run(command: list[object], **settings: object) -> Done:
        commands.append([str(word) for word in command])
        return Done()

    monkeypatch.setattr(environments.subprocess, "run", run)
    monkeypatch.setattr(environments.venv, "create", lambda folder, **settings: folder.mkdir(parents=True))
    monkeypatch.setattr(environments, "CACHE", tmp_path / ".cache")
    monkeypatch.delenv("NAMED", raising=False)
    return commands


def wanted(commands: Runs) -> Runs:
    """What pip was to install, call by call."""
    return [command[command.index("install") + 1 :] for command in commands if "install" in command]


def test_an_environment_is_made_once_and_again_for_another_version(runs: Runs, tmp_path: Path) -> None:
    python = Environment("venv", "NAMED", "thing", "1").python()
    assert python == tmp_path / ".cache" / "venv" / "bin" / "python"
    assert [call[-1] for call in wanted(runs)] == ["torch", "thing==1"]
    runs.clear()
    Environment("venv", "NAMED", "thing", "1").python()
    assert runs == []
    Environment("venv", "NAMED", "thing", "2").python()
    assert wanted(runs)[-1][-1] == "thing==2"


def test_of_several_processes_one_makes_it_and_the_others_wait(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    making: list[Path] = []

    def make(folder: Path, **settings: object) -> None:
        making.append(folder)
        time.sleep(0.2)  # long enough for the others to come
        folder.mkdir(parents=True)

    monkeypatch.setattr(environments.venv, "create", make)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: Environment("venv", "NAMED", "thing", "1").python(), range(3)))
    assert len(set(found)) == len(making) == 1


def test_half_an_environment_is_thrown_away(runs: Runs, tmp_path: Path) -> None:
    half = tmp_path / ".cache" / "venv" / "lib"
    half.mkdir(parents=True)
    Environment("venv", "NAMED", "thing", "1").python()
    assert not half.exists()
    assert runs


def test_requirements_that_are_left_out_are_not_asked_for(runs: Runs) -> None:
    Environment("venv", "NAMED", "thing", "1", frozenset({"sound"}), frozenset({"transformers"})).python()
    first, package, requirements = wanted(runs)
    assert (first[-1], package) == ("torch", ["--no-deps", "thing==1"])
    assert requirements[:2] == ["one>=1", "two"]
    assert [line.partition("==")[0] for line in requirements[2:]] == ["transformers"]
    (listing,) = [command for command in runs if "install" not in command]
    assert listing[-3:] == ["thing", "torch", "sound"]


@pytest.mark.parametrize("python", [True, False])
def test_a_variable_names_another_environment_or_its_python(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, python: bool
) -> None:
    there = tmp_path / "mine" / "bin" / "python"
    there.parent.mkdir(parents=True)
    there.touch()
    monkeypatch.setenv("NAMED", str(there if python else tmp_path / "mine"))
    assert Environment("venv", "NAMED", "thing", "1").python() == there
    assert runs == []


def test_programs_outside_see_neither_our_modules_nor_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "ours")
    monkeypatch.setenv("VIRTUAL_ENV", "ours")
    assert "ours" not in outside().values()
    assert outside()["HF_HUB_OFFLINE"] == "1"


@pytest.fixture
def package(tmp_path: Path) -> DebianPackage:
    """A package whose files would lie below `tmp_path`."""
    return DebianPackage("thing", f"{tmp_path}/*/bin/thing")


def put(folder: Path, version: str) -> Path:
    file = folder / version / "bin" / "thing"
    file.parent.mkdir(parents=True)
    file.touch()
    return file


def test_of_a_debian_package_the_newest_version_counts_and_nothing_is_installed(
    runs: Runs, package: DebianPackage, tmp_path: Path
) -> None:
    files = [put(tmp_path, version) for version in ("9", "15", "14")]
    assert package.find() == files[1]
    assert runs == []


def test_a_debian_package_that_is_missing_is_installed_by_root(
    runs: Runs, package: DebianPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **settings: object) -> subprocess.CompletedProcess[str]:
        runs.append(command)
        if "install" in command:
            put(tmp_path, "1")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(environments.subprocess, "run", run)
    monkeypatch.setattr(environments.os, "geteuid", lambda: 0)
    monkeypatch.setattr(environments.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert package.find() == tmp_path / "1" / "bin" / "thing"
    assert [command[-1] for command in runs] == ["update", "thing"]


@pytest.mark.parametrize(
    ("user", "reason"), [(1000, "install Debian's package thing, or run as root"), (0, "no such package")]
)
def test_a_debian_package_that_cannot_be_had_skips_the_test_and_says_why(
    package: DebianPackage, monkeypatch: pytest.MonkeyPatch, user: int, reason: str
) -> None:
    failed = subprocess.CompletedProcess([], 100, "", "E: no such package\n")
    monkeypatch.setattr(environments.subprocess, "run", lambda *_, **__: failed)
    monkeypatch.setattr(environments.os, "geteuid", lambda: user)
    monkeypatch.setattr(environments.shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(pytest.skip.Exception, match=reason):
        package.find()
