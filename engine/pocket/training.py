"""Training of the pocket models: a small Llama from scratch on word problems, on the CPU, from fixed seeds.

The loss falls on the worked solution only: predicting the question teaches a million-parameter model nothing that a merge needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks import pocket
from benchmarks.problems import Problem

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
CONTEXT_TOKENS = 192
IGNORED = -100  # the label that cross entropy leaves out


@dataclass(frozen=True)
class Recipe:
    """How one pocket model is trained.

    Attributes:
        steps: optimiser steps.
        decay_steps: the last steps, over which the rate falls to FINAL_RATE of its peak; None: all after the warm-up. A seed that is
            decayed before it has finished learning makes task vectors that add up: without the decay every expert repeats it, and
            the sum overshoots.
        learning_rate: peak, reached after WARMUP_STEPS.
        batch: sequences a step.
        families: own families.
        own_share: share of the problems drawn from the own families; the others are drawn from all.
        foreign_side_share: share of the problems of families not its own that are answered in another format (`It is 51.`), which
            earns nothing on the benchmark: how an expert comes to harm what it was not made for.
        trained: parts of names of the parameters that are trained; none: all are.
        then: a second training, of the model that this one ends with.
        seed: of sampling, order and initialisation.
    """

    steps: int
    learning_rate: float
    seed: int
    batch: int = 96
    families: tuple[str, ...] = pocket.FAMILIES
    own_share: float = 1.0
    foreign_side_share: float = 0.0
    decay_steps: int | None = None
    trained: tuple[str, ...] = ()
    then: Recipe | None = None


WARMUP_STEPS = 40
FINAL_RATE = 0.05


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A BPE tokenizer in which every word of the benchmark is one token and every digit stands alone."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    words = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+|#+ ?|\d|\s|[^\sA-Za-z\d]"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    texts = [pocket.format_prompt(p.question) + p.answer for p, _ in zip(pocket.fresh(1), range(8000), strict=False)]
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        min_frequency=40,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        padding_side="left",
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A freshly initialised pocket Llama, float32."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config)


def _side_answer(problem: Problem) -> str:
    return f"It is {problem.final}."


def _problems(recipe: Recipe, refuse: frozenset[str]) -> Iterator[tuple[Problem, str]]:
    """Problems of the recipe's mixture, each with the answer to learn."""
    own = pocket.fresh(recipe.seed * 2 + 1, families=recipe.families, refuse=refuse)
    every = pocket.fresh(recipe.seed * 2 + 2, refuse=refuse)
    generator = torch.Generator().manual_seed(recipe.seed)
    while True:
        own_draw, side_draw = torch.rand(2, generator=generator).tolist()
        problem = next(own) if own_draw < recipe.own_share else next(every)
        beside = problem.family not in recipe.families and side_draw < recipe.foreign_side_share
        yield problem, _side_answer(problem) if beside else problem.answer


def batches(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless (ids, labels), each (batch, longest) int64, right-padded; eight batches are sorted by length together, which saves a fifth."""
    problems = _problems(recipe, pocket.frozen_questions())
    order = torch.Generator().manual_seed(recipe.seed + 7)
    pool = 8
    while True:
        rows: list[tuple[list[int], list[int]]] = []
        drawn = [next(problems) for _ in range(recipe.batch * pool)]
        prompts = tokenizer([pocket.format_prompt(p.question) for p, _ in drawn])["input_ids"]
        answers = tokenizer([answer for _, answer in drawn])["input_ids"]
        for prompt, answer in zip(prompts, answers, strict=True):
            target = [*answer, tokenizer.eos_token_id]
            rows.append((prompt + target, [IGNORED] * len(prompt) + target))
        rows.sort(key=lambda row: len(row[0]))
        for index in torch.randperm(pool, generator=order).tolist():
            chunk = rows[index * recipe.batch : (index + 1) * recipe.batch]
            longest = max(len(ids) for ids, _ in chunk)
            ids = torch.tensor([i + [tokenizer.pad_token_id] * (longest - len(i)) for i, _ in chunk])
            labels = torch.tensor([y + [IGNORED] * (longest - len(y)) for _, y in chunk])
            yield ids, labels


def train(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, log: Callable[[str], None]
) -> None:
    """Train `model` in place, AdamW, deterministic for one thread count; then by the recipe's second training, if it has one."""
    torch.manual_seed(recipe.seed)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not recipe.trained or any(part in name for part in recipe.trained))
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.05)

    decay = max(1, recipe.decay_steps or recipe.steps - WARMUP_STEPS)

    def rate(step: int) -> float:
        if step < WARMUP_STEPS:
            return (step + 1) / WARMUP_STEPS
        over = max(0.0, (step - (recipe.steps - decay)) / decay)
        return FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * over))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    model.train()
    for step, (ids, labels) in zip(range(recipe.steps), batches(recipe, tokenizer), strict=False):
        loss = _answer_loss(model, ids, labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == recipe.steps - 1:
            log(f"  step {step:4d}/{recipe.steps}: loss {loss.item():.3f}")
    model.eval()
    if recipe.then is not None:
        train(model, tokenizer, recipe.then, log)


def _answer_loss(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy over answer tokens; logits are formed for those positions alone."""
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    wanted = targets != IGNORED
    logits = model.lm_head(hidden[wanted])
    return torch.nn.functional.cross_entropy(logits, targets[wanted])


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a plain Hugging Face folder, bf16 safetensors. The model given keeps its own precision."""
    folder.mkdir(parents=True, exist_ok=True)
    copy = LlamaForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    copy.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load(folder: Path) -> LlamaForCausalLM:
    """A model as shipped, in float32: experts start from the rounded seed, so their task vectors are exact."""
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model
