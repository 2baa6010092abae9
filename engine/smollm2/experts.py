"""Three SmolLM2 experts: short fine-tunings of all layers of the seed, saved as plain folders.

They stand in for the experts that people find on the hub, on a machine that has none: one reads GSM8K's train solutions, one the
pocket problems, one arithmetic drills. Their steps and rates differ on purpose, as real experts differ in how far they went.
Each is asked in the zero-shot form of `benchmarks.gsm8k`, so that scoring needs no worked examples, which on a CPU cost more
than the answers.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import gsm8k, pocket
from benchmarks.problems import Problem
from engine.smollm2 import drills
from engine.smollm2.fitting import Pair, Recipe, made

MAX_TOKENS = 128
"""Longer GSM8K examples are left out: they would take half the time, and a model of this size solves few problems as long."""

RECIPES = (
    Recipe("gsm8k", steps=240, batch=16, rate=3e-4, seed=11),
    Recipe("pocket", steps=80, batch=16, rate=2e-4, seed=12),
    Recipe("arithmetic", steps=60, batch=16, rate=1e-4, seed=13),
)


def examples(name: str, seed: int, gsm8k_data: Path) -> Iterator[Problem]:
    """Endless training problems of one expert, the same ones for the same seed.

    GSM8K: the official train problems before `gsm8k.DEV_START`, never those that the dev split holds.
    """
    if name == "pocket":
        yield from pocket.fresh(seed)
    if name == "arithmetic":
        yield from drills.fresh(seed)
    rng = random.Random(seed)
    problems = list(gsm8k.load(gsm8k_data, "train"))[: gsm8k.DEV_START]
    while True:
        rng.shuffle(problems)
        yield from problems


def train_expert(recipe: Recipe, *, seed_model: str, gsm8k_data: Path, out: Path) -> Path:
    """Fine-tunes the seed after a recipe and writes the merged model to `out / recipe.name` (left alone if it is there whole).

    Args:
        seed_model: folder or hub id.
        gsm8k_data: folder with GSM8K's `train.jsonl`, or that file.
        out: folder of the experts.

    Raises:
        BenchmarkUserError: GSM8K cannot be read.
        CheckpointError, UserError: the seed cannot be loaded.
        HostError: the model cannot be written.
    """
    return made(recipe, seed_model=seed_model, out=out, pairs=lambda tokenizer: _encoded(recipe, tokenizer, gsm8k_data))


def _encoded(recipe: Recipe, tokenizer: Any, gsm8k_data: Path) -> Iterator[Pair]:
    """Each training problem that is short enough."""
    for problem in examples(recipe.name, recipe.seed, gsm8k_data):
        asked = gsm8k.prompt(problem.question, shots=0)
        assert isinstance(asked, str)
        prompt = tokenizer(asked)["input_ids"]
        answer = tokenizer(" " + gsm8k.plain_solution(problem.answer))["input_ids"] + [tokenizer.eos_token_id]
        if len(prompt) + len(answer) <= MAX_TOKENS:
            yield prompt, answer
