"""Supervised fine-tuning of SmolLM2 on two cores: all weights but the embedding, with bfloat16 products (autocast) and float32 weights.

Measured on one core, tokens a second at 8 examples a step: LoRA of rank 8 in float32 203, all weights in float32 155, with bfloat16 products 239;
then unfused attention and a fused AdamW, which updates 106 M numbers in 0.2 s rather than 0.8 s. The embedding stays: it is the output head too,
28 of 135 M parameters, and its gradient would be one more product as large as the head's.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.smollm2.folders import finished, load_seed, written

WARM_UP = 10
POOL = 8
"""Batches sorted by length together, so that little of a batch is padding."""

WORKERS = 2
"""Parts of a batch worked on at once, each by one core: products of this size gain little from two threads."""

PART_TOKENS = 1024
"""Of a part, padding included: eager attention and the logits of 16 programs at once took more than 24 GiB."""

Pair = tuple[list[int], list[int]]
"""Token ids of a prompt, and of its answer with the end token."""


@dataclass(frozen=True)
class Recipe:
    """How one model is made.

    Attributes:
        name: of the model and of its folder.
        steps: optimiser steps of `batch` examples.
        batch: examples a step.
        rate: peak learning rate of AdamW; linear warm-up over WARM_UP steps, then linear decay to zero.
        seed: of the examples and their order.
    """

    name: str
    steps: int
    batch: int
    rate: float
    seed: int


def made(recipe: Recipe, *, seed_model: str, out: Path, pairs: Callable[[Any], Iterator[Pair]]) -> Path:
    """Fine-tunes the seed after a recipe and writes it to `out / recipe.name` (left alone if it is there whole).

    Args:
        seed_model: folder or hub id.
        out: folder of the models.
        pairs: the examples, given the tokenizer.

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
        fit(model, pairs(tokenizer), recipe)
        model.to(torch.bfloat16).save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))
    return target


def _batches(pairs: Iterator[Pair], recipe: Recipe) -> Iterator[list[Pair]]:
    rng = random.Random(recipe.seed)
    while True:
        pool = sorted(islice(pairs, POOL * recipe.batch), key=lambda pair: len(pair[0]) + len(pair[1]))
        batches = [pool[at : at + recipe.batch] for at in range(0, len(pool), recipe.batch)]
        rng.shuffle(batches)
        yield from batches


def fit(model: Any, pairs: Iterator[Pair], recipe: Recipe) -> None:
    """Fine-tune in place on `pairs`, as many as the recipe takes; leaves the model in evaluation mode."""
    batches = _batches(pairs, recipe)
    model.get_input_embeddings().weight.requires_grad_(False)
    model.set_attn_implementation("eager")  # On a CPU the fused one's backward takes longer than the products.
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=recipe.rate, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / WARM_UP, (recipe.steps - step) / max(1, recipe.steps - WARM_UP))
    )
    model.train()
    with ThreadPoolExecutor(WORKERS) as pool:
        for step in range(recipe.steps):
            batch = next(batches)
            parts = _parts(batch)
            losses = []
            for found in pool.map(lambda part: _gradient(model, trained, part), parts):
                losses.append(found[0])
                _add(trained, found[1])
            for parameter in trained:
                assert parameter.grad is not None
                parameter.grad /= len(parts)
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            if step % 10 == 0 or step == recipe.steps - 1:
                loss = sum(losses) / len(losses)
                print(f"{recipe.name}: step {step + 1}/{recipe.steps}, loss {loss:.3f}", flush=True)
    model.eval()


def _parts(batch: Sequence[Pair]) -> list[Sequence[Pair]]:
    """A batch, in as many parts as keep each within PART_TOKENS, of one length, being sorted; a multiple of WORKERS, where there are so many examples."""
    width = max(len(prompt) + len(answer) for prompt, answer in batch)
    rounds = math.ceil(len(batch) / (WORKERS * max(1, PART_TOKENS // width)))
    count = min(rounds * WORKERS, len(batch))
    return [batch[at::count] for at in range(count)]


def _gradient(model: Any, trained: Sequence[Tensor], pairs: Sequence[Pair]) -> tuple[float, tuple[Tensor, ...]]:
    """One part's loss and gradients, on this thread alone."""
    torch.set_num_threads(1)
    with torch.autocast("cpu", torch.bfloat16):
        loss = _loss(model, pairs)
    return loss.item(), torch.autograd.grad(loss, trained)


def _add(trained: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """In the order of the parts, so that a model is the same from run to run."""
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)


def _loss(model: Any, pairs: Sequence[Pair]) -> Tensor:
    """Mean cross-entropy over answer tokens. Logits are made for those positions only: the vocabulary is the cost."""
    rows = [torch.tensor([*prompt, *answer]) for prompt, answer in pairs]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # Padding stands behind: the causal mask hides it.
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    at = [
        (row, len(prompt) + k - 1, token)
        for row, (prompt, answer) in enumerate(pairs)
        for k, token in enumerate(answer)
    ]
    which, positions, tokens = (torch.tensor(column) for column in zip(*at, strict=True))
    return F.cross_entropy(model.lm_head(hidden[which, positions]).float(), tokens)
