"""Tokens of model folders: those that transformers loads, and one line for every file that is not what it should be."""

from __future__ import annotations

import json

import pytest

from merges.errors import CheckpointError
from merges.tokenizer_files import read_vocabulary
from merges.vocabulary import plan_vocabulary
from tests.merges.written_tokens import edit, golden_models

MODELS = golden_models()


def refused(kind, match, function, *args, **kwargs):
    with pytest.raises(kind, match=match) as info:
        function(*args, **kwargs)
    assert "\n" not in str(info.value)


@pytest.fixture
def check_read(loaded_tokens):
    """check_read(folder) -> its vocabulary, which is the one that transformers loads."""

    def check(folder):
        vocabulary, (tokenizer, added) = read_vocabulary(folder), loaded_tokens(folder)
        assert vocabulary.tokens == tokenizer.get_vocab()
        assert list(vocabulary.tokens.values()) == sorted(vocabulary.tokens.values())
        assert vocabulary.added == added
        return vocabulary

    return check


@pytest.mark.parametrize("name", MODELS)
def test_tokens_are_those_that_transformers_loads(token_folders, name, check_read):
    vocabulary = check_read(token_folders[name])
    assert (vocabulary.rows, vocabulary.fast) == (MODELS[name]["rows"], True)


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("tokenizer_config.json", {"pad_token": "<new>", "mask_token": "a"}),
        ("tokenizer_config.json", {"extra_special_tokens": ["<one>", "<two>"], "cls_token": "<three>"}),
        ("tokenizer_config.json", {"image_token": "<image>", "extra_special_tokens": {"x_token": "<x>"}}),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"40": {"content": "<late>", "special": True}, "9": {"content": "<early>"}}},
        ),
        (
            "special_tokens_map.json",
            {"pad_token": {"content": "<new>", "lstrip": True}, "additional_special_tokens": []},
        ),
        ("added_tokens.json", {"<last>": 14, "<first>": 13, "<tool>": 10}),
    ],
)
def test_tokens_that_other_files_add_get_the_ids_that_transformers_gives(spoilt, file, changes, check_read):
    edit(spoilt / file, **changes)
    assert len(check_read(spoilt).tokens) > len(read_vocabulary(spoilt).own) + 1


def test_ids_of_added_tokens_follow_each_other_whatever_the_file_says(spoilt, check_read):
    data = json.loads((spoilt / "tokenizer.json").read_text())
    data["added_tokens"][-1]["id"] = 40
    data["added_tokens"].insert(0, {**data["added_tokens"][-1], "content": "", "id": 41})
    edit(spoilt / "tokenizer.json", **data)
    assert check_read(spoilt).tokens["<tool>"] == 10


def test_unigram_lists_and_tokenizers_without_config_are_read(spoilt, check_read):
    edit(spoilt / "tokenizer.json", model={"type": "Unigram", "vocab": [["<unk>", 0.0], ["a", -1.5]], "unk_id": 0})
    (spoilt / "config.json").unlink()
    vocabulary = check_read(spoilt)
    assert vocabulary.own == {"<unk>": 0, "a": 1}
    assert vocabulary.rows is None


def test_older_formats_are_read_but_not_changed(token_folders, tmp_path, check_read):
    folder = tmp_path / "gpt2"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({"<|endoftext|>": 0, "a": 1, "b": 2}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    edit(folder / "added_tokens.json", **{"<one>": 4, "<zero>": 3})
    edit(
        folder / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer", pad_token="<zero>", bos_token="<|endoftext|>"
    )
    vocabulary = check_read(folder)
    assert not vocabulary.fast
    known = {"gpt2": vocabulary, "bytes": read_vocabulary(token_folders["bytes"])}
    assert not plan_vocabulary("base", known, "gpt2").changed
    refused(
        CheckpointError, "expected a tokenizer.json, .*older format.*as a fast one$", plan_vocabulary, "union", known
    )


def added(content="<x>", **entry):
    return lambda data: data["added_tokens"].append({"content": content, **entry})


def ids(**changes):
    return lambda data: data["model"]["vocab"].update(changes)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (ids(a=-1), r"token 'a': expected an id from 0 to \d+, got -1; download it again$"),
        (ids(a=1 << 24), r"token 'a': expected an id from 0 to \d+, got 16777216;"),
        (ids(a=2**70), r"token 'a': expected an id from 0 to \d+, got 1180591620717411303424;"),
        (ids(a=True), r"token 'a': expected an id .*, got True;"),
        (ids(a=1.0), r"token 'a': expected an id .*, got 1.0;"),
        (ids(a="3"), r"token 'a': expected an id .*, got '3';"),
        (ids(a=4), r"id 4: expected one token, got 'a' and 'b'; download it again$"),
        (ids(**{"\ud800": 40}), "expected tokens in Unicode, got half a character; download it again$"),
        (
            ids(far=9, gap=11),
            "added token '<pad>': expected id 11 to be free, got one .*; renumber the tokenizer's tokens$",
        ),
        (lambda data: data.update(model=None), "expected a vocabulary with ids, got NoneType; download it again$"),
        (
            lambda data: data["model"].update(vocab=[["a"]]),
            "expected a vocabulary of 1 different tokens with scores, got 0;",
        ),
        (
            lambda data: data["model"].update(vocab=[["a", 0], ["a", 1]]),
            "a vocabulary of 2 different tokens .*, got 1;",
        ),
        (lambda data: data.update(added_tokens={}), "expected a list of added tokens, got dict; download it again$"),
        (added(7), "expected added tokens with a content, got .*; download it again$"),
        (added(id=-1), "token '<x>': expected an id from 0 to"),
        (added(id=9), "id 9: expected one token, got '<pad>' and '<x>'; download it again$"),
        (added(lstrip=1), "added token '<x>': expected flags, got {'lstrip': 1}; download it again$"),
        (added("\udc00"), "expected tokens in Unicode"),
    ],
)
def test_hostile_tokenizers_are_refused(spoilt, change, match):
    data = json.loads((spoilt / "tokenizer.json").read_text())
    change(data)
    (spoilt / "tokenizer.json").write_text(json.dumps(data))
    refused(CheckpointError, match, read_vocabulary, spoilt)


@pytest.mark.parametrize(
    ("file", "text", "match"),
    [
        ("tokenizer.json", "[]", "expected a tokenizer.json with an object, got list; download it again$"),
        ("tokenizer.json", "{", "got unreadable JSON"),
        ("tokenizer.json", "[" * 100_000, "got unreadable JSON"),
        ("config.json", '{"vocab_size": 0}', r"vocab_size: expected a number from 1 to \d+, got 0; correct it$"),
        ("config.json", '{"vocab_size": "many"}', "vocab_size: expected a number .*, got 'many'"),
        ("config.json", '{"text_config": {"vocab_size": 99999999}}', "vocab_size: expected .*, got 99999999"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"-1": "a"}}', "expected an added_tokens_decoder with ids"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"9": {}}}', "expected added tokens with a content"),
        ("tokenizer_config.json", '{"extra_special_tokens": 5}', "expected a list of added tokens, got int"),
        ("added_tokens.json", '{"<x>": -5}', "token '<x>': expected an id from 0 to"),
    ],
)
def test_hostile_files_beside_it_are_refused(spoilt, file, text, match):
    (spoilt / file).write_text(text)
    refused(CheckpointError, match, read_vocabulary, spoilt)


def test_sentencepiece_alone_is_refused(spoilt):
    (spoilt / "tokenizer.json").rename(spoilt / "tokenizer.model")
    refused(
        CheckpointError, "expected a tokenizer.json, got none; .*save it there as a fast one$", read_vocabulary, spoilt
    )
