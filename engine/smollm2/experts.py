"""Three SmolLM2 experts: short LoRA fine-tunings of the seed, merged into it and saved as plain folders.

They stand in for the experts that people find on the hub, on a machine that has none: one reads GSM8K's train solutions, one the
pocket problems, one arithmetic drills. Their steps and rates differ on purpose, as real experts differ in how far they went.
Each is asked in the zero-shot form of `benchmarks.gsm8k`, so that scoring needs no worked examples, which on a CPU cost more
than the answers. LoRA: Hu et al. 2021, https://arxiv.org/abs/2106.09685, through peft.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import gsm8k, pocket
from benchmarks.problems import Problem
from engine.smollm2.folders import finished, load_seed, written

MAX_TOKENS = 160
"""Longer GSM8K examples are left out: half the time would go into a tenth of the examples."""

LORA_RANK = 8
WARM_UP = 10
POOL = 8
"""Batches sorted by length together, so that little of a batch is padding."""


Pair = tuple[list[int], list[int]]
"""Token ids of a prompt, and of its answer with the end token."""


@dataclass(frozen=True)
class Recipe:
    """How one expert is made.

    Attributes:
        name: of the expert and of its folder.
        steps: optimiser steps of `batch` examples.
        batch: examples a step.
        rate: peak learning rate of AdamW; linear warm-up over WARM_UP steps, then linear decay to zero.
        seed: of the examples' order and of the adapter's start.
    """

    name: str
    steps: int
    batch: int
    rate: float
    seed: int


RECIPES = (
    Recipe("gsm8k", steps=96, batch=4, rate=8e-4, seed=11),
    Recipe("pocket", steps=96, batch=4, rate=6e-4, seed=12),
    Recipe("arithmetic", steps=40, batch=8, rate=4e-4, seed=13),
)


def examples(name: str, seed: int, gsm8k_data: Path) -> Iterator[Problem]:
    """Endless training problems of one expert, the same ones for the same seed.

    GSM8K: the official train problems before `gsm8k.DEV_START`, never those that the dev split holds.
    """
    rng = random.Random(seed)
    if name == "pocket":
        yield from pocket.fresh(seed)
    if name == "arithmetic":
        while True:
            yield drill(rng)
    problems = list(gsm8k.load(gsm8k_data, "train"))[: gsm8k.DEV_START]
    while True:
        rng.shuffle(problems)
        yield from problems


def drill(rng: random.Random) -> Problem:
    """One arithmetic drill: a sum of up to three terms, a difference, a product or an even division."""
    a, b, c = rng.randint(2, 400), rng.randint(2, 99), rng.randint(2, 12)
    kind = rng.randrange(5)
    if kind == 0:
        asked, steps, value = f"{a} + {b}", [f"{a} + {b} = {a + b}"], a + b
    elif kind == 1:
        asked, steps, value = f"{a + b} - {b}", [f"{a + b} - {b} = {a}"], a
    elif kind == 2:
        asked, steps, value = f"{b} * {c}", [f"{b} * {c} = {b * c}"], b * c
    elif kind == 3:
        asked, steps, value = f"{b * c} / {c}", [f"{b * c} / {c} = {b}"], b
    else:
        asked, value = f"{b} * {c} + {a}", b * c + a
        steps = [f"{b} * {c} = {b * c}", f"{b * c} + {a} = {value}"]
    answer = "\n".join([*steps, f"#### {value}"])
    return Problem(id="", question=f"What is {asked}?", answer=answer, final=str(value))


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
    from peft import LoraConfig, get_peft_model

    target = out / recipe.name
    if finished(target):
        return target
    torch.manual_seed(recipe.seed)
    tokenizer, model = load_seed(seed_model)
    adapter = LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, adapter)
    with written(target) as folder:  # before the training: a place that cannot be written shows now
        _fit(adapted, _batches(_encoded(recipe, tokenizer, gsm8k_data), recipe), recipe)
        adapted.merge_and_unload().to(torch.bfloat16).save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))
    return target


def _encoded(recipe: Recipe, tokenizer: Any, gsm8k_data: Path) -> Iterator[Pair]:
    """Each training problem that is short enough."""
    for problem in examples(recipe.name, recipe.seed, gsm8k_data):
        asked = gsm8k.prompt(problem.question, shots=0)
        assert isinstance(asked, str)
        prompt = tokenizer(asked)["input_ids"]
        answer = tokenizer(" " + gsm8k.plain_solution(problem.answer))["input_ids"] + [tokenizer.eos_token_id]
        if len(prompt) + len(answer) <= MAX_TOKENS:
            yield prompt, answer


def _batches(pairs: Iterator[Pair], recipe: Recipe) -> Iterator[list[Pair]]:
    rng = random.Random(recipe.seed)
    while True:
        pool = sorted(islice(pairs, POOL * recipe.batch), key=lambda pair: len(pair[0]) + len(pair[1]))
        batches = [pool[at : at + recipe.batch] for at in range(0, len(pool), recipe.batch)]
        rng.shuffle(batches)
        yield from batches


def _fit(model: Any, batches: Iterator[list[Pair]], recipe: Recipe) -> None:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=recipe.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / WARM_UP, (recipe.steps - step) / max(1, recipe.steps - WARM_UP))
    )
    model.train()
    for step in range(recipe.steps):
        loss = _loss(model, next(batches))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        if step % 10 == 0 or step == recipe.steps - 1:
            print(f"{recipe.name}: step {step + 1}/{recipe.steps}, loss {loss.item():.3f}", flush=True)
    model.eval()


def _loss(model: Any, pairs: Sequence[Pair]) -> Tensor:
    """Mean cross-entropy over answer tokens. Logits are made for those positions only: the vocabulary is the cost."""
    rows = [torch.tensor([*prompt, *answer]) for prompt, answer in pairs]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # Padding stands behind: the causal mask hides it.
    hidden = model.get_base_model().model(input_ids=ids).last_hidden_state
    at = [
        (row, len(prompt) + k - 1, token)
        for row, (prompt, answer) in enumerate(pairs)
        for k, token in enumerate(answer)
    ]
    which, positions, tokens = (torch.tensor(column) for column in zip(*at, strict=True))
    logits = model.get_base_model().lm_head(hidden[which, positions])
    return F.cross_entropy(logits.float(), tokens)
