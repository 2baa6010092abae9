"""`score`: one model on one benchmark, with its interval."""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks.benchmark import load_benchmark
from benchmarks.evaluators import TransformersEvaluator
from benchmarks.scores import score
from engine import locations
from engine.errors import UserError
from merges.checkpoints import Checkpoint

EVALUATORS = ("transformers",)


def score_folder(
    model: str,
    *,
    benchmark: str,
    data: str | None,
    split: str,
    limit: int | None,
    evaluator: str,
    shots: int | None,
    threads: int,
) -> dict[str, Any]:
    """Score a model folder or hub id; facts as plain values, shares 0..1, `interval` Wilson 95 % of the strict share.

    Raises:
        UserError, BenchmarkUserError, CheckpointError: one line each.
    """
    if evaluator not in EVALUATORS:
        raise UserError(f"--evaluator: expected one of {', '.join(EVALUATORS)}, got '{evaluator}'; choose one")
    loaded = load_benchmark(benchmark, data=data, shots=shots)
    problems = loaded.problems(split)[:limit]
    folder = Checkpoint.open(locations.model(model)).path  # asks the hub once, where transformers would for a minute
    with_model = TransformersEvaluator(folder, threads=threads or os.cpu_count() or 1)
    try:
        start = time.perf_counter()
        result = score(with_model, problems, loaded)
        seconds = time.perf_counter() - start
    finally:
        with_model.close()
    interval = result.interval()
    return {
        "model": model,
        "benchmark": benchmark,
        "split": split,
        "strict": result.strict,
        "lenient": result.lenient,
        "n": result.n,
        "standard_error": result.standard_error,
        "interval": [interval.low, interval.high],
        "families": dict(result.families),
        "bits": result.bits,
        "scorer_version": result.scorer_version,
        "prompt_version": loaded.prompt_version,
        "seconds": seconds,
    }
