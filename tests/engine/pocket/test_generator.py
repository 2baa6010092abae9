"""The corpus and the training are reproducible, the formats are what prompts promise, and the shipped generator writes programs."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.locations import pocket_model
from engine.pocket.corpus import KINDS, corpus
from engine.pocket.generator import IGNORED, RECIPE_FILE, Phase, Recipe, build, encode, learning_rate, plain_texts, rows
from engine.pocket.measure_generator import MAX_NEW_TOKENS, TEMPERATURE, Outcome, tried, valid_share
from engine.pocket.tokenizer import VOCABULARY, train_tokenizer
from engine.prompts import END, SPECIAL_TOKENS, extract_program, pocket_one_shot
from engine.sampling import sample_texts
from merges.contract import program_id
from sandbox import Sandbox, check

SMALL = Recipe(
    tokenizer_documents=60,
    hidden=32,
    layers=1,
    heads=2,
    intermediate=64,
    batch=2,
    wide=Phase(steps=2, warmup=1, peak_rate=1e-3, seed_shift=0, wide=True),
    narrow=Phase(steps=2, warmup=1, peak_rate=1e-3, seed_shift=9, wide=False),
)


@pytest.fixture(scope="module")
def drawn():
    return corpus(150, seed=3, wide=True)


@pytest.fixture(scope="module")
def tokenizer(drawn):
    return train_tokenizer(plain_texts(drawn))


def test_the_corpus_follows_its_seed(drawn) -> None:
    assert corpus(20, seed=3, wide=True) == drawn[:20]
    assert corpus(20, seed=4, wide=True) != drawn[:20]
    assert corpus(20, seed=3, wide=False) != drawn[:20]


def test_the_corpus_has_all_formats_and_distinct_sound_programs(drawn) -> None:
    assert set(Counter(d.kind for d in drawn)) == set(KINDS)
    assert len({d.identity for d in drawn}) == len(drawn)
    for document in drawn:
        program = extract_program(document.completion)
        assert check(program).ok
        assert program_id(program) == document.identity


def test_encoding_round_trips_and_adds_nothing(drawn, tokenizer) -> None:
    for document in drawn[:30]:
        text = document.prompt + document.completion
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_marks_are_single_tokens(tokenizer) -> None:
    assert all(len(tokenizer(mark).input_ids) == 1 for mark in SPECIAL_TOKENS)


def test_failed_programs_and_the_fixed_prompt_are_not_learned(drawn, tokenizer) -> None:
    for document in drawn:
        ids, labels = encode(document, tokenizer)
        prompt = len(tokenizer(document.prompt).input_ids)
        expected = [IGNORED] * prompt if document.kind in ("one_shot", "repair") else ids[:prompt]
        assert labels == expected + ids[prompt:]


def test_rows_hold_whole_documents(drawn, tokenizer) -> None:
    packed = list(rows(iter(drawn), tokenizer, 512))
    assert packed
    for ids, labels, count in packed:
        assert len(ids) == len(labels) == 512
        assert ids.count(tokenizer.bos_token_id) == count
        assert ids[0] == tokenizer.bos_token_id


def test_the_learning_rate_rises_and_falls() -> None:
    phase = Recipe().wide
    rates = [learning_rate(step, phase, 0.03) for step in range(phase.steps)]
    assert max(rates) == pytest.approx(phase.peak_rate)
    assert rates[-1] < 0.05 * phase.peak_rate
    assert rates[0] < rates[phase.warmup // 2] < rates[phase.warmup - 1]


def test_building_twice_gives_the_same_weights(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        build(tmp_path / "a", SMALL)
        build(tmp_path / "b", SMALL)
    finally:
        torch.set_num_threads(threads)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()


# The shipped model.


@pytest.fixture(scope="module")
def shipped():
    folder = pocket_model("generator")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def test_the_shipped_generator_is_a_small_plain_llama(shipped) -> None:
    model, tokenizer = shipped
    assert model.config.model_type == "llama"
    assert 3e6 <= sum(p.numel() for p in model.parameters()) <= 8e6
    assert len(tokenizer) == model.config.vocab_size <= VOCABULARY <= 2000
    assert tokenizer.eos_token == END
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert model.config.bos_token_id == tokenizer.bos_token_id


def test_the_shipped_generator_was_made_by_the_recipe_in_the_code() -> None:
    record = json.loads((pocket_model("generator") / RECIPE_FILE).read_text())
    assert record["recipe"] == asdict(Recipe())


SAMPLES = 64  # of a generator whose valid share is 25 %, one draw of 64 in 200 would reach MIN_VALID
MIN_VALID, MIN_TREES, MIN_BEHAVIOUR, MIN_NEW = 0.40, 0.90, 0.60, 0.50
CORPUS_PART = 2500  # documents of each phase that are drawn anew; all 33,000 would take a minute


@pytest.fixture(scope="module")
def written(shipped) -> list[Outcome]:
    """What became of SAMPLES programs, in the setting of the acceptance figures; fixed seeds, so the same ones every time."""
    model, tokenizer = shipped
    rng = random.Random(1)
    seeds = [rng.randrange(2**63) for _ in range(SAMPLES)]
    texts = sample_texts(model, tokenizer, [pocket_one_shot()] * SAMPLES, TEMPERATURE, seeds, MAX_NEW_TOKENS)
    with Sandbox(allow_none=True) as box:
        return tried([extract_program(text) for text in texts], box)


def test_the_shipped_generator_writes_sound_programs(written) -> None:
    assert valid_share(written) >= MIN_VALID


def test_its_programs_differ_in_text_and_in_what_they_do(written) -> None:
    assert len({outcome.identity for outcome in written}) / SAMPLES >= MIN_TREES
    behaviours = [outcome.behaviour for outcome in written if outcome.behaviour is not None]
    assert len(set(behaviours)) / len(behaviours) >= MIN_BEHAVIOUR


def test_its_programs_are_not_those_of_its_corpus(written) -> None:
    """Copies found in the first documents of a phase stand for as many in every other part of it."""
    record = json.loads((pocket_model("generator") / RECIPE_FILE).read_text())
    copies = 0.0
    for name, trained in record["trained"].items():
        phase = record["recipe"][name]
        part = corpus(CORPUS_PART, record["recipe"]["seed"] + phase["seed_shift"], wide=phase["wide"])
        known = {document.identity for document in part}
        copies += sum(o.identity in known for o in written) * max(1.0, trained["documents"] / CORPUS_PART)
    assert 1 - copies / SAMPLES >= MIN_NEW
