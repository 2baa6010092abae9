"""Environments of their own are made whole, once, and again where half of one was left; a variable names another."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import environments
from tests.environments import Environment, outside

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
    monkeypatch.setattr(environments, "ROOT", tmp_path)
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
