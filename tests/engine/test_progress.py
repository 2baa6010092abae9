"""What a user sees while a campaign runs; the clock is the test's."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from engine.config import CampaignConfig
from engine.errors import Interrupted
from engine.progress import Progress
from engine.records import Trial
from engine.stages import Stages
from engine.store import Store
from tests.engine.conftest import candidate, dev_score

CAMPAIGN = {"iterations": 1, "programs": 10, "finalists": 5}
BASELINES = {"names": ["task_arithmetic", "model_stock"], "evaluations": 1}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def shown(seconds_each: float, tmp_path: Path) -> str:
    clock, out = Clock(), io.StringIO()
    config = CampaignConfig.model_validate({"campaign": CAMPAIGN, "baselines": BASELINES})
    progress = Progress(config, Console(file=out, width=200, force_terminal=False), clock=clock)
    store = Store.in_folder(tmp_path, create=True)
    progress.plan(2, 3.0, store)
    with progress.phase("tune", 0, store, Stages()):
        for name in ("seed", "expert:a", "expert:b", "task_arithmetic", "model_stock"):
            clock.now += 1.0
            progress.trial(Trial(name, "human", {}, dev_score()))
    stages = Stages(clock)
    with progress.phase("search", 1, store, stages):
        with stages.watch("propose", 8):
            clock.now += 20.0
            progress.proposed(8)
        for number, share in enumerate([0.25, None, 0.5, 0.1], start=1):
            with stages.watch("generate", 5):
                clock.now += seconds_each
            row = candidate(number, share)
            progress.assessed(row, row.assessment)
    return out.getvalue().splitlines()[-1]


def test_the_line_has_phase_pace_valid_rate_best_and_time_left(tmp_path: Path) -> None:
    line = shown(10.0, tmp_path)
    assert "iteration 1/1: search 4" in line
    assert "4 candidates/min · 8 of 10 written" in line
    assert "valid 75 %" in line
    assert "best dev 50.0 %" in line
    assert "about 2:00 left" in line, (
        "six programs at 15 s, and ten scores of the final at three times a tuning's second"
    )


def test_the_clocks_seconds_by_phase_and_busy_seconds_by_stage_go_into_the_archive(tmp_path: Path) -> None:
    shown(15.0, tmp_path)
    store = Store.in_folder(tmp_path)
    assert store.phases() == ((0, "tune", 5.0, 5), (1, "search", 80.0, 4))
    assert store.stages() == ((1, "generate", 60.0, 20), (1, "propose", 20.0, 8))


def test_time_left_counts_what_the_archive_holds_as_done(tmp_path: Path) -> None:
    clock, out, store = Clock(), io.StringIO(), Store.in_folder(tmp_path, create=True)
    config = CampaignConfig.model_validate({"campaign": CAMPAIGN, "baselines": BASELINES})
    for name in ("seed", "expert:a", "expert:b", "model_stock"):
        store.add_trial(Trial(name, "seed", {}, dev_score()))
    progress = Progress(config, Console(file=out, width=200, force_terminal=False), clock=clock)
    progress.plan(2, 3.0, store)
    with progress.phase("tune", 0, store, Stages()):
        clock.now += 12.0
        progress.trial(Trial("ties", "human", {}, dev_score()))
    assert "about 8:00 left" in out.getvalue().splitlines()[-1], "ten programs at 12 s, the final's ten at 36, no trial"


def test_a_run_resumed_after_its_tuning_guesses_the_final_from_its_programs(tmp_path: Path) -> None:
    clock, out, store = Clock(), io.StringIO(), Store.in_folder(tmp_path, create=True)
    config = CampaignConfig.model_validate({"campaign": CAMPAIGN, "baselines": BASELINES})
    progress = Progress(config, Console(file=out, width=200, force_terminal=False), clock=clock)
    progress.plan(2, 3.0, store)
    progress._finished["tune"] = 5
    with progress.phase("search", 1, store, Stages()):
        clock.now += 10.0
        row = candidate(1, 0.5)
        progress.assessed(row, row.assessment)
    assert "about 6:30 left" in out.getvalue().splitlines()[-1], "nine programs at 10 s, the final's ten at 30"


def test_without_a_stop_a_safe_point_passes() -> None:
    Progress(CampaignConfig()).check()


def test_a_stop_names_the_command_that_goes_on() -> None:
    progress = Progress(CampaignConfig(), resume_hint="mergewright resume runs/x")
    progress.request_stop("Ctrl-C")
    with pytest.raises(Interrupted, match=r"Ctrl-C.*mergewright resume runs/x"):
        progress.check()
