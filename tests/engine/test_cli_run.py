"""`mergewright run` as a user meets it: the printed next command works, and a mistake costs nothing."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from engine import rundir
from engine.config_file import build_config
from engine.store import Store
from tests.engine import conftest
from tests.postgresql import Server

ROOT = Path(__file__).parents[2]
TINY = (
    "campaign.iterations=1 campaign.programs=4 campaign.finalists=1 generator.kind=grammar benchmark.dev_limit=8 "
    "benchmark.test_limit=8 baselines.names=task_arithmetic,model_stock baselines.evaluations=1"
)


def mergewright(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "engine.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def settings(text: str) -> list[str]:
    """`a=b c=d` as --set options."""
    return [part for setting in text.split() for part in ("--set", setting)]


def test_the_printed_commands_work_as_printed(tmp_path: Path) -> None:
    folder = f"elsewhere/my run {'with a long name ' * 5}"  # wider than the table, and the command is not wrapped
    run = mergewright(tmp_path, "run", *settings(TINY), "--out", folder)
    assert run.returncode == 0, run.stderr
    (line,) = (line.strip() for line in run.stdout.splitlines() if line.strip().startswith("mergewright apply"))
    applied = mergewright(tmp_path, *shlex.split(line)[1:])
    assert applied.returncode == 0, applied.stderr
    assert mergewright(tmp_path, "verify", "merged").returncode == 0
    (why,) = (line.partition(": ")[2] for line in run.stdout.splitlines() if line.startswith("What carries its score"))
    ablated = mergewright(tmp_path, *shlex.split(why)[1:])
    assert ablated.returncode == 0, ablated.stderr
    assert "one thing changed at a time" in ablated.stdout


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("baselines.names=nosuch", "baselines.names': expected names out of"),
        ("baselines.names=slerp", "expected methods for 3 experts in baselines.names (leave out slerp"),
        ("generator.kind=scripted", "generator.script: expected a folder of .py programs"),
        ("generator.model=/nonexistent", "/nonexistent"),
        ("generator.prompt=chat", "chat template"),
        ("models.device=cuda", "expected a machine with CUDA"),
        ("benchmark.name=jsonl", "benchmark"),
    ],
)
def test_a_mistake_is_one_line_before_any_work_and_leaves_the_folder_free(
    tmp_path: Path, setting: str, message: str
) -> None:
    kind = "" if setting.startswith("generator") else "generator.kind=grammar "
    tiny = TINY.replace("generator.kind=grammar ", "")
    result = mergewright(tmp_path, "run", *settings(f"{tiny} {kind}{setting}"), "--out", "run")
    assert result.returncode == 2, result.stdout + result.stderr
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert "tuning" not in result.stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.full
def test_a_run_in_postgresql_is_killed_resumed_listed_and_shown_as_one_in_a_file(
    server: Server, programs_folder: Path, tmp_path: Path
) -> None:
    def told(*words: str) -> str:
        done = mergewright(tmp_path, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    small = conftest.small_config.__wrapped__().model_dump(mode="json")  # type: ignore[attr-defined]
    script = ["generator.kind=scripted", f"generator.script={programs_folder}", "campaign.iterations=1"]
    lists, shown, digests = [], [], []
    for name, place in (("file", []), ("database", [f"archive.url={server.url}"])):
        folder = tmp_path / name
        rundir.new_folder(build_config(small, [*script, *place]), folder, "now")
        killed = [sys.executable, str(Path(__file__).with_name("dying_run.py")), str(folder), "assess", "4"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        assert subprocess.run(killed, env=environment, capture_output=True, check=False).returncode == -signal.SIGKILL
        assert json.loads(told("status", str(folder), "--json"))["assessed"] == 4
        told("resume", str(folder))
        assert json.loads(told("status", str(folder), "--json"))["finished"]
        rows = json.loads(told("archive", "list", str(folder), "--json"))
        lists.append([(row["id"], row["verdict"], row["score"]) for row in rows])
        facts = json.loads(told("archive", "show", str(folder), rows[0]["id"], "--json"))
        shown.append((facts["source"], facts["descriptors"], facts["test"]))
        with closing(Store.in_folder(folder)) as store:
            digests.append(store.digest())
    assert (tmp_path / "database" / "archive.url").is_file()
    assert not (tmp_path / "database" / "archive.db").exists()
    assert len(lists[0]) == 8
    assert lists[0] == lists[1]
    assert shown[0] == shown[1]
    assert digests[0] == digests[1]
