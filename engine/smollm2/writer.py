"""SmolLM2 as a writer of merge programs: a clone of the seed, warmed up on contract examples.

A 135 M chat model writes no merge that runs (0 of 20, benchmarks/LOG.md), so the faithful loop, in which the seed model is the generator's beginning,
needs a push at this size: programs of the grammar under the fixed prompt, in the pocket form, which has 124 of its tokens where the chat form has 605. Neither the
grammar nor these programs have seen a score.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.pocket.corpus import documents
from engine.prompts import END
from engine.smollm2.fitting import Pair, Recipe, made

RECIPE = Recipe("writer", steps=150, batch=16, rate=5e-4, seed=14)
MAX_TOKENS = 448
"""Longer documents are left out: one in twenty. The median program has 216 of SmolLM2's tokens, the prompt 124."""


def train_writer(recipe: Recipe = RECIPE, *, seed_model: str, out: Path) -> Path:
    """Fine-tunes the seed on the grammar's programs and writes it to `out / recipe.name` (left alone if it is there whole).

    Args:
        seed_model: folder or hub id.
        out: folder of the models.

    Raises:
        CheckpointError, UserError: the seed cannot be loaded.
        HostError: the model cannot be written.
    """
    return made(recipe, seed_model=seed_model, out=out, pairs=lambda tokenizer: encoded(tokenizer, recipe.seed))


def encoded(tokenizer: Any, seed: int) -> Iterator[Pair]:
    """Contract examples without end: the fixed prompt, and a program with the tokenizer's end token in place of the pocket one's mark."""
    for document in documents(seed, wide=False):
        if document.kind != "one_shot":
            continue
        prompt = tokenizer(document.prompt).input_ids
        answer = [*tokenizer(document.completion.removesuffix(END)).input_ids, tokenizer.eos_token_id]
        if len(prompt) + len(answer) <= MAX_TOKENS:
            yield prompt, answer
