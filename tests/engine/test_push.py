"""`apply --push-to-hub` as a user meets it, against a hub on this machine: what is found before the merge, and what is left after a failure."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from engine.cli import main
from tests.merges.fake_hub import WRITER, FakeHub, Repository, in_place_of_the_hub

NAME = "writer/merged"
Apply = Callable[[str], tuple[int, str, str]]

RESTORE = """\
import sys, hf_xet
store, file, out = sys.argv[1:]
(found,) = hf_xet.hash_files([file])
with hf_xet.XetSession().new_file_download_group(endpoint=f"local://{store}") as group:
    group.start_download_file(hf_xet.XetFileInfo(found.hash, found.file_size), out)
"""
"""Reads a file back from the chunk store."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with in_place_of_the_hub(monkeypatch) as running:
        yield running


def arguments(options: str, out: Path) -> list[str]:
    line = f"apply ties --base pocket/seed --expert pocket/expert_a --expert pocket/expert_b --out {out} {options}"
    return shlex.split(line)


@pytest.fixture
def apply(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Apply:
    """apply(options) -> exit code, standard output, standard error of a merge to `tmp_path / "merged"`."""

    def call(options: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mergewright", *arguments(options, tmp_path / "merged")])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err

    return call


def test_a_merge_is_pushed_and_its_address_printed(hub: FakeHub, apply: Apply, tmp_path: Path) -> None:
    code, out, _ = apply(f"--push-to-hub {NAME}")
    assert (code, out.splitlines()[-1]) == (0, f"pushed to {hub.url}/{NAME}")
    sent = hub.repositories[NAME]
    assert sent.private
    assert {n: data for n, data in sent.files.items() if n != ".gitattributes"} == {
        path.name: path.read_bytes() for path in (tmp_path / "merged").iterdir()
    }


def test_json_is_the_record_with_the_address(hub: FakeHub, apply: Apply, tmp_path: Path) -> None:
    code, out, _ = apply(f"--push-to-hub {NAME} --public --json")
    record = json.loads((tmp_path / "merged" / "provenance.json").read_text())
    assert (code, json.loads(out)) == (0, {**record, "pushed_to": f"{hub.url}/{NAME}"})
    assert not hub.repositories[NAME].private


def test_without_the_option_nobody_is_asked(hub: FakeHub, apply: Apply) -> None:
    code, out, _ = apply("--json")
    assert (code, "pushed_to" in json.loads(out), hub.asked) == (0, False, [])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ("--push-to-hub merged", "expected OWNER/NAME"),
        (f"--push-to-hub {NAME}", "token of the hub: expected one that may write, got none"),
        ("--public", "--public: expected with --push-to-hub OWNER/NAME, got it alone"),
    ],
)
def test_what_stands_in_the_way_is_one_line_before_the_merge(
    hub: FakeHub, apply: Apply, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: str, match: str
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    code, out, err = apply(options)
    assert (code, out) == (2, "")
    assert match in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "merged").exists()
    assert hub.repositories == {}


def test_a_failed_upload_is_exit_code_1_and_the_folder_is_whole(hub: FakeHub, apply: Apply, tmp_path: Path) -> None:
    hub.fails[("PUT", "/lfs/.*")] = (500, "no luck")
    code, out, err = apply(f"--push-to-hub {NAME}")
    merged = tmp_path / "merged"
    assert code == 1
    assert out.startswith(f"wrote {merged}: ")
    assert f"the merge is complete in {merged}, push it again with: hf upload {NAME} {merged} . --private" in err
    verified = subprocess.run([sys.executable, "-m", "engine.cli", "verify", merged], check=False)
    assert verified.returncode == 0


@pytest.mark.parametrize(("there", "state"), [(True, "there and empty"), (False, "to be made")])
def test_a_dry_run_says_where_it_would_go_and_makes_nothing(
    hub: FakeHub, apply: Apply, tmp_path: Path, there: bool, state: str
) -> None:
    if there:
        hub.repositories[NAME] = Repository(private=True)
    code, out, _ = apply(f"--push-to-hub {NAME} --dry-run")
    assert code == 0
    assert f"push: to {hub.url}/{NAME}, private, {state}, as writer" in out.splitlines()
    assert (NAME in hub.repositories) is there
    assert not (tmp_path / "merged").exists()
    _, out, _ = apply(f"--push-to-hub {NAME} --dry-run --json")
    assert json.loads(out)["push"]["url"] == f"{hub.url}/{NAME}"


def test_a_dry_run_lists_the_repository_among_the_problems(hub: FakeHub, apply: Apply) -> None:
    hub.repositories[NAME] = Repository(True, {"model.safetensors": b"other"})
    code, out, _ = apply(f"--push-to-hub {NAME} --dry-run --json")
    facts = json.loads(out)
    assert (code, facts["push"]) == (2, None)
    assert [problem.split(",")[0] for problem in facts["problems"]] == [f"{NAME}: expected a new or empty repository"]


def test_the_environments_own_settings_and_the_chunk_store_work(hub: FakeHub, tmp_path: Path) -> None:
    """In a process of its own, since the client reads its settings once; the weights go through hf_xet, as they do by default."""
    hub.xet, out, restored = tmp_path / "store", tmp_path / "merged", tmp_path / "restored"
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": WRITER, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "engine.cli", *arguments(f"--push-to-hub {NAME}", out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"pushed to {hub.url}/{NAME}"), done.stderr[-2000:]
    assert WRITER not in done.stdout + done.stderr
    weights = out / "model.safetensors"
    subprocess.run([sys.executable, "-c", RESTORE, hub.xet, weights, restored], check=True)
    assert restored.read_bytes() == weights.read_bytes()
