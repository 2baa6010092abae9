"""What may change while a run goes on, and that nothing else does."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from engine import going_on, rundir
from engine.campaign import run_campaign
from engine.config import REACHED_BY, CampaignConfig
from engine.config_file import build_config
from engine.errors import ConfigError, RunError
from engine.progress import Progress
from engine.store import Store

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
    going_on.change(run, [f"generator.{name}={value}" for name, value in REACH.items()])
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
        going_on.change(run, ["generator.parallel=1", setting])
    assert "\n" not in str(caught.value)
    assert (run / "campaign.json").read_text() == before
    other = build_config(rundir.read_config(run).model_dump(mode="json"), ["generator.batch=9"])
    assert rundir._same_for_a_run(other) != rundir._same_for_a_run(rundir.read_config(run))


def test_how_an_endpoint_is_reached_does_not_change_under_a_process_that_is_on_the_run(run: Path) -> None:
    before = (run / "campaign.json").read_text()
    with rundir.locked(run), pytest.raises(RunError, match="expected no other process on it"):
        going_on.change(run, ["generator.parallel=1"])
    assert (run / "campaign.json").read_text() == before


def finished(config: CampaignConfig, folder: Path, *settings: str) -> Store:
    """A run of a campaign with these settings, to its end."""
    tree = build_config(config.model_dump(mode="json"), settings)
    rundir.new_folder(tree, folder, "now")
    run_campaign(folder, Progress(tree))
    return Store.in_folder(folder)


def test_a_lengthened_run_is_what_it_would_have_been_from_the_start(
    small_config: CampaignConfig, tmp_path: Path
) -> None:
    search = "campaign.final=false"
    with closing(finished(small_config, tmp_path / "run", search, "campaign.iterations=1")) as store:
        assert not store.updates()
    going_on.change(tmp_path / "run", ["campaign.iterations=2"])
    with closing(Store.in_folder(tmp_path / "run")) as store:
        assert store.meta("state") is None, "not finished any more"
    run_campaign(tmp_path / "run", Progress(rundir.read_config(tmp_path / "run")))
    whole = finished(small_config, tmp_path / "whole", search)
    with closing(whole), closing(Store.in_folder(tmp_path / "run")) as store:
        assert len(store.candidates()) == 16
        assert store.updates().keys() == {1}
        assert store.digest() == whole.digest()
        assert store.meta("state") == whole.meta("state")


def test_a_run_that_met_its_test_problems_searches_no_more(small_config: CampaignConfig, tmp_path: Path) -> None:
    scripted = ["generator.kind=grammar", "learn.method=none", "campaign.programs=4", "campaign.iterations=1"]
    run = tmp_path / "run"
    with closing(finished(small_config, run, *scripted)) as store:
        state, before = store.meta("state"), (run / "campaign.json").read_text()
    with pytest.raises(
        RunError, match="when the final met the test problems, got 2; they are met once: start a new run"
    ):
        going_on.change(run, ["campaign.iterations=2"])
    going_on.change(run, ["campaign.iterations=1"])
    with closing(Store.in_folder(run)) as store:
        assert (store.meta("state"), (run / "campaign.json").read_text()) == (state, before)
    (run / "campaign.json").write_text(before.replace('"iterations": 1', '"iterations": 2'))
    with pytest.raises(RunError, match="they are met once"):
        run_campaign(run, Progress(rundir.read_config(run)))


def test_a_run_is_not_shortened(run: Path) -> None:
    before = (run / "campaign.json").read_text()
    with pytest.raises(ConfigError, match=r"campaign\.iterations: expected at least the 3 that the run has, got 2"):
        going_on.change(run, ["campaign.iterations=2"])
    assert (run / "campaign.json").read_text() == before
    going_on.change(run, ["campaign.iterations=5"])
    assert rundir.read_config(run).campaign.iterations == 5, "one that has not begun"
