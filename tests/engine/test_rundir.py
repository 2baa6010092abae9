"""A run's folder: what makes a run the same run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine import rundir
from engine.config import REACHED_BY, CampaignConfig
from engine.config_file import build_config
from engine.errors import ConfigError, RunError


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


REACH = {
    "base_url": "http://other:1/v1",
    "api_key_env": "OTHER",
    "retries": 9,
    "timeout_seconds": 1.5,
    "parallel": 1,
    "price_read": 2.0,
    "price_written": 3.0,
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that has not begun."""
    return rundir.new_folder(CampaignConfig(), tmp_path / "run", "now")


def test_how_an_endpoint_is_reached_may_change_and_stays_changed(run: Path) -> None:
    assert set(REACH) == set(REACHED_BY)
    before = rundir.read_config(run)
    rundir.reach_by(run, [f"generator.{name}={value}" for name, value in REACH.items()])
    after = rundir.read_config(run)
    assert {name: getattr(after.generator, name) for name in REACH} == REACH
    assert rundir._same_for_a_run(after) == rundir._same_for_a_run(before)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("campaign.programs=9", r"may change while a run goes on \(generator\.base_url, .*; start a new run with it$"),
        ("generator.batch=9", "got another; start a new run with it$"),
        ("retries=9", "got another; start a new run with it$"),
        ("generator.retries", r"expected SECTION\.KEY=VALUE"),
        ("generator.retries=many", r"key 'generator\.retries': expected a valid integer"),
    ],
)
def test_all_else_is_part_of_the_run_and_nothing_of_it_is_changed(run: Path, setting: str, message: str) -> None:
    before = (run / "campaign.json").read_text()
    with pytest.raises(ConfigError, match=message) as caught:
        rundir.reach_by(run, ["generator.parallel=1", setting])
    assert "\n" not in str(caught.value)
    assert (run / "campaign.json").read_text() == before
    other = build_config(rundir.read_config(run).model_dump(mode="json"), ["generator.batch=9"])
    assert rundir._same_for_a_run(other) != rundir._same_for_a_run(rundir.read_config(run))


def test_how_an_endpoint_is_reached_does_not_change_under_a_process_that_is_on_the_run(run: Path) -> None:
    before = (run / "campaign.json").read_text()
    with rundir.locked(run), pytest.raises(RunError, match="expected no other process on it"):
        rundir.reach_by(run, ["generator.parallel=1"])
    assert (run / "campaign.json").read_text() == before


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
    assert told(["models.threads=2"], []) is None  # left open: as its own file names them
    assert told(["models.threads=2"], ["models.threads=1"]) == ("models.threads", 2, 1)
