"""The pocket world as it is shipped: models that plain transformers loads, small enough, and worth searching by their own page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from blake3 import blake3
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import pocket
from engine.locations import pocket_model, shipped
from engine.pocket.world import EXPERTS, TRANSFERS, WORK_FOLDER

MODELS = ("seed", *EXPERTS, *TRANSFERS)
MAX_PARAMETERS = 2_500_000
MAX_DATA_BYTES = 60_000_000
CHECKS = len(EXPERTS) + 3


@pytest.fixture(params=MODELS)
def folder(request: pytest.FixtureRequest) -> Path:
    return pocket_model(request.param)


def test_the_shipped_models_are_those_of_the_recipes() -> None:
    assert {p.parent.name for p in pocket_model("seed").parent.glob("*/config.json")} == {*MODELS, "generator"}


def test_plain_transformers_loads_a_small_model(folder: Path) -> None:
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), "every tensor of the file has its place, and every place its tensor"
    assert sum(parameter.numel() for parameter in model.parameters()) <= MAX_PARAMETERS
    assert "auto_map" not in json.loads((folder / "config.json").read_text()), "it needs no code of its own"


def test_weights_are_bf16_on_disk_and_finite(folder: Path) -> None:
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        for name in weights.keys():  # noqa: SIM118 - not a mapping
            tensor = weights.get_tensor(name)
            assert tensor.dtype is torch.bfloat16, name
            assert tensor.isfinite().all(), name


def test_the_tokenizer_is_a_real_file_that_holds_every_problem(folder: Path) -> None:
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    assert 0 < plain.get_vocab_size() == len(tokenizer) <= rows
    for problem in pocket.load("dev"):
        text = pocket.format_prompt(problem.question) + problem.answer
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert ids == plain.encode(text).ids


def test_experts_differ_from_the_seed_and_from_one_another() -> None:
    weights = {name: (pocket_model(name) / "model.safetensors").read_bytes() for name in MODELS}
    assert len(set(weights.values())) == len(MODELS)
    assert len({(pocket_model(name) / "tokenizer.json").read_bytes() for name in MODELS}) == 1


def test_all_shipped_data_together_are_small() -> None:
    data = shipped("data")
    files = [p for p in data.rglob("*") if p.is_file() and WORK_FOLDER not in p.relative_to(data).parts]
    assert 0 < sum(p.stat().st_size for p in files) <= MAX_DATA_BYTES


def test_the_page_of_the_world_says_that_every_check_held() -> None:
    page = (pocket_model("seed").parent / "README.md").read_text(encoding="utf-8")
    boxes = re.findall(r"^- \[(.)\]", page, re.MULTILINE)
    assert boxes == ["x"] * CHECKS
    for name in MODELS:
        assert re.search(rf"^\| {name} \| [\d.]+ \|", page, re.MULTILINE), name


@pytest.mark.parametrize("page", ["README.md", "generator/README.md"])
def test_every_file_is_the_one_that_its_page_names(page: str) -> None:
    root = pocket_model("seed").parent
    text = (root / page).read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([^`]+)` \| \d+ \| `([0-9a-f]{64})` \|$", text, re.MULTILINE))
    start = (root / page).parent
    assert rows == {name: blake3((start / name).read_bytes()).hexdigest() for name in rows}
    if page == "README.md":
        assert {name.split("/")[0] for name in rows} == {*MODELS, "dev.jsonl", "test.jsonl"}
    assert any(name.endswith("model.safetensors") for name in rows)
