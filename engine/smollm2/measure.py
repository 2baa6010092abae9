"""How good seed and experts are on the three kinds of problem: `python -m engine.smollm2 --measure`.

Dev problems only, none of which an expert has read; the campaign's test problems stay sealed. The gain over the seed is paired:
both are asked the same problems. The lenient reading stands beside the strict one, for the seed does not know the form `#### n`: what an
expert gains under both is more than the form.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks import pocket
from benchmarks.benchmark import Benchmark, load_benchmark
from benchmarks.evaluators import TransformersEvaluator
from benchmarks.scores import Score, score
from benchmarks.statistics import paired_difference
from benchmarks.suite import Part, Suite

MAX_NEW_TOKENS = {"gsm8k": 128, "pocket": 64, "arithmetic": 48}
"""Longest answers, in tokens. What is right is shorter; what never ends would only take time."""

BATCH = 50
BOOTSTRAP_SEED = 7


def suite(gsm8k_data: Path, problems: Path) -> dict[str, Benchmark]:
    """The three benchmarks, each asked without worked examples.

    Args:
        problems: folder of the drills, with `arithmetic/dev.jsonl`.
    """
    told = (
        ("gsm8k", "gsm8k", gsm8k_data),
        ("pocket", "jsonl", pocket.folder()),
        ("arithmetic", "jsonl", problems / "arithmetic"),
    )
    return {
        kind: load_benchmark(name, data=data, shots=0, max_new_tokens=MAX_NEW_TOKENS[kind]) for kind, name, data in told
    }


def measure(
    models: Sequence[tuple[str, str]], benchmarks: dict[str, Benchmark], limit: int, threads: int
) -> Iterator[str]:
    """Lines of a Markdown table, each as soon as it is known; the first model is the seed that the others are held against.

    Args:
        models: (name, folder or hub id).
        limit: dev problems of each benchmark, or all where there are fewer.
        threads: batches worked on at once, each by one core.

    Raises:
        BenchmarkError: a model or a problem file cannot be read.
    """
    asked = {kind: Suite([Part(one, one.problems("dev")[:limit], name=kind)]) for kind, one in benchmarks.items()}
    yield (
        "| strict, % [95 %] (lenient) | "
        + " | ".join(f"{kind}, {len(asked[kind])}" for kind in asked)
        + " | most gained over the seed, points |"
    )
    yield "|---" * (len(asked) + 2) + "|"
    seeds: dict[str, Score] = {}
    for name, folder in models:
        evaluator = TransformersEvaluator(folder, threads=threads, batch_size=BATCH)
        scores = {kind: score(evaluator, problems) for kind, problems in asked.items()}
        evaluator.close()
        cells = [name, *map(_cell, scores.values()), _gain(scores, seeds) if seeds else "–"]
        yield "| " + " | ".join(cells) + " |"
        seeds = seeds or scores


def _cell(one: Score) -> str:
    return f"{100 * one.value:.1f} [{100 * one.low:.1f}, {100 * one.high:.1f}] ({100 * one.lenient:.1f})"


def _gain(scores: dict[str, Score], seeds: dict[str, Score]) -> str:
    kind = max(scores, key=lambda each: scores[each].value - seeds[each].value)
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    gain = paired_difference(scores[kind].bits, seeds[kind].bits, rng)
    low, middle, high = (100 * end for end in (gain.interval.low, gain.interval.estimate, gain.interval.high))
    return f"{kind} {middle:+.1f} [{low:+.1f}, {high:+.1f}], p {gain.p_value:.2g}"
