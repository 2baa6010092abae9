"""Vocabularies of several models brought together: mergekit's answers, recorded in goldens/vocabulary.json, and what it fails on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from merges.checkpoints import Checkpoint
from merges.errors import CheckpointError, OptionError
from merges.revocabularied import revocabulary
from merges.tokenizer_files import read_vocabulary
from merges.tokenizer_output import write_tokenizer
from merges.vocabulary import REST, TokenSetting, plan_vocabulary, token_settings

GOLDENS = json.loads((Path(__file__).parent / "goldens" / "vocabulary.json").read_text())
CASES, MODELS = GOLDENS["cases"], GOLDENS["models"]
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def embedding(number, rows):
    """As in goldens/record_vocabulary.py."""
    row = torch.arange(rows)
    return torch.stack([number + row / 16, number * row / 32 - row * row / 128], 1)


def vocabularies(token_folders, *names):
    return {name: read_vocabulary(token_folders[name]) for name in names}


def refused(kind, match, function, *args, **kwargs):
    with pytest.raises(kind, match=match) as info:
        function(*args, **kwargs)
    assert "\n" not in str(info.value)


def planned(token_folders, case):
    tokens = token_settings(case.get("tokens", {}), {name: name for name in case["models"]})
    known = vocabularies(token_folders, *case["models"])
    return plan_vocabulary(case["source"], known, case["base"], tokens=tokens, pad_to_multiple_of=case.get("pad"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['source']}-{case['base']}-{len(case)}")
def test_plans_are_those_of_mergekit(token_folders, tmp_path, loaded_tokens, case):
    plan = planned(token_folders, case)
    assert list(plan.tokens) == case["vocabulary"]
    assert list(plan.tokens.values()) == list(range(len(plan.tokens)))
    assert [[token, how.special, how.normalized] for token, how in plan.added.items()] == case["added"]
    assert plan.models[0] == (case["base"] or case["models"][0])
    for name, rows in case["permutations"].items():
        assert plan.permutations[name][: len(rows)].tolist() == rows
    weights = {}
    for number, name in enumerate(case["models"], 1):
        stored = {EMBED: embedding(number, MODELS[name]["stored"])}
        folder = Path(shutil.copytree(token_folders[name], tmp_path / name))
        save_file({**stored, HEAD: -stored[EMBED]}, folder / "model.safetensors", metadata={"format": "pt"})
        weights[name] = Checkpoint.open(folder)
    for name, view in revocabulary(plan, weights).items():
        wanted = torch.tensor(case["embeddings"][name])
        assert view.shapes[EMBED] == tuple(wanted.shape) == (plan.rows, 2)
        torch.testing.assert_close(view.read(EMBED), wanted, rtol=0, atol=1e-6)
        torch.testing.assert_close(view.read(HEAD), -wanted, rtol=0, atol=1e-6)
    out = tmp_path / "out"
    out.mkdir()
    write_tokenizer(plan, token_folders, out)
    tokenizer, added_tokens = loaded_tokens(out)
    assert tokenizer.get_vocab() == plan.tokens
    assert added_tokens == plan.added
    assert len(tokenizer) == len(plan.tokens)


def test_new_ordinary_tokens_follow_the_ids_of_their_model(token_folders):
    plan = plan_vocabulary("union", vocabularies(token_folders, "left", "base"), "left")
    assert list(plan.tokens)[-3:] == ["e", "f", "<tool>"]
    again = plan_vocabulary("union", vocabularies(token_folders, "left", "base"), "left")
    assert plan.digest() == again.digest()
    assert plan.digest() != plan_vocabulary("base", vocabularies(token_folders, "left", "base"), "left").digest()


def test_tokens_beyond_the_embedding_do_not_count(token_folders):
    """mergekit fails on both: a model as the source that has such tokens, and merges that make one."""
    plan = plan_vocabulary("right", vocabularies(token_folders, "base", "right"), "base")
    assert "<beyond>" not in plan.tokens
    assert plan.rows == MODELS["right"]["rows"]


def test_added_tokens_that_would_move_are_refused(token_folders):
    base = read_vocabulary(token_folders["base"])
    own = {**base.own, "far": 20}
    gappy = replace(base, own=own, tokens={**own, "<tool>": 10}, added={"<tool>": base.added["<tool>"]}, rows=15)
    match = "added token '<tool>': expected id 9 once tokens beyond vocab_size are gone, got 10, as the ids have gaps"
    refused(CheckpointError, match, plan_vocabulary, "base", {"base": gappy})


def test_a_setting_without_a_source_forces_the_usual_one(token_folders):
    known = vocabularies(token_folders, "base", "left", "right")
    plan = plan_vocabulary("base", known, "base", tokens=token_settings({"a": {"force": True}, "b": None}, {}))
    sources, rows = plan.origins("left")
    assert (sources[3], rows[3]) == (plan.models.index("base"), 3)
    assert (sources[4], rows[4]) == (plan.models.index("left"), 3)


def test_gaps_are_rows_of_no_token(token_folders):
    known = vocabularies(token_folders, "base", "left")
    moved = {token: number + (number > 4) for token, number in known["base"].own.items()}
    gappy = replace(known["base"], own=moved, tokens=moved, added={}, rows=None)
    plan = plan_vocabulary("base", {"base": gappy, "left": known["left"]}, "base")
    assert plan.rows == len(plan.tokens) + 1
    assert plan.sources[5] == REST


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"source": "nobody"}, "tokenizer: expected one of the models base, left, got 'nobody'; correct it$"),
        ({"base": "nobody"}, "base: expected one of the models base, left, got 'nobody'; correct it$"),
        ({"models": {}}, "models: expected at least one with a vocabulary, got none"),
        ({"pad_to_multiple_of": 0}, r"pad_to_multiple_of: expected 1 to \d+, got 0; correct it$"),
        ({"pad_to_multiple_of": 2**40}, r"pad_to_multiple_of: expected 1 to \d+, got 1099511627776"),
        ({"tokens": {"a": TokenSetting("nobody")}}, "token 'a': expected one of the models"),
        (
            {"tokens": {"f": TokenSetting("left")}},
            "token 'f': expected model 'left' to have 'f', got none; correct it$",
        ),
        ({"tokens": {"a": TokenSetting("left", "zz")}}, "token 'a': expected model 'left' to have 'zz', got none"),
        ({"tokens": {"a": TokenSetting("left", -4)}}, "token 'a': expected model 'left' to have -4, got none"),
        ({"tokens": {"": TokenSetting()}}, "token '': expected a text, got an empty one"),
    ],
)
def test_useless_options_are_refused(token_folders, change, match):
    options = {"source": "union", "models": vocabularies(token_folders, "base", "left"), "base": "base", **change}
    refused(OptionError, match, lambda: plan_vocabulary(**options))


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ([], "tokens: expected settings by token"),
        ({1: {}}, "tokens: expected settings by token, .*put tokens in quotes$"),
        ({"a": "base"}, "token 'a': expected source and force, got 'base'; correct it$"),
        ({"a": {"sauce": "base"}}, "token 'a': expected source and force"),
        ({"a": {"force": "yes"}}, "token 'a': force: expected true or false, got 'yes'"),
        ({"a": {"source": "other"}}, "token 'a': source: expected one of base, kind zero or model_token, got 'other'"),
        ({"a": {"source": {"kind": "one"}}}, "token 'a': source: expected one of base, kind zero or model_token"),
        ({"a": {"source": {"kind": "model_token", "model": "base"}}}, "expected either a token or a token_id"),
        ({"a": {"source": {"kind": "model_token", "model": "base", "token": "a", "token_id": 1}}}, "expected either"),
        ({"a": {"source": {"kind": "model_token", "model": "base", "token_id": "1"}}}, "expected either"),
        ({"a": {"source": {"kind": "model_token", "model": "x", "token_id": 1}}}, "source: expected one of base"),
    ],
)
def test_settings_that_mergekit_does_not_know_are_refused(given, match):
    refused(OptionError, match, token_settings, given, {"base": "base"})
