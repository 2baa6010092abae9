"""The workbench: everything heavy that a campaign keeps resident, and the two things it is asked to do: merge, and score.

Base and task vectors are read once; a candidate is then a sandbox run over tensors in memory, a copy into the resident model, and
a batched decode. The sandbox's zygote is started before any model or problem is read, so a forked candidate inherits neither.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch

from benchmarks.evaluators import Evaluator
from benchmarks.scores import Score, score
from benchmarks.statistics import ItemBits
from benchmarks.suite import Suite
from engine import locations
from engine.config import CampaignConfig, limits_of
from engine.errors import ConfigError
from engine.evaluating import open_evaluator
from engine.stages import Stages
from engine.store import Store
from engine.suites import Sealed, open_suite
from merges.checkpoints import Checkpoint
from merges.contract import program_id
from merges.probes import probe_jobs
from merges.selection import select
from merges.task_vectors import check_compatible, mergeable, task_jobs, tensor_seed
from sandbox import ExecutionResult, Sandbox

Tensors = Mapping[str, torch.Tensor]
IsBeaten = Callable[[ItemBits], bool]

LEVELS = ("NONE", "REDUCED", "FULL")


@dataclass(frozen=True)
class Scored:
    """A score and the wall-clock seconds it took."""

    score: Score
    seconds: float


@dataclass(frozen=True)
class StoredVerdicts:
    """What the archive knows of one model's answers to one suite; see `benchmarks.scores.Judged`."""

    store: Store
    model: str
    suite: str

    def known(self) -> tuple[ItemBits, ItemBits] | None:
        """See `Judged.known`."""
        return self.store.verdicts(self.model, self.suite)

    def learn(self, strict: ItemBits, lenient: ItemBits) -> None:
        """See `Judged.learn`."""
        self.store.learn_verdicts(self.model, self.suite, strict, lenient)


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


class Bench:
    """Sandbox, task vectors, evaluator and dev problems of one campaign. A context manager; one caller at a time."""

    def __init__(self, config: CampaignConfig, *, allow_none: bool = False) -> None:
        """Open everything. `allow_none`: see `open_sandbox`.

        Attributes:
            stages: what its work takes.
            dev: what candidates are asked.
            test: what they are asked at the end.

        Raises:
            ConfigError, MergeUserError, BenchmarkUserError: something the campaign names cannot be used.
        """
        self.config = config
        self.stages = Stages()
        self._store: Store | None = None
        self._incidents: Mapping[str, int] = {}
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
        self.dev = open_suite(self.config, "dev")
        self.test = Sealed(self.config, self.dev)
        self.evaluator: Evaluator = open_evaluator(
            self.config.evaluator, models, base_path, batch=self.config.benchmark.batch
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

    def keep_verdicts_in(self, store: Store) -> None:
        """From now on no model is asked a problem twice, in this process or a later one on the same archive."""
        self._store = store

    def probe(self, source: str) -> ExecutionResult:
        """Run a program on the fixed probe tensors: cheap, and enough to see what it does."""
        with self.stages.watch("validate", 1):
            return self.sandbox.execute(source, self._probes)

    def merge(self, source: str, parameters: Mapping[str, float] | None = None) -> ExecutionResult:
        """Run a program over the campaign's task vectors; random numbers from H(campaign seed, program, tensor name)."""
        run_seed, program = self.config.campaign.seed, program_id(source)
        seeds = {name: tensor_seed(run_seed, program, name) for name in self.names}
        with self.stages.watch("execute", 1), self._packed.reseeded(seeds) as jobs:
            return self.sandbox.execute(source, jobs, parameters)

    def score_merge(
        self,
        result: ExecutionResult,
        *,
        suite: Suite | None = None,
        is_beaten: IsBeaten | None = None,
        blocks: int | None = None,
    ) -> Scored:
        """Score base + the task vectors that a program made.

        Args:
            suite: None: dev.
            is_beaten: see `benchmarks.scores.score`.
            blocks: only the first so many blocks of the suite are asked; None: all.
        """
        vectors = result.outputs
        assert vectors is not None, "a program that failed has no score"

        def merged() -> Tensors:
            return {name: self._stored(name, self._bases[name] + vector) for name, vector in vectors.items()}

        return self._score(f"merge:{result.sha256}", merged, suite or self.dev, is_beaten, blocks)

    def _stored(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Round to the base's dtype: what is scored is what `apply` would write, not a finer model nobody can save."""
        return tensor.to(self.base.dtypes[name])

    def score_model(self, name: str | None, *, suite: Suite | None = None) -> Scored:
        """Score the seed (None) or an expert as it is, whole: tensors outside the merge included where shapes agree."""

        def whole() -> Tensors:
            if name is None:
                return {}
            expert = self.experts[name]
            shared = [n for n in self.base.names if n in expert.shapes and expert.shapes[n] == self.base.shapes[n]]
            return {n: expert.read(n) for n in shared}

        return self._score("seed" if name is None else f"expert:{name}", whole, suite or self.dev)

    def _score(
        self,
        model: str,
        tensors: Callable[[], Tensors],
        suite: Suite,
        is_beaten: IsBeaten | None = None,
        blocks: int | None = None,
    ) -> Scored:
        """Score a model that the archive knows as `model`; `tensors` are made only if something has to be asked."""
        self.test.refuse(suite)
        start = time.perf_counter()

        def swap() -> None:
            with self.stages.watch("swap", 1):
                self.evaluator.swap(tensors())

        judged = StoredVerdicts(self._store, model, self._conditions(suite)) if self._store else None
        result = score(
            self.evaluator,
            suite,
            is_beaten=is_beaten,
            blocks=blocks,
            judged=judged,
            ready=swap,
            watch=self.stages.watch,
        )
        if self._store and self.evaluator.incidents != self._incidents:
            self._incidents = dict(self.evaluator.incidents)
            self._store.set_meta("incidents", self._incidents)
        return Scored(result, time.perf_counter() - start)

    def _conditions(self, suite: Suite) -> str:
        """Everything an answer depends on beside the model, as one hash: the suite, and how the evaluator computes."""
        models, section = self.config.models, self.config.evaluator
        how = (suite.digest, section.kind, models.dtype, models.device, self.config.benchmark.batch)
        return hashlib.sha256(repr(how).encode()).hexdigest()
