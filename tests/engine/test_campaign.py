"""The whole loop on the pocket world: every fate a row, nothing paid twice, the same end however often it is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.evaluators import TransformersEvaluator
from engine import campaign, rundir
from engine.campaign import run_campaign
from engine.config import CampaignConfig, build_config
from engine.errors import Interrupted, RunError
from engine.hashing import derived_seed
from engine.progress import Progress
from engine.records import Outcome
from engine.store import Store
from engine.suites import open_suite, problems_of

ROOT = Path(__file__).parents[2]


def start(config: CampaignConfig, folder: Path) -> Store:
    rundir.new_folder(config, folder, "now")
    run_campaign(folder, Progress(config))
    return Store.in_folder(folder)


def changed(config: CampaignConfig, *settings: str) -> CampaignConfig:
    return build_config(config.model_dump(mode="json"), settings)


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> tuple[CampaignConfig, Path]:
    """One finished run of scripted programs of every fate, each proposed twice."""
    from tests.engine import conftest

    programs = conftest.programs_folder.__wrapped__(tmp_path_factory.mktemp("p"))  # type: ignore[attr-defined]
    config = changed(
        conftest.small_config.__wrapped__(),
        "generator.kind=scripted",
        f"generator.script={programs}",
        "campaign.programs=8",
    )  # type: ignore[attr-defined]
    folder = tmp_path_factory.mktemp("runs") / "scripted"
    start(config, folder)
    return config, folder


def test_every_fate_is_a_row_with_its_reason(scripted: tuple[CampaignConfig, Path]) -> None:
    rows = Store.in_folder(scripted[1]).candidates(1)
    fates = [(c.assessment.outcome.value, c.assessment.reason) for c in rows]
    assert fates == [
        ("ok", None),
        ("duplicate", None),
        ("rejected", "policy"),
        ("failed", "exception"),
        ("failed", "wrong_shape"),
        ("rejected", "syntax"),
        ("ok", None),
        ("ok", None),
    ]
    assert rows[1].assessment.duplicate_of == rows[0].program.id


def test_only_new_working_programs_have_a_score(scripted: tuple[CampaignConfig, Path]) -> None:
    for c in Store.in_folder(scripted[1]).candidates():
        assert (c.score is not None) == (c.assessment.outcome is Outcome.OK)


def test_a_program_of_an_earlier_iteration_is_a_duplicate(scripted: tuple[CampaignConfig, Path]) -> None:
    second = Store.in_folder(scripted[1]).candidates(2)
    assert not [c for c in second if c.assessment.outcome is Outcome.OK]
    assert [c.assessment.outcome for c in second].count(Outcome.DUPLICATE) == 4


def test_test_problems_are_touched_once_by_each_finalist_only(scripted: tuple[CampaignConfig, Path]) -> None:
    finals = Store.in_folder(scripted[1]).finals()
    kinds = [f.kind for f in finals]
    assert kinds == ["seed", "expert", "expert", "expert", "human", "human", "discovered", "discovered"]
    assert len({(f.kind, f.name) for f in finals}) == len(finals)


def test_no_model_reads_a_test_problem_before_the_final(
    scripted: tuple[CampaignConfig, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = scripted
    questions = {p.question for p in problems_of(open_suite(config, "test"))}
    log: list[str] = []
    answer, run_final = TransformersEvaluator.answer, campaign.run_final

    def spying(self: TransformersEvaluator, prompts: Sequence[str], **options: Any) -> list[str]:
        seen = [prompt for prompt in prompts if any(question in prompt for question in questions)]
        log.append(f"{len(seen)} of {len(prompts)} prompts are of test")
        return answer(self, prompts, **options)

    def marking(*arguments: Any) -> None:
        log.append("final")
        run_final(*arguments)

    monkeypatch.setattr(TransformersEvaluator, "answer", spying)
    monkeypatch.setattr(campaign, "run_final", marking)
    subjects = len(start(config, tmp_path / "spied").finals())
    before, after = log[: log.index("final")], log[log.index("final") + 1 :]
    assert set(before) == {"0 of 6 prompts are of test"}, "four blocks of the race"
    assert after == ["24 of 24 prompts are of test"] * subjects


def test_the_same_seed_gives_the_same_archive(scripted: tuple[CampaignConfig, Path], tmp_path: Path) -> None:
    config, folder = scripted
    assert start(config, tmp_path / "again").digest() == Store.in_folder(folder).digest()


def test_a_finished_run_is_not_run_again(scripted: tuple[CampaignConfig, Path]) -> None:
    config, folder = scripted
    before = Store.in_folder(folder).digest()
    run_campaign(folder, Progress(config))
    assert Store.in_folder(folder).digest() == before


def test_the_manifest_names_versions_inputs_and_isolation(scripted: tuple[CampaignConfig, Path]) -> None:
    manifest = json.loads((scripted[1] / "manifest.json").read_text())
    assert set(manifest["versions"]) >= {"torch", "transformers", "python"}
    assert set(manifest["inputs"]["experts"]) == {"expert_a", "expert_b", "expert_c"}
    assert manifest["isolation"]["level"] in ("FULL", "REDUCED")


def test_a_stop_asked_for_is_kept_and_resumed(scripted: tuple[CampaignConfig, Path], tmp_path: Path) -> None:
    config, folder = scripted
    other = tmp_path / "stopped"
    rundir.new_folder(config, other, "now")
    progress = Progress(config, resume_hint="mergewright resume X")
    original = progress.assessed

    def stop_after_first(*arguments: object) -> None:
        original(*arguments)  # type: ignore[arg-type]
        progress.request_stop("Ctrl-C")

    progress.assessed = stop_after_first  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match=r"stopped in order \(Ctrl-C\).*mergewright resume X"):
        run_campaign(other, progress)
    run_campaign(other, Progress(config))
    assert Store.in_folder(other).digest() == Store.in_folder(folder).digest()


def test_the_time_limit_stops_in_order(small_config: CampaignConfig, tmp_path: Path) -> None:
    config = changed(small_config, "campaign.max_hours=0.001", "generator.kind=grammar")
    rundir.new_folder(config, tmp_path / "run", "now")
    ticks = iter(range(0, 10**6, 2))
    with pytest.raises(Interrupted, match=r"limit of 0.001 hours is over"):
        run_campaign(tmp_path / "run", Progress(config, clock=lambda: float(next(ticks))))


def test_a_second_process_on_the_same_run_is_refused(scripted: tuple[CampaignConfig, Path]) -> None:
    config, folder = scripted
    with (
        rundir.locked(folder),
        pytest.raises(RunError, match=rf"expected no other process on it, got process {os.getpid()}"),
    ):
        run_campaign(folder, Progress(config))


def test_changed_inputs_are_refused_on_resume(scripted: tuple[CampaignConfig, Path], tmp_path: Path) -> None:
    config, _ = scripted
    folder = tmp_path / "run"
    start(changed(config, "campaign.iterations=1", "campaign.programs=1"), folder)
    text = (folder / "campaign.json").read_text()
    (folder / "campaign.json").write_text(text.replace("pocket/expert_a", "pocket/transfer_a"))
    with pytest.raises(RunError, match="expected the same experts as at its start"):
        run_campaign(folder, Progress(config))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("manifest.json", "{", "", "expected a readable manifest.json"),
        ("manifest.json", f'"torch": "{torch.__version__}"', '"torch": "0.1"', "expected torch 0.1 as at its start"),
        ("campaign.json", '"temperature":1.0', '"temperature":0.2', "expected campaign.json as at its start"),
    ],
)
def test_what_would_mix_two_runs_is_refused(
    scripted: tuple[CampaignConfig, Path], tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(scripted[1], folder)
    text = (folder / file).read_text().replace(": ", ":") if file == "campaign.json" else (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    with pytest.raises(RunError, match=re.escape(message)):
        run_campaign(folder, Progress(scripted[0]))


def test_seeds_depend_on_all_their_parts() -> None:
    assert len({derived_seed(0, "draw", i, b, r) for i in range(3) for b in range(3) for r in range(3)}) == 27


@pytest.fixture(scope="module")
def learning(tmp_path_factory: pytest.TempPathFactory) -> tuple[CampaignConfig, str]:
    """A small campaign with the language model and DPO, and the digest of its unbroken run."""
    from tests.engine import conftest

    config = changed(
        conftest.small_config.__wrapped__(),  # type: ignore[attr-defined]
        "models.threads=1",
        "campaign.programs=12",
        "generator.temperature=0.8",
        "generator.max_new_tokens=320",
    )
    store = start(config, tmp_path_factory.mktemp("runs") / "unbroken")
    assert store.updates()[1]["trained"], "the reference run must have learnt, or the test below proves nothing"
    assert {c.program.generator for c in store.candidates(2)} == {"1"}
    return config, store.digest()


@pytest.mark.parametrize(
    ("moment", "count"),
    [
        ("trial", 2),
        ("propose", 1),
        ("propose", 3),
        ("assess", 3),
        ("before-row", 6),
        ("block", 30),
        ("block", 37),
        ("trained", 1),
        ("final", 2),
    ],
)
def test_killed_and_resumed_ends_with_the_same_archive(
    learning: tuple[CampaignConfig, str], tmp_path: Path, moment: str, count: int
) -> None:
    config, unbroken = learning
    folder = tmp_path / "run"
    rundir.new_folder(config, folder, "now")
    script = Path(__file__).with_name("dying_run.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    died = subprocess.run(
        [sys.executable, str(script), str(folder), moment, str(count)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]
    assert Store.in_folder(folder).meta("state") is None
    run_campaign(folder, Progress(config))
    assert Store.in_folder(folder).digest() == unbroken
