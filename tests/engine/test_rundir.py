"""A run's folder: what makes a run the same run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine import rundir
from engine.config import CampaignConfig
from engine.config_file import build_config
from engine.errors import EngineError, RunError


@pytest.mark.parametrize("kind", ["model", "vllm"])
def test_a_generator_is_known_by_its_weights_wherever_it_writes(tmp_path: Path, kind: str) -> None:
    config = build_config({"generator": {"kind": kind, "model": str(tmp_path)}})
    identities = set()
    for value in (0.0, 1.0):
        save_file({"weight": torch.full((2,), value)}, tmp_path / "model.safetensors")
        identities.add(rundir._generator_identity(config))
    assert len(identities) == 2
    elsewhere = build_config({"generator": {"kind": kind, "model": "owner/name"}})
    assert rundir._generator_identity(elsewhere) == "owner/name"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that has not begun."""
    return rundir.new_folder(CampaignConfig(), tmp_path / "run", "now")


MANIFEST = {"inputs": {"base": "b"}, "versions": {"torch": "2"}, "campaign": "c"}


def test_another_commit_is_no_reason_to_refuse_a_run_and_is_noted(run: Path) -> None:
    def noted(*commits: str) -> list[str] | None:
        rundir.check_manifest(run, {**MANIFEST, **({"commits": list(commits)} if commits else {})})
        found: list[str] | None = rundir.read_manifest(run).get("commits")
        return found

    assert noted() is None  # no checkout
    assert noted("a") == [rundir.NOT_KNOWN, "a"]
    assert noted("b") == noted("a") == noted() == [rundir.NOT_KNOWN, "a", "b"]
    with pytest.raises(RunError, match="expected torch 2 as at its start"):
        rundir.check_manifest(run, {**MANIFEST, "versions": {"torch": "3"}, "commits": ["c"]})
    assert noted() == [rundir.NOT_KNOWN, "a", "b"]


def test_two_configurations_are_told_apart_by_the_first_key_in_which_their_runs_differ() -> None:
    def told(there: list[str], wanted: list[str]) -> tuple[str, object, object] | None:
        return rundir.difference(build_config({}, there), build_config({}, wanted))

    assert told([], ["benchmark.dev_limit=9", "learn.epochs=9"]) == ("benchmark.dev_limit", None, 9)
    assert told(["campaign.max_hours=2"], ["generator.retries=9", "archive.url=postgresql://me@host/a"]) is None
    assert told([], ["campaign.iterations=6"]) == (
        "campaign.iterations",
        3,
        6,
    )  # it may grow, and then it is not the same
    assert told(["models.threads=2"], []) is None  # left open: as its own file names them
    assert told(["models.threads=2"], ["models.threads=1"]) == ("models.threads", 2, 1)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\xff"])
def test_a_file_of_a_run_that_cannot_be_read_is_one_line(run: Path, text: str) -> None:
    for name, read in (("campaign.json", rundir.read_config), (rundir.MANIFEST_FILE, rundir.read_manifest)):
        (run / name).write_bytes(text.encode("latin-1"))
        with pytest.raises(EngineError) as caught:
            read(run)
        assert str(caught.value).count("\n") == 0
        assert name in str(caught.value)
