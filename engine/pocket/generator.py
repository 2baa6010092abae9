"""The pocket generator: a small Llama, pre-trained from nothing on the corpus, that writes merge programs token by token.

    python -m engine.pocket.generator --out data/pocket/generator

One thread, fp32, a fixed number of steps and fixed seeds: the same machine gives the same weights. bf16 on disk. What it can
do is then measured by `engine.pocket.measure_generator`, which writes the folder's README.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from engine.pocket.corpus import Document, corpus, documents
from engine.pocket.tokenizer import train_tokenizer
from engine.prompts import SPECIAL_TOKENS

IGNORED = -100  # label that the loss skips
OPEN_ROWS = 32  # rows being filled at a time; more packs tighter and mixes further
RECIPE_FILE = "recipe.json"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights. `row` is in tokens, `batch` in rows."""

    seed: int = 2410
    tokenizer_documents: int = 6000
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    intermediate: int = 704
    row: int = 512
    batch: int = 8
    steps: int = 1700
    warmup: int = 60
    peak_rate: float = 3e-3
    final_share: float = 0.03
    weight_decay: float = 0.1
    clip: float = 1.0


@dataclass(frozen=True)
class Trained:
    """What the training cost and came to. `documents` were seen once each; losses are nats per token."""

    documents: int
    tokens: int
    seconds: float
    train_loss: float
    held_out_loss: float
    parameters: int


def plain_texts(drawn: Sequence[Document]) -> list[str]:
    """Texts without special tokens, for the tokenizer's trainer."""
    texts = []
    for document in drawn:
        text = document.prompt + document.completion
        for token in SPECIAL_TOKENS:
            text = text.replace(token, "")
        texts.append(text)
    return texts


def model_for(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A freshly initialised model; the caller has seeded torch."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def encode(document: Document, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """Token ids and labels of a document. Parents are learned too; the fixed prompt and failed programs are only read."""
    prompt = tokenizer(document.prompt).input_ids
    completion = tokenizer(document.completion).input_ids
    hidden = document.kind in ("one_shot", "repair")
    return prompt + completion, [IGNORED] * len(prompt) + completion if hidden else prompt + completion


def rows(
    stream: Iterator[Document], tokenizer: PreTrainedTokenizerFast, row: int
) -> Iterator[tuple[list[int], list[int], int]]:
    """Pack whole documents into rows of `row` tokens: (ids, labels, documents in it). Longer documents are left out."""
    assert tokenizer.pad_token_id is not None
    opened: list[tuple[list[int], list[int], int]] = []
    for document in stream:
        ids, labels = encode(document, tokenizer)
        if len(ids) > row:
            continue
        place = next((i for i, (held, _, _) in enumerate(opened) if len(held) + len(ids) <= row), None)
        if place is not None:
            held, held_labels, count = opened[place]
            opened[place] = (held + ids, held_labels + labels, count + 1)
        else:
            opened.append((ids, labels, 1))
        if len(opened) > OPEN_ROWS:
            fullest = max(range(len(opened)), key=lambda i: len(opened[i][0]))
            held, held_labels, count = opened.pop(fullest)
            missing = row - len(held)
            yield held + [tokenizer.pad_token_id] * missing, held_labels + [IGNORED] * missing, count


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine down to `final_share` of the peak."""
    if step < recipe.warmup:
        return recipe.peak_rate * (step + 1) / recipe.warmup
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.peak_rate * (recipe.final_share + (1 - recipe.final_share) * 0.5 * (1 + math.cos(math.pi * progress)))


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> Trained:
    """Pre-train in place on `recipe.steps` batches of fresh documents."""
    start = time.monotonic()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.peak_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay, fused=True
    )
    packed = rows(documents(recipe.seed), tokenizer, recipe.row)
    model.train()
    seen = tokens = 0
    recent: list[float] = []
    for step in range(recipe.steps):
        batch = [next(packed) for _ in range(recipe.batch)]
        seen += sum(count for _, _, count in batch)
        tokens += recipe.batch * recipe.row
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, recipe)
        loss = model(
            input_ids=torch.tensor([ids for ids, _, _ in batch]), labels=torch.tensor([lab for _, lab, _ in batch])
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent = [*recent[-49:], float(loss.detach())]
        if step % 50 == 49:
            print(
                f"step {step + 1}/{recipe.steps} loss {sum(recent) / len(recent):.4f} {time.monotonic() - start:.0f} s",
                flush=True,
            )
    parameters = sum(p.numel() for p in model.parameters())
    return Trained(
        seen,
        tokens,
        time.monotonic() - start,
        sum(recent) / len(recent),
        held_out_loss(model, tokenizer, recipe),
        parameters,
    )


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, count: int = 8) -> float:
    """Mean loss on `count` rows of documents drawn with another seed."""
    model.eval()
    packed = rows(documents(recipe.seed + 1), tokenizer, recipe.row)
    losses = []
    for _ in range(count):
        ids, labels, _ = next(packed)
        losses.append(float(model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss))
    return sum(losses) / len(losses)


def save(
    folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, trained: Trained
) -> None:
    """Write a folder that `AutoModelForCausalLM` and `AutoTokenizer` load: bf16 safetensors, tokenizer, configs, recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        max_new_tokens=360,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    record = {"recipe": asdict(recipe), "trained": asdict(trained)}
    (folder / RECIPE_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def build(folder: Path, recipe: Recipe) -> Trained:
    """Corpus, tokenizer, model, training, files: from nothing to `folder`."""
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    tokenizer = train_tokenizer(plain_texts(corpus(recipe.tokenizer_documents, recipe.seed)))
    model = model_for(recipe, tokenizer)
    trained = train(model, tokenizer, recipe)
    save(folder, model, tokenizer, recipe, trained)
    return trained


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the build."""
    parser = argparse.ArgumentParser(description="Pre-train the pocket generator from nothing.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--steps", type=int, default=Recipe.steps, help="training steps; the shipped model took the default"
    )
    given = parser.parse_args(arguments)
    trained = build(given.out, Recipe(steps=given.steps))
    print(json.dumps(asdict(trained)))


if __name__ == "__main__":
    main()
