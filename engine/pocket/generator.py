"""The pocket generator: a small Llama, pre-trained from nothing on the corpus, that writes merge programs token by token.

    python -m engine.pocket.generator --out data/pocket/generator

Two phases. In the first the grammar draws identifiers from large pools, in the second in one author's habit: after the first alone,
at 1700 steps, a quarter of the samples was valid, nearly all faults being a name that had been forgotten on the way.
One thread, fp32, a fixed number of steps and fixed seeds: the same machine gives the same weights. bf16 on disk. What it can
do is then measured by `engine.pocket.measure_generator`, which writes the folder's README.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from engine.pocket.corpus import Document, corpus, documents
from engine.pocket.tokenizer import train_tokenizer
from engine.prompts import SPECIAL_TOKENS

IGNORED = -100  # label that the loss skips
OPEN_ROWS = 32  # rows being filled at a time; more packs tighter and mixes further
RECIPE_FILE = "recipe.json"


@dataclass(frozen=True)
class Phase:
    """Batches from one style of the grammar, with a learning-rate schedule and an optimizer of their own."""

    steps: int
    warmup: int
    peak_rate: float
    seed_shift: int
    wide: bool


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
    wide: Phase = Phase(steps=1700, warmup=60, peak_rate=3e-3, seed_shift=0, wide=True)
    narrow: Phase = Phase(steps=450, warmup=20, peak_rate=2e-3, seed_shift=1000, wide=False)
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


def learning_rate(step: int, phase: Phase, final_share: float) -> float:
    """Linear warm-up, then a cosine down to `final_share` of the peak."""
    if step < phase.warmup:
        return phase.peak_rate * (step + 1) / phase.warmup
    progress = (step - phase.warmup) / max(1, phase.steps - phase.warmup)
    return phase.peak_rate * (final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * progress)))


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, phase: Phase) -> Trained:
    """Train in place on `phase.steps` batches of fresh documents, then round the weights to bf16, as they are stored."""
    start = time.monotonic()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=phase.peak_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay, fused=True
    )
    packed = rows(documents(recipe.seed + phase.seed_shift, wide=phase.wide), tokenizer, recipe.row)
    model.train()
    seen = 0
    recent: list[float] = []
    for step in range(phase.steps):
        batch = [next(packed) for _ in range(recipe.batch)]
        seen += sum(count for _, _, count in batch)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, phase, recipe.final_share)
        ids, labels = (torch.tensor([row[part] for row in batch]) for part in (0, 1))
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent = [*recent[-49:], float(loss.detach())]
        if step % 50 == 49:
            seconds = time.monotonic() - start
            print(f"step {step + 1}/{phase.steps} loss {sum(recent) / len(recent):.4f} {seconds:.0f} s", flush=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16).to(torch.float32))
    return Trained(
        documents=seen,
        tokens=phase.steps * recipe.batch * recipe.row,
        seconds=time.monotonic() - start,
        train_loss=sum(recent) / len(recent),
        held_out_loss=held_out_loss(model, tokenizer, recipe, phase),
        parameters=sum(p.numel() for p in model.parameters()),
    )


@torch.no_grad()
def held_out_loss(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, phase: Phase, count: int = 8
) -> float:
    """Mean loss on `count` rows of documents drawn with another seed."""
    model.eval()
    packed = rows(documents(recipe.seed + 1, wide=phase.wide), tokenizer, recipe.row)
    losses = []
    for _ in range(count):
        ids, labels, _ = next(packed)
        losses.append(float(model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss))
    return sum(losses) / len(losses)


def save(
    folder: Path,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    trained: Mapping[str, Trained],
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
    record = {"recipe": asdict(recipe), "trained": {name: asdict(part) for name, part in trained.items()}}
    (folder / RECIPE_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def build(folder: Path, recipe: Recipe, first: Path | None = None) -> None:
    """Corpus, tokenizer, model, training, files: from nothing to `folder`.

    The first phase's result is kept in `<folder>/wide` while the second runs. `first` is such a folder: the build goes on from there.
    """
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    if first is None:
        tokenizer = train_tokenizer(plain_texts(corpus(recipe.tokenizer_documents, recipe.seed, wide=True)))
        model = model_for(recipe, tokenizer)
        first = folder / "wide"
        save(first, model, tokenizer, recipe, {"wide": train(model, tokenizer, recipe, recipe.wide)})
    wide = json.loads((first / RECIPE_FILE).read_text(encoding="utf-8"))["trained"]["wide"]
    tokenizer = AutoTokenizer.from_pretrained(first)
    model = LlamaForCausalLM.from_pretrained(first, dtype=torch.float32)
    narrow = train(model, tokenizer, recipe, recipe.narrow)
    save(folder, model, tokenizer, recipe, {"wide": Trained(**wide), "narrow": narrow})
    shutil.rmtree(folder / "wide", ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the build."""
    parser = argparse.ArgumentParser(description="Pre-train the pocket generator from nothing.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--first", type=Path, help="result of the first phase, to go on from")
    given = parser.parse_args(arguments)
    build(given.out, Recipe(), given.first)


if __name__ == "__main__":
    main()
