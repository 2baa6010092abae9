"""A campaign whose models answer in vLLM, in an environment of its own: the same scores as in transformers, the same end when it is broken off."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmarks.vllm_process import VLLMSettings
from engine import locations, rundir
from engine.campaign import run_campaign
from engine.cli import app
from engine.config import CampaignConfig, GeneratorSection
from engine.config_file import build_config
from engine.errors import Interrupted
from engine.generators import Generator, LanguageModelGenerator, ResidentModel, VLLMGenerator
from engine.progress import Progress
from engine.records import Sampling, Task
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


def drawn(temperature: float, count: int = 8) -> list[Sampling]:
    return [Sampling(temperature, 1.0, 50 + row, 0, row) for row in range(count)]


def texts(generator: Generator, places: list[Sampling]) -> list[str]:
    return [draft.text for draft in generator.write(places, [Task()] * len(places))]


def test_a_generator_in_vllm_writes_what_its_weights_of_now_write(vllm_python: Path, tmp_path: Path) -> None:
    shipped, section = locations.model("pocket/generator"), GeneratorSection(max_new_tokens=200)
    here = LanguageModelGenerator(shipped, section)
    other = tmp_path / "other"
    resident = ResidentModel(shipped)
    with torch.no_grad():
        for parameter in resident.model.model.layers[-1].parameters():
            parameter.mul_(0.9)
    resident.model.save_pretrained(other)
    resident.tokenizer.save_pretrained(other)
    with closing(VLLMGenerator(shipped, section, VLLMSettings(python=vllm_python))) as there:
        first = texts(there, drawn(1.0))
        assert texts(there, drawn(1.0)) == first
        assert len(set(first)) == len(first)
        assert sum("def merge_models" in text for text in first) >= 6
        near_greedy = drawn(0.01, 2)
        assert texts(there, near_greedy) == texts(here, near_greedy)
        there.adopt(str(other))
        here.adopt(str(other))
        changed = texts(there, near_greedy)
        assert changed == texts(here, near_greedy)
        assert texts(there, drawn(1.0)) != first
        there.adopt(shipped)
        assert texts(there, drawn(1.0)) == first


def test_a_generator_that_writes_in_vllm_is_trained_and_writes_what_it_learnt(
    vllm_python: Path, small_config: CampaignConfig, tmp_path: Path
) -> None:
    settings = [
        "generator.kind=vllm",
        f"evaluator.python={vllm_python}",
        "campaign.programs=12",
        "gate.programs=4",
        "gate.valid_drop=1.0",
    ]
    config = build_config(small_config.model_dump(mode="json"), settings)
    store = finished(config, tmp_path / "run")
    assert store.updates()[1]["trained"]
    assert {c.program.generator for c in store.candidates(2)} == {"1"}
    assert any(c.score is not None for c in store.candidates(2))
