"""Tokenizers of merged models: what transformers loads from them is what was planned."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from merges.apply import COPIED_FILES
from merges.errors import CheckpointError
from merges.tokenizer_files import read_vocabulary
from merges.tokenizer_output import TOKENIZER_FILES, config_for, write_tokenizer
from merges.vocabulary import TokenSetting, plan_vocabulary
from tests.merges.written_tokens import edit, golden_models

MODELS = golden_models()


def vocabularies(token_folders, *names):
    return {name: read_vocabulary(token_folders[name]) for name in names}


def refused(kind, match, function, *args, **kwargs):
    with pytest.raises(kind, match=match) as info:
        function(*args, **kwargs)
    assert "\n" not in str(info.value)


def written(plan, token_folders, out):
    out.mkdir()
    files = write_tokenizer(plan, token_folders, out)
    assert sorted(files) == sorted(path.name for path in out.iterdir())
    return out


def test_files_of_a_tokenizer_are_among_those_that_may_be_copied():
    assert set(TOKENIZER_FILES) < set(COPIED_FILES)


@pytest.mark.parametrize("kind", ["PreTrainedTokenizerFast", "GPT2Tokenizer", "Qwen2Tokenizer", "LlamaTokenizer"])
def test_union_finds_the_added_tokens_of_both(tmp_path, kind, loaded_tokens, write_tokens):
    """Classes of transformers that build their tokenizer anew take its tokens from other places of the files."""
    both = {name: write_tokens(tmp_path / name, MODELS[name], kind=kind) for name in ("bytes", "chat")}
    if kind != "LlamaTokenizer":
        edit(
            both["bytes"] / "tokenizer_config.json",
            added_tokens_decoder={"10": {"content": "<first>", "special": True}},
        )
    edit(both["bytes"] / "added_tokens.json", **{"<first>": 10})
    edit(both["bytes"] / "tokenizer_config.json", unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<s>")
    known = vocabularies(both, "bytes", "chat")
    plan = plan_vocabulary("union", known, "bytes")
    out = written(plan, both, tmp_path / "out")
    assert not (out / "added_tokens.json").exists()
    tokenizer, added_tokens = loaded_tokens(out)
    assert tokenizer.get_vocab() == plan.tokens
    assert set(added_tokens) == set(plan.added)
    found = tokenizer.encode("<|im_start|>ab<first>abc<|im_start|>", add_special_tokens=False)
    names = tokenizer.convert_ids_to_tokens(found)
    assert [name for name in names if name in plan.added] == ["<|im_start|>", "<first>", "abc", "<|im_start|>"]
    assert tokenizer.convert_tokens_to_ids("<|im_start|>") == plan.tokens["<|im_start|>"]


def test_words_of_both_are_found_in_text(token_folders, tmp_path):
    plan = plan_vocabulary("union", vocabularies(token_folders, "base", "left", "right"), "base")
    tokenizer = AutoTokenizer.from_pretrained(written(plan, token_folders, tmp_path / "out"))
    text = "a <|im_start|> e <tool> y <|im_end|> x"
    assert tokenizer.encode(text, add_special_tokens=False) == [plan.tokens[word] for word in text.split()]


def test_unchanged_tokenizers_are_copied_without_code(spoilt, token_folders, tmp_path):
    (spoilt / "tokenizer.py").write_text("raise SystemExit")
    (spoilt / "chat_template.jinja").write_text("{{ messages }}")
    both = {"base": spoilt, "left": token_folders["left"]}
    plan = plan_vocabulary("base", vocabularies(both, "base", "left"), "base")
    out = written(plan, both, tmp_path / "out")
    assert {path.name for path in out.iterdir()} == {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert all(path.read_bytes() == (spoilt / path.name).read_bytes() for path in out.iterdir())


@pytest.mark.parametrize("extra", [["<tool>", "<s>"], {"tool_token": "<tool>", "start_token": "<s>"}])
def test_taken_away_tokens_do_not_come_back_as_special_ones(spoilt, tmp_path, extra):
    edit(spoilt / "config.json", vocab_size=9)
    edit(spoilt / "tokenizer_config.json", pad_token="<pad>", extra_special_tokens=extra)
    edit(spoilt / "special_tokens_map.json", pad_token={"content": "<pad>"})
    plan = plan_vocabulary("base", {"base": read_vocabulary(spoilt)}, "base")
    tokenizer = AutoTokenizer.from_pretrained(written(plan, {"base": spoilt}, tmp_path / "out"))
    assert tokenizer.get_vocab() == plan.tokens
    assert len(tokenizer) == plan.rows == 9
    assert tokenizer.pad_token is None
    assert tokenizer.encode("<pad>", add_special_tokens=False) == [0, 0, 0]


def test_merges_that_make_a_token_without_a_row_go(token_folders, tmp_path, write_tokens):
    """mergekit keeps them and fails."""
    folder = write_tokens(tmp_path / "short", {**MODELS["bytes"], "added": [], "rows": 9})
    plan = plan_vocabulary("base", {"base": read_vocabulary(folder)}, "base")
    tokenizer = AutoTokenizer.from_pretrained(written(plan, {"base": folder}, tmp_path / "out"))
    assert tokenizer.tokenize("abc") == ["ab", "c"]
    data = json.loads((folder / "tokenizer.json").read_text())
    edit(folder / "tokenizer.json", model={**data["model"], "merges": ["a b c"]})
    refused(
        CheckpointError, "expected merges that are pairs", write_tokenizer, plan, {"base": folder}, tmp_path / "out"
    )


def test_unigram_tokenizers_lose_the_end_of_their_list(spoilt, tmp_path):
    model = {"type": "Unigram", "vocab": [["<unk>", 0.0], ["a", -1.5], ["b", -2.5]], "unk_id": 0}
    edit(spoilt / "tokenizer.json", model=model, added_tokens=[], pre_tokenizer=None)
    (spoilt / "tokenizer_config.json").unlink()
    edit(spoilt / "config.json", vocab_size=2)
    plan = plan_vocabulary("base", {"base": read_vocabulary(spoilt)}, "base", tokens={"<new>": TokenSetting(zero=True)})
    out = written(plan, {"base": spoilt}, tmp_path / "out")
    assert Tokenizer.from_file(str(out / "tokenizer.json")).get_vocab() == {"<unk>": 0, "a": 1, "<new>": 2}


def test_a_tokenizer_that_changed_since_the_plan_is_refused(spoilt, token_folders, tmp_path):
    both = {"base": spoilt, "left": token_folders["left"]}
    for source in ("base", "union"):
        plan = plan_vocabulary(source, vocabularies(both, "base", "left"), "base")
        data = json.loads((spoilt / "tokenizer.json").read_text())
        edit(spoilt / "tokenizer.json", model={**data["model"], "vocab": {**data["model"]["vocab"], "a": 4, "b": 3}})
        refused(
            CheckpointError, "expected the tokenizer of the plan.*run again$", write_tokenizer, plan, both, tmp_path
        )
        edit(spoilt / "tokenizer.json", **data)


def test_numbers_that_json_lacks_are_refused(spoilt, token_folders, tmp_path):
    edit(spoilt / "tokenizer.json", extra=float("nan"))
    both = {"base": spoilt, "left": token_folders["left"]}
    plan = plan_vocabulary("union", vocabularies(both, "base", "left"), "base")
    refused(CheckpointError, "expected text and finite numbers", write_tokenizer, plan, both, tmp_path)


def test_config_has_the_rows_and_the_special_tokens_of_the_tokenizer(token_folders):
    known = vocabularies(token_folders, "base", "left")
    base = {"vocab_size": 11, "eos_token_id": 2, "pad_token_id": 9, "hidden_size": 8}
    plan = plan_vocabulary("left", known, "base", pad_to_multiple_of=8)
    assert config_for(plan, base, {"vocab_size": 12, "eos_token_id": 7, "hidden_size": 9}) == {
        "vocab_size": 16,
        "eos_token_id": 7,
        "hidden_size": 8,
    }
    nested = {"text_config": {"vocab_size": 11, "n": 1}, "eos_token_id": 2}
    assert config_for(plan, nested, nested) == {"text_config": {"vocab_size": 16, "n": 1}, "eos_token_id": 2}
