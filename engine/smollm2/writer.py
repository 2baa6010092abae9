"""SmolLM2 as a writer of merge programs: a clone of the seed, warmed up on contract examples.

A 135 M chat model writes no merge that runs (0 of 20, benchmarks/LOG.md), so the faithful loop, in which the seed model is the generator's beginning,
needs a push at this size: programs of the grammar under the fixed prompt, in the pocket form, which is a tenth as long as the chat form. Neither the
grammar nor these programs have seen a score.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from engine.pocket.corpus import documents
from engine.prompts import END
from engine.smollm2.fitting import Pair, Recipe, fit
from engine.smollm2.folders import finished, load_seed, written

RECIPE = Recipe("writer", steps=300, batch=16, rate=5e-4, seed=14)
MAX_TOKENS = 448
"""Longer documents are left out; the grammar's median is some 250 tokens of SmolLM2."""


def train_writer(recipe: Recipe = RECIPE, *, seed_model: str, out: Path) -> Path:
    """Fine-tunes the seed on the grammar's programs and writes it to `out / recipe.name` (left alone if it is there whole).

    Args:
        seed_model: folder or hub id.
        out: folder of the models.

    Raises:
        CheckpointError, UserError: the seed cannot be loaded.
        HostError: the model cannot be written.
    """
    target = out / recipe.name
    if finished(target):
        return target
    torch.manual_seed(recipe.seed)
    tokenizer, model = load_seed(seed_model)
    with written(target) as folder:  # before the training: a place that cannot be written shows now
        fit(model, encoded(tokenizer, recipe.seed), recipe)
        model.to(torch.bfloat16).save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))
    return target


def encoded(tokenizer: Any, seed: int) -> Iterator[Pair]:
    """Contract examples without end: the fixed prompt, and a program with the tokenizer's end token in place of the pocket one's mark."""
    for document in documents(seed, wide=False):
        if document.kind != "one_shot":
            continue
        prompt = tokenizer(document.prompt).input_ids
        answer = [*tokenizer(document.completion.removesuffix(END)).input_ids, tokenizer.eos_token_id]
        if len(prompt) + len(answer) <= MAX_TOKENS:
            yield prompt, answer
