"""What a user sees while a campaign runs; the clock is the test's."""

from __future__ import annotations

import io
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import event

from engine.config import CampaignConfig
from engine.dashboard import Counts
from engine.errors import Interrupted
from engine.progress import Progress
from engine.records import Outcome, Trial
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


def searching(tmp_path: Path, campaign: dict[str, int]) -> tuple[Progress, Store, Clock]:
    clock, store = Clock(), Store.in_folder(tmp_path, create=True)
    config = CampaignConfig.model_validate({"campaign": campaign, "baselines": BASELINES})
    return Progress(config, clock=clock, folder="runs/x"), store, clock


TWO = {"iterations": 2, "programs": 4, "finalists": 1}


def test_a_snapshot_has_what_happened(tmp_path: Path) -> None:
    progress, store, clock = searching(tmp_path, TWO)
    progress.plan(2, 3.0, store)
    with progress.phase("tune", 0, store, Stages()):
        for name, kind, bits in (("seed", "seed", "1111"), ("ties", "human", "1100"), ("slerp", "human", "1000")):
            progress.trial(Trial(name, kind, {"t": 0.25} if kind == "human" else {}, dev_score(bits)))
    rows = [candidate(1, 0.25), candidate(2, 0.75), candidate(3, None), candidate(4, None, outcome=Outcome.DUPLICATE)]
    rows += [candidate(5, 0.5, iteration=2), candidate(6, None, iteration=2)]
    raced = replace(rows[4], assessment=replace(rows[4].assessment, score=dev_score("111-")))
    for iteration in (1, 2):
        stages = Stages(clock)
        with progress.phase("search", iteration, store, stages):
            progress.proposed(3)
            for row in (raced if c is rows[4] else c for c in rows if c.iteration == iteration):
                with stages.watch("generate", 1):
                    clock.now += 1.0
                clock.now += 1.0
                progress.assessed(row, row.assessment)
            seen = progress.snapshot()
    assert seen.where == "pocket · iteration 2/2: search"
    assert (seen.assessed, seen.planned, seen.here, seen.here_planned, seen.written) == (6, 8, 2, 4, 3)
    assert (seen.iteration, seen.scores, seen.scores_before) == (2, (1.0,), (0.25, 0.75))
    assert seen.counts == Counts(2, 1, 1, (("exception", 1),))
    assert seen.counts_before == Counts(4, 3, 2, (("exception", 2),))
    assert seen.best
    assert (seen.best.name, seen.best.value) == (rows[1].program.id, 0.75), "one that a race stopped is not the best"
    assert seen.human
    assert (seen.human.name, seen.human.value) == ("ties (t=0.25)", 0.5), "a seed is no merge"
    assert seen.busy == (("generate", 0.5),)
    assert [(one.name, one.verdict, one.score, one.complete) for one in seen.last[:3]] == [
        (rows[5].program.id, "failed", None, True),
        (raced.program.id, "ok", 1.0, False),
        (rows[3].program.id, "duplicate", None, True),
    ]
    assert seen.last[0].text == "exception"
    assert seen.per_minute == 30.0
    assert (seen.elapsed, seen.urgent, "runs/x" in seen.note) == (12.0, False, True)


UPDATE = {
    "method": "dpo",
    "trained": True,
    "probe_before": {"programs": 64, "valid": 0.75},
    "attempts": [
        {"probe": {"programs": 64, "valid": 0.8, "distinct": 0.9, "repeats": 0.05, "kl": 0.123}, "refused": []}
    ],
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            [
                "after iteration 1, dpo: the new version stays",
                "80 % valid after 75 %, 90 % distinct, 5 % repeats, KL 0.123",
            ],
        ),
        (
            {"trained": False, "attempts": [UPDATE["attempts"][0] | {"refused": ["KL 0.9, above 0.5"]}]},  # type: ignore[index]
            ["taken back: KL 0.9, above 0.5", "KL 0.123"],
        ),
        ({"trained": False, "attempts": [], "refused": "nothing to learn from"}, ["dpo: nothing to learn from"]),
        ({"probe_before": None, "attempts": [{"probe": None, "refused": []}] * 2}, ["stays, at attempt 2"]),
    ],
)
def test_the_last_update_is_told_in_short(tmp_path: Path, changes: dict[str, object], expected: list[str]) -> None:
    progress, store, _ = searching(tmp_path, TWO)
    progress.plan(2, 3.0, store)
    assert progress.snapshot().learning == ("no update yet",)
    with progress.phase("learn", 1, store, Stages()):
        progress.learnt(1, UPDATE | changes)
    seen = progress.snapshot().learning
    assert len(seen) == len(expected)
    assert all(text in line for text, line in zip(expected, seen, strict=True))


def test_a_resumed_run_shows_what_its_archive_holds_and_asks_it_once(tmp_path: Path) -> None:
    progress, store, _ = searching(tmp_path, TWO)
    rows = [
        candidate(1, 0.25),
        candidate(2, 0.75),
        candidate(3, None),
        candidate(4, None),
        candidate(5, 0.5, iteration=2),
    ]
    store.take_over(rows)
    store.propose(2, [candidate(6, None).program])
    store.add_trial(Trial("ties", "human", {}, dev_score("1000")))
    store.add_update(1, "dpo", {key: value for key, value in UPDATE.items() if key != "method"})
    progress.plan(2, 3.0, store)
    with progress.phase("search", 2, store, Stages()):
        asked: list[str] = []
        event.listen(store._engine, "before_cursor_execute", lambda _c, _k, statement, *_: asked.append(statement))
        seen = [progress.snapshot() for _ in range(3)][-1]
        assert asked == []
    assert (seen.scores, seen.scores_before, seen.assessed, seen.here) == ((0.5,), (0.25, 0.75), 5, 1)
    assert (seen.best and seen.best.value, seen.human and seen.human.value) == (0.75, 0.25)
    assert seen.last[0].name == rows[4].program.id
    assert "the new version stays" in seen.learning[0]


def test_a_stop_that_was_asked_for_is_in_the_snapshot(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    progress, _, _ = searching(tmp_path, TWO)
    progress.tell("stopping soon")
    assert (progress.snapshot().note, progress.snapshot().urgent) == ("stopping soon", True)
    assert "stopping soon" in capfd.readouterr().err, "without a dashboard it is a line"


def test_snapshots_may_be_taken_while_events_come(tmp_path: Path) -> None:
    progress, store, _ = searching(tmp_path, {"iterations": 1, "programs": 4000, "finalists": 1})
    progress.plan(2, 3.0, store)
    row, done, failures = candidate(1, 0.5), threading.Event(), list[Exception]()

    def draw() -> None:
        try:
            while not done.is_set():
                progress.snapshot()
        except RuntimeError as error:  # as of a deque that changes while it is read
            failures.append(error)

    drawer = threading.Thread(target=draw)
    drawer.start()
    with progress.phase("search", 1, store, Stages()):
        for _ in range(3000):
            progress.assessed(row, row.assessment)
    done.set()
    drawer.join()
    assert failures == []
    assert progress.snapshot().here == 3000


def test_without_a_stop_a_safe_point_passes() -> None:
    Progress(CampaignConfig()).check()


def test_a_stop_names_the_command_that_goes_on() -> None:
    progress = Progress(CampaignConfig(), resume_hint="mergewright resume runs/x")
    progress.request_stop("Ctrl-C")
    with pytest.raises(Interrupted, match=r"Ctrl-C.*mergewright resume runs/x"):
        progress.check()
