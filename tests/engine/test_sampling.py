"""Sampling is reproducible per prompt, follows the model's probabilities, and agrees with greedy decoding in the limit."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM

from engine.pocket.tokenizer import train_tokenizer
from engine.prompts import BEGIN, pocket_plain, pocket_variant
from engine.sampling import choose, sample_texts

PROGRAM = "def merge_models(model_dict, device):\n    return sum(model_dict.values())\n"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([PROGRAM] * 5, vocabulary=320)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


def test_same_seeds_same_texts(model, tokenizer) -> None:
    prompts = [pocket_plain(), pocket_variant(PROGRAM)] * 3
    first = sample_texts(model, tokenizer, prompts, 1.0, range(6), 30)
    assert first == sample_texts(model, tokenizer, prompts, 1.0, range(6), 30)
    assert len(set(first)) == 6


def test_a_text_does_not_depend_on_its_neighbours(model, tokenizer) -> None:
    prompts = [pocket_plain(), pocket_variant(PROGRAM), pocket_plain(), pocket_variant(PROGRAM * 2)]
    seeds = [11, 12, 13, 14]
    together = sample_texts(model, tokenizer, prompts, 1.0, seeds, 60)
    alone = [sample_texts(model, tokenizer, [p], 1.0, [s], 60)[0] for p, s in zip(prompts, seeds, strict=True)]
    assert together == alone


def test_a_tokenizer_without_a_pad_token_gives_the_same_texts(model, tokenizer) -> None:
    prompts, seeds = [pocket_plain(), pocket_variant(PROGRAM), pocket_variant(PROGRAM * 2)], [11, 12, 13]
    padless = copy.deepcopy(tokenizer)
    padless.pad_token = None
    assert padless.pad_token_id is None
    expected = sample_texts(model, tokenizer, prompts, 1.0, seeds, 40)
    assert sample_texts(model, padless, prompts, 1.0, seeds, 40) == expected
    assert len(set(expected)) == 3


def test_special_tokens_are_left_out_where_the_prompt_has_its_own(model, tokenizer) -> None:
    """A tokenizer as Llama's: it puts a begin token before every text unless it is told not to."""
    eager = copy.deepcopy(tokenizer)
    eager._tokenizer.post_processor = TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, tokenizer.bos_token_id)]
    )
    prompt = pocket_variant(PROGRAM)
    assert prompt.startswith(BEGIN)
    assert eager(prompt).input_ids[:2] == [tokenizer.bos_token_id] * 2
    expected = sample_texts(model, tokenizer, [prompt] * 4, 1.0, range(4), 30)
    assert sample_texts(model, eager, [prompt] * 4, 1.0, range(4), 30, special_tokens=False) == expected
    assert sample_texts(model, eager, [prompt] * 4, 1.0, range(4), 30) != expected


def test_long_texts_outgrow_the_first_room_of_the_cache(model, tokenizer) -> None:
    lengths = [
        len(tokenizer(text).input_ids)
        for text in sample_texts(model, tokenizer, [pocket_plain()] * 8, 1.0, range(8), 150)
    ]
    assert max(lengths) > 128


def test_near_zero_temperature_is_greedy_decoding(model, tokenizer) -> None:
    prompt = pocket_variant(PROGRAM)
    encoded = tokenizer(prompt, return_tensors="pt")
    greedy = model.generate(**encoded, do_sample=False, max_new_tokens=20)[0, encoded.input_ids.shape[1] :]
    sampled = sample_texts(model, tokenizer, [prompt], 1e-4, [0], 20)[0]
    assert sampled == tokenizer.decode(greedy, skip_special_tokens=True)


def test_choices_follow_the_probabilities() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(4000, 3)
    counts = Counter(choose(logits, 1.0, (torch.arange(4000) + 0.5) / 4000).tolist())
    assert counts == {0: 2000, 1: 1200, 2: 800}


def test_top_p_leaves_out_the_tail() -> None:
    logits = torch.tensor([0.2, 0.5, 0.3]).log().expand(1000, 3)
    chosen = choose(logits, 1.0, (torch.arange(1000) + 0.5) / 1000, top_p=0.7)
    assert set(chosen.tolist()) == {1, 2}


def test_top_k_leaves_all_but_the_likeliest() -> None:
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log().expand(1000, 4)
    uniform = (torch.arange(1000) + 0.5) / 1000
    for most, kept in ((1, {1}), (2, {1, 3}), (3, {1, 2, 3}), (0, {0, 1, 2, 3})):
        assert set(choose(logits, 1.0, uniform, top_k=most).tolist()) == kept
    assert Counter(choose(logits, 1.0, uniform, top_k=2).tolist())[1] == pytest.approx(1000 * 4 / 7, abs=1)


def test_seeds_must_match_prompts(model, tokenizer) -> None:
    with pytest.raises(AssertionError, match=r"\(1, 2\)"):
        sample_texts(model, tokenizer, [pocket_plain()] * 2, 1.0, [0], 5)
