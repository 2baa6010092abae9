"""A campaign whose models answer in vLLM, in an environment of its own: the same scores as in transformers, the same end when it is broken off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine import rundir
from engine.campaign import run_campaign
from engine.cli import app
from engine.config import CampaignConfig, build_config
from engine.errors import Interrupted
from engine.progress import Progress
from engine.store import Store

pytestmark = pytest.mark.full

SETTINGS = ("generator.kind=scripted", "campaign.iterations=1", "campaign.programs=4", "benchmark.dev_limit=40")


def finished(config: CampaignConfig, folder: Path) -> Store:
    rundir.new_folder(config, folder, "now")
    run_campaign(folder, Progress(config))
    return Store.in_folder(folder)


def test_a_campaign_in_vllm_scores_as_in_transformers_and_ends_the_same_when_broken_off(
    vllm_python: Path, small_config: CampaignConfig, programs_folder: Path, tmp_path: Path
) -> None:
    tree = small_config.model_dump(mode="json")
    script = f"generator.script={programs_folder}"
    plain = build_config(tree, [*SETTINGS, script])
    config = build_config(tree, [*SETTINGS, script, "evaluator.kind=vllm", f"evaluator.python={vllm_python}"])
    theirs, ours = finished(plain, tmp_path / "plain"), finished(config, tmp_path / "whole")
    bits = [(a.score.bits, b.score.bits) for a, b in zip(theirs.trials(), ours.trials(), strict=True)]
    equal = sum(x == y for a, b in bits for x, y in zip(a, b, strict=True))
    assert equal >= 0.99 * 40 * len(bits)
    assert len({a for a, _ in bits}) > 3, "the models differ"
    manifest = json.loads((tmp_path / "whole" / "manifest.json").read_text())
    assert manifest["inputs"]["evaluator"].startswith("vllm ")

    rundir.new_folder(config, tmp_path / "broken", "now")
    progress = Progress(config)
    remember = progress.assessed

    def stopping(*arguments: object) -> None:
        remember(*arguments)  # type: ignore[arg-type]
        progress.request_stop("Ctrl-C")

    progress.assessed = stopping  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match="Ctrl-C"):
        run_campaign(tmp_path / "broken", progress)
    run_campaign(tmp_path / "broken", Progress(config))
    assert Store.in_folder(tmp_path / "broken").digest() == ours.digest()


def test_score_in_vllm_gives_the_bits_of_transformers(vllm_python: Path) -> None:
    command = ["score", "pocket/expert_a", "--limit", "60", "--json"]
    plain = json.loads(CliRunner().invoke(app, command).output)
    told = CliRunner().invoke(app, [*command, "--evaluator", "vllm", "--python", str(vllm_python)])
    assert told.exit_code == 0, told.output
    facts = json.loads(told.output)
    assert sum(a == b for a, b in zip(facts["bits"], plain["bits"], strict=True)) >= 0.99 * 60
