"""`score`: one model on one benchmark with its interval, alone or paired with another model on the same problems."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.benchmark import Benchmark, load_benchmark
from benchmarks.problems import Problem
from benchmarks.scores import Score, score
from benchmarks.statistics import Interval, newcombe, paired_difference
from benchmarks.suite import Part, Suite
from engine import locations
from engine.config import EvaluatorSection, ModelsSection
from engine.config_file import build_config
from engine.errors import UserError
from engine.evaluating import open_evaluator
from merges.checkpoints import Checkpoint

BOTH = "both"
"""A split: dev and test, and the gap between them."""


@dataclass(frozen=True)
class ScoreRequest:
    """What `score` is asked.

    Attributes:
        benchmark, data, splits, checker, shots, chat, max_new_tokens: as in `load_benchmark`; None: its default.
        split: "dev", "test", "fresh:SEED" (pocket), several of these between commas, which are one set of problems, or BOTH.
        limit: only the first so many problems of each split.
        models: dtype, device and threads.
        evaluator: what answers.
        batch: prompts decoded together; None: the evaluator's default.
    """

    benchmark: str
    split: str
    data: str | None = None
    splits: str = "clean"
    checker: str | None = None
    shots: int | None = None
    chat: bool = False
    max_new_tokens: int | None = None
    limit: int | None = None
    models: ModelsSection = field(default_factory=ModelsSection)
    evaluator: EvaluatorSection = field(default_factory=EvaluatorSection)
    batch: int | None = None

    def load(self) -> Benchmark:
        """The benchmark; raises BenchmarkUserError."""
        return load_benchmark(
            self.benchmark,
            data=self.data,
            shots=self.shots,
            chat=self.chat,
            max_new_tokens=self.max_new_tokens,
            splits=self.splits,
            checker=self.checker,
        )


@dataclass(frozen=True)
class Answered:
    """A score of one split and the wall-clock seconds it took, loading not included."""

    score: Score
    seconds: float


def sections(models: Mapping[str, Any], evaluator: Mapping[str, Any]) -> tuple[ModelsSection, EvaluatorSection]:
    """Options of the command as sections of a campaign, which know what they may be; raises ConfigError."""
    tree = {"models": dict(models), "evaluator": dict(evaluator)}
    config = build_config(tree, source="score")
    return config.models, config.evaluator


def score_folder(model: str, request: ScoreRequest, *, against: str | None = None) -> dict[str, Any]:
    """Score a model folder or hub id; facts as plain values, shares 0..1, intervals of 95 %.

    Args:
        against: another model, asked the same; the facts then hold the paired difference.

    Raises:
        UserError, BenchmarkUserError, CheckpointError: one line each.
    """
    benchmark = request.load()
    for one in (model, against):
        if one is not None:
            Checkpoint.open(locations.model(one))  # a mistyped second name shows before the first is scored
    names = ("dev", "test") if request.split == BOTH else (request.split,)
    suites = {name: Suite([Part(benchmark, _problems(benchmark, name, request.limit))]) for name in names}
    mine = _ask(model, suites, request)
    facts: dict[str, Any] = {"model": model, "benchmark": request.benchmark, "splits": request.splits}
    facts |= {"prompt_version": benchmark.prompt_version, "ranks": benchmark.ranks, "split": request.split}
    first = mine[names[0]]
    facts |= _facts(first)
    if request.split == BOTH:
        facts["test"] = _facts(mine["test"])
        gap = newcombe(_interval(mine["dev"].score), _interval(mine["test"].score))
        facts["gap"] = {"difference": gap.estimate, "interval": [gap.low, gap.high]}
    if against is not None:
        other = _ask(against, suites, request)
        pairs = {name: _paired(mine[name].score, other[name].score) for name in names}
        facts["against"] = {"model": against, **_facts(other[names[0]]), **pairs[names[0]]}
        if request.split == BOTH:
            facts["against"]["test"] = _facts(other["test"]) | pairs["test"]
    return facts


def _problems(benchmark: Benchmark, split: str, limit: int | None) -> tuple[Problem, ...]:
    names = [name.strip() for name in split.split(",")]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(
            f"split '{split}': expected each split once, got '{twice}' more than once; leave the others out"
        )
    return tuple(problem for name in names for problem in benchmark.problems(name)[:limit])


def _ask(model: str, suites: Mapping[str, Suite], request: ScoreRequest) -> dict[str, Answered]:
    folder = Checkpoint.open(locations.model(model)).path  # asks the hub once, where transformers would for a minute
    evaluator = open_evaluator(request.evaluator, request.models, folder, batch=request.batch)
    answered = {}
    try:
        for name, suite in suites.items():
            start = time.perf_counter()
            answered[name] = Answered(score(evaluator, suite), time.perf_counter() - start)
    finally:
        evaluator.close()
    return answered


def _facts(answered: Answered) -> dict[str, Any]:
    s = answered.score
    return {
        "score": s.value,
        "strict": s.strict,
        "lenient": s.lenient,
        "n": s.n,
        "standard_error": s.standard_error,
        "interval": [s.low, s.high],
        "families": dict(s.families),
        "bits": s.bits,
        "strict_bits": s.strict_bits,
        "lenient_bits": s.lenient_bits,
        "scorer_version": s.scorer_version,
        "seconds": answered.seconds,
    }


def _paired(a: Score, b: Score) -> dict[str, Any]:
    found = paired_difference(a.bits, b.bits, np.random.default_rng(0), resamples=40_000)
    return {
        "difference": found.interval.estimate,
        "difference_interval": [found.interval.low, found.interval.high],
        "only_this": found.only_a,
        "only_other": found.only_b,
        "p": found.p_value,
    }


def _interval(s: Score) -> Interval:
    return Interval(s.value, s.low, s.high, 0.95)
