"""What the pocket generator can do, measured in the sandbox and written into its folder's README.

    python -m engine.pocket.measure_generator --generator data/pocket/generator

The acceptance figures are taken with the fixed one-shot prompt at temperature 1.0; the other prompt forms are measured beside it.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.grammar import ProgramGrammar
from engine.pocket.corpus import corpus
from engine.pocket.generator import RECIPE_FILE
from engine.pocket.pages import files_table
from engine.prompts import extract_program, pocket_crossover, pocket_one_shot, pocket_repair, pocket_variant
from engine.sampling import sample_texts
from merges.contract import program_id
from merges.probes import behaviour_hash, probe_jobs
from sandbox import Sandbox

SAMPLES = 500
FORM_SAMPLES = 100
TEMPERATURE = 1.0
MAX_NEW_TOKENS = 360
CORPUS_MARGIN = 1.1  # packing draws a few documents more than it uses: compare with these too


@dataclass(frozen=True)
class Outcome:
    """What became of one sample. `behaviour` is None where the program is not valid, `reason` where it is."""

    source: str
    identity: str
    behaviour: str | None
    reason: str | None


@dataclass(frozen=True)
class Measured:
    """The figures. Shares are 0..1. `distinct_behaviour` is of the valid samples; the rest are of all samples."""

    samples: int
    valid: float
    distinct_trees: float
    distinct_behaviour: float
    distinct_behaviour_of_all: float
    new_trees: float
    median_tokens: int
    median_characters: int
    cut: float
    tokens_per_second: float
    seconds: float
    reasons: dict[str, int]
    grammar_valid: float
    forms: dict[str, float]


def tried(sources: Sequence[str], sandbox: Sandbox) -> list[Outcome]:
    """Run every program on the probes."""
    jobs = probe_jobs()
    outcomes = []
    for source in sources:
        result = sandbox.execute(source, jobs)
        ok = result.ok and result.outputs is not None
        behaviour = behaviour_hash(result.outputs) if ok and result.outputs is not None else None
        outcomes.append(Outcome(source, program_id(source), behaviour, None if ok else str(result.reason)))
    return outcomes


def valid_share(outcomes: Sequence[Outcome]) -> float:
    """Share of the programs that pass the gate and give sound results on all probes."""
    return sum(outcome.behaviour is not None for outcome in outcomes) / len(outcomes)


def other_forms(model: Any, tokenizer: Any, sandbox: Sandbox, seed: int, count: int) -> dict[str, float]:
    """Valid share with the variant, crossover and repair prompts, and how often a variant is a new program."""
    rng, grammar = random.Random(seed), ProgramGrammar()
    parents = [grammar.sample(rng) for _ in range(count)]
    faulty = [grammar.broken(parent, rng) for parent in parents]
    prompts = {
        "variant": [pocket_variant(parent) for parent in parents],
        "crossover": [pocket_crossover(a, b) for a, b in zip(parents, parents[::-1], strict=True)],
        "repair": [pocket_repair(source, reason) for source, reason in faulty],
    }
    shares = {}
    for form, texts in prompts.items():
        seeds = [rng.randrange(2**63) for _ in texts]
        answers = sample_texts(model, tokenizer, texts, TEMPERATURE, seeds, MAX_NEW_TOKENS)
        outcomes = tried([extract_program(answer) for answer in answers], sandbox)
        shares[form] = valid_share(outcomes)
        if form == "variant":
            same = sum(o.identity == program_id(parent) for o, parent in zip(outcomes, parents, strict=True))
            shares["variant differs from its parent"] = 1 - same / count
        if form == "repair":
            mended = sum(o.identity == program_id(parent) for o, parent in zip(outcomes, parents, strict=True))
            shares["repair gives the sound program back exactly"] = mended / count
    return shares


def corpus_ids(record: dict[str, Any]) -> set[str]:
    """Ids of all programs that the training saw, drawn anew from the seeds in the recipe."""
    known: set[str] = set()
    for name, trained in record["trained"].items():
        phase = record["recipe"][name]
        count, seed = int(trained["documents"] * CORPUS_MARGIN), record["recipe"]["seed"] + phase["seed_shift"]
        known.update(document.identity for document in corpus(count, seed, wide=phase["wide"]))
    return known


def measure(folder: Path, samples: int, form_samples: int, seed: int = 7) -> Measured:
    """Sample, run, count."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    record = json.loads((folder / RECIPE_FILE).read_text(encoding="utf-8"))
    rng = random.Random(seed)
    seeds = [rng.randrange(2**63) for _ in range(samples)]
    start = time.monotonic()
    texts = sample_texts(model, tokenizer, [pocket_one_shot()] * samples, TEMPERATURE, seeds, MAX_NEW_TOKENS)
    seconds = time.monotonic() - start
    lengths = [len(tokenizer(text).input_ids) for text in texts]
    known = corpus_ids(record)
    grammar = ProgramGrammar()
    with Sandbox() as sandbox:
        outcomes = tried([extract_program(text) for text in texts], sandbox)
        from_grammar = tried([grammar.sample(rng) for _ in range(form_samples)], sandbox)
        forms = other_forms(model, tokenizer, sandbox, seed, form_samples)
    valid = [outcome for outcome in outcomes if outcome.behaviour is not None]
    behaviours = len({outcome.behaviour for outcome in valid})
    return Measured(
        samples=samples,
        valid=len(valid) / samples,
        distinct_trees=len({outcome.identity for outcome in outcomes}) / samples,
        distinct_behaviour=behaviours / max(1, len(valid)),
        distinct_behaviour_of_all=behaviours / samples,
        new_trees=sum(outcome.identity not in known for outcome in outcomes) / samples,
        median_tokens=int(statistics.median(lengths)),
        median_characters=int(statistics.median(len(outcome.source) for outcome in outcomes)),
        cut=sum(length >= MAX_NEW_TOKENS for length in lengths) / samples,
        tokens_per_second=sum(lengths) / seconds,
        seconds=seconds,
        reasons=dict(Counter(o.reason for o in outcomes if o.reason is not None).most_common()),
        grammar_valid=valid_share(from_grammar),
        forms=forms,
    )


def _files(folder: Path) -> dict[str, Path]:
    """Every file of the folder but the README."""
    return {p.name: p for p in sorted(folder.iterdir()) if p.is_file() and p.name != "README.md"}


def readme(measured: Measured, record: dict[str, Any], threads: int) -> str:
    """The folder's README."""
    recipe, trained = record["recipe"], record["trained"]
    last = trained["narrow"]
    percent = "{:.1%}".format
    lines = [
        "# Pocket generator",
        "",
        "A small Llama-architecture language model that writes whole merge programs token by token. Plain `AutoModelForCausalLM` and",
        "`AutoTokenizer` load it. It was pre-trained from nothing on programs drawn from the grammar in `engine/grammar`, in the prompt",
        "formats of `engine/prompts.py`; neither the grammar nor the corpus has seen a score.",
        "",
        f"{last['parameters'] / 1e6:.2f} M parameters ({recipe['layers']} layers, width {recipe['hidden']}), a byte-level BPE vocabulary",
        "of its own, bf16 on disk. Pre-trained from nothing on one thread, in two phases (`engine/pocket/generator.py` says why):",
        "",
        "| phase | documents | tokens with padding | steps | minutes, on a busy machine | held-out loss, nats a token |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} identifiers | {t['documents']} | {t['tokens'] / 1e6:.2f} M | {recipe[name]['steps']} "
            f"| {t['seconds'] / 60:.0f} | {t['held_out_loss']:.3f} |"
            for name, t in trained.items()
        ),
        "",
        "Origin: made by `python -m engine.pocket.generator --out data/pocket/generator` (part of `make pocket`). Licence: Apache-2.0.",
        "",
        "## What it can do",
        f"{measured.samples} samples with the fixed one-shot prompt, temperature {TEMPERATURE}, run in the sandbox on the probe tensors",
        "(`python -m engine.pocket.measure_generator` writes this file):",
        "",
        "| | wanted | measured |",
        "|---|---|---|",
        f"| valid (gate passed, sound result on every probe) | 40–90 % | {percent(measured.valid)} |",
        f"| distinct canonical syntax trees, of all samples | ≥ 90 % | {percent(measured.distinct_trees)} |",
        f"| distinct behaviour, of the valid samples | ≥ 60 % | {percent(measured.distinct_behaviour)} |",
        f"| distinct behaviour, of all samples | | {percent(measured.distinct_behaviour_of_all)} |",
        f"| canonical tree not in the corpus, of all samples | ≥ 50 % | {percent(measured.new_trees)} |",
        f"| median length | | {measured.median_tokens} tokens, {measured.median_characters} characters |",
        f"| cut off at {MAX_NEW_TOKENS} tokens | | {percent(measured.cut)} |",
        f"| sampling, {threads} thread{'s' if threads > 1 else ''} | | {measured.tokens_per_second:.0f} tokens/s, {measured.seconds:.0f} s in all |",
        f"| programs of the grammar itself: valid | | {percent(measured.grammar_valid)} |",
        *(
            f"| prompt form: {form}{'' if ' ' in form else ', valid'} | | {percent(share)} |"
            for form, share in measured.forms.items()
        ),
        "",
        "Reasons of the samples that are not valid: "
        + ", ".join(f"{reason} {count}" for reason, count in measured.reasons.items())
        + ".",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the measurement."""
    parser = argparse.ArgumentParser(description="Measure the pocket generator and write its README.")
    parser.add_argument("--generator", type=Path, required=True, help="folder of the generator")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--form-samples", type=int, default=FORM_SAMPLES, help="samples for each other prompt form")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    measured = measure(given.generator, given.samples, given.form_samples)
    record = json.loads((given.generator / RECIPE_FILE).read_text(encoding="utf-8"))
    text = readme(measured, record, given.threads) + "\n".join(files_table(_files(given.generator))) + "\n"
    (given.generator / "README.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
