"""The workbench: everything heavy that a campaign keeps resident, and the two things it is asked to do: merge, and score.

Base and task vectors are read once; a candidate is then a sandbox run over tensors in memory, a copy into the resident model, and
a batched decode. The sandbox's zygote is started before any model or problem is read, so a forked candidate inherits neither.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from benchmarks.benchmark import Benchmark, load_benchmark
from benchmarks.evaluators import Evaluator, TransformersEvaluator
from benchmarks.problems import Problem, refuse_overlap
from benchmarks.scores import Score, score
from engine import locations
from engine.config import CampaignConfig, ModelsSection, limits_of
from engine.errors import ConfigError
from engine.records import DevScore
from merges.checkpoints import Checkpoint
from merges.contract import program_id
from merges.probes import probe_jobs
from merges.selection import select
from merges.task_vectors import check_compatible, mergeable, task_jobs, tensor_seed
from sandbox import ExecutionResult, Sandbox

LEVELS = ("NONE", "REDUCED", "FULL")


@dataclass(frozen=True)
class Scored:
    """A score and the wall-clock seconds it took."""

    score: DevScore
    seconds: float


def expert_names(references: tuple[str, ...]) -> tuple[str, ...]:
    """Names that programs see: the last part of each reference, made unique by a number where two agree."""
    names: list[str] = []
    for reference in references:
        name = plain = Path(reference.rstrip("/")).name or "expert"
        number = 1
        while name in names:
            number += 1
            name = f"{plain}_{number}"
        names.append(name)
    return tuple(names)


def thread_count(models: ModelsSection) -> int:
    """Threads for scoring and training: as configured, else one per core, at most 16."""
    return models.threads or max(1, min(os.cpu_count() or 1, 16))


def open_sandbox(config: CampaignConfig, *, allow_none: bool = False) -> Sandbox:
    """A sandbox with the campaign's limits.

    Args:
        allow_none: the user accepts a machine without isolation; the floor then binds only where there is some.

    Raises:
        ConfigError: this machine isolates less than the campaign's floor.
        IsolationError: it gives none, and nobody accepted that.
    """
    section = config.sandbox
    sandbox = Sandbox(limits_of(section), allow_none=allow_none, device=section.device)
    level = sandbox.isolation.level
    if LEVELS.index(level) < LEVELS.index(section.floor) and not (level == "NONE" and allow_none):
        missing = ", ".join(sandbox.isolation.missing)
        sandbox.close()
        raise ConfigError(
            f"sandbox.floor: expected isolation of at least {section.floor}, got {level} (missing: {missing}); see `mergewright doctor`, or lower the floor"
        )
    return sandbox


def open_benchmark(config: CampaignConfig, split: str) -> tuple[Benchmark, tuple[Problem, ...]]:
    """The campaign's benchmark and the problems of `split` ("dev" or "test"), cut to the configured number."""
    section = config.benchmark
    data = section.test_data if split == "test" and section.test_data else section.data
    benchmark = load_benchmark(
        section.name, data=data, shots=section.shots, chat=section.chat, max_new_tokens=section.max_new_tokens
    )
    problems = benchmark.problems(split)
    limit = section.dev_limit if split == "dev" else section.test_limit
    return benchmark, problems[:limit]


class Bench:
    """Sandbox, task vectors, evaluator and dev problems of one campaign. A context manager; one caller at a time."""

    def __init__(self, config: CampaignConfig, *, allow_none: bool = False) -> None:
        """Open everything. `allow_none`: see `open_sandbox`.

        Raises:
            ConfigError, MergeUserError, BenchmarkUserError: something the campaign names cannot be used.
        """
        self.config = config
        self.sandbox = open_sandbox(config, allow_none=allow_none)
        try:
            self._open_models()
        except BaseException:
            self.sandbox.close()
            raise

    def _open_models(self) -> None:
        models = self.config.models
        base_path = locations.model(models.base)
        self.base = Checkpoint.open(base_path)
        references = tuple(locations.model(reference) for reference in models.experts)
        self.experts = {
            name: Checkpoint.open(path) for name, path in zip(expert_names(models.experts), references, strict=True)
        }
        twin = self.base.tied_duplicate()  # merged apart from the embedding it repeats, it could come to differ
        self.names = tuple(n for n in mergeable(self.base, select(self.base.names, models.merge)) if n != twin)
        check_compatible(self.base, self.experts, self.names)
        jobs = task_jobs(self.base, self.experts, self.names, run_seed=self.config.campaign.seed, program_id="")
        self._bases = {job.name: job.base for job in jobs if job.base is not None}
        self._packed = self.sandbox.pack(jobs)
        self._probes = self.sandbox.pack(probe_jobs(len(self.experts)))
        self.benchmark, self.dev = open_benchmark(self.config, "dev")
        test = open_benchmark(self.config, "test")[1]  # a missing file shows now, not after hours
        refuse_overlap(self.dev, test)
        self.test_factor = len(test) / len(self.dev)  # the problems are met again only in the final
        threads = thread_count(models)
        options: dict[str, Any] = {"batch_size": self.config.benchmark.batch} if self.config.benchmark.batch else {}
        self.evaluator: Evaluator = TransformersEvaluator(
            base_path, dtype=getattr(torch, models.dtype), threads=threads, device=models.device, **options
        )
        # A tensor that the resident model does not know is the user's to leave out: say so now, not after the first merge.
        self.evaluator.swap({name: self.base.read(name) for name in self.names})
        self.evaluator.restore()

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the model and end the sandbox."""
        self.evaluator.close()
        self._packed.close()
        self._probes.close()
        self.sandbox.close()

    def probe(self, source: str) -> ExecutionResult:
        """Run a program on the fixed probe tensors: cheap, and enough to see what it does."""
        return self.sandbox.execute(source, self._probes)

    def merge(self, source: str, parameters: Mapping[str, float] | None = None) -> ExecutionResult:
        """Run a program over the campaign's task vectors; random numbers from H(campaign seed, program, tensor name)."""
        run_seed, program = self.config.campaign.seed, program_id(source)
        seeds = {name: tensor_seed(run_seed, program, name) for name in self.names}
        with self._packed.reseeded(seeds) as jobs:
            return self.sandbox.execute(source, jobs, parameters)

    def score_vectors(self, vectors: Mapping[str, torch.Tensor], problems: tuple[Problem, ...] | None = None) -> Scored:
        """Score base + merged task vectors on `problems` (dev by default)."""
        merged = {name: self._stored(name, self._bases[name] + vector) for name, vector in vectors.items()}
        return self._score(merged, problems)

    def _stored(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Round to the base's dtype: what is scored is what `apply` would write, not a finer model nobody can save."""
        return tensor.to(self.base.dtypes[name])

    def score_model(self, name: str | None, problems: tuple[Problem, ...] | None = None) -> Scored:
        """Score the seed (None) or an expert as it is, whole: tensors outside the merge included where shapes agree."""
        if name is None:
            return self._score({}, problems)
        expert = self.experts[name]
        shared = [n for n in self.base.names if n in expert.shapes and expert.shapes[n] == self.base.shapes[n]]
        return self._score({n: expert.read(n) for n in shared}, problems)

    def _score(self, tensors: Mapping[str, torch.Tensor], problems: tuple[Problem, ...] | None) -> Scored:
        start = time.perf_counter()
        self.evaluator.swap(tensors)
        result = score(self.evaluator, problems if problems is not None else self.dev, self.benchmark)
        return Scored(_dev_score(result), time.perf_counter() - start)


def _dev_score(result: Score) -> DevScore:
    return DevScore(
        strict=result.strict,
        lenient=result.lenient,
        n=result.n,
        standard_error=result.standard_error,
        bits=result.bits,
        lenient_bits=result.lenient_bits,
        scorer_version=result.scorer_version,
        families=dict(result.families),
    )
