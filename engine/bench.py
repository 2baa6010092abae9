"""The workbench: everything heavy that a campaign keeps resident, and the two things it is asked to do: merge, and score.

Base and task vectors are read once; a candidate is then a sandbox run over tensors in memory, a copy into the resident model, and
a batched decode. The sandbox's zygote is started before any model or problem is read, so a forked candidate inherits neither.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch
from blake3 import blake3

from benchmarks.evaluators import Evaluator
from benchmarks.scores import Score, check_prompts, score
from benchmarks.statistics import ItemBits
from benchmarks.suite import Suite
from engine import locations
from engine.config import CampaignConfig, ModelsSection, limits_of
from engine.descriptors import Descriptors
from engine.diversity import Changes, changed_probes, describe
from engine.effect import effect
from engine.errors import ConfigError
from engine.evaluating import open_evaluator
from engine.hashing import tensor_hash
from engine.records import Effect
from engine.stages import Stages
from engine.store import Store
from engine.suites import Sealed, open_suite
from merges.checkpoints import Checkpoint
from merges.contract import program_id
from merges.probes import probe_jobs
from merges.selection import select
from merges.task_vectors import check_compatible, mergeable, task_jobs, tensor_seed
from sandbox import ExecutionResult, PackedJobs, Reason, Sandbox, TensorJob

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
    """What the archive knows of one model's answers to one suite; see `benchmarks.scores.Verdicts`."""

    store: Store
    model: str
    suite: str

    def known(self) -> tuple[ItemBits, ItemBits] | None:
        """See `Verdicts.known`."""
        return self.store.verdicts(self.model, self.suite)

    def learn(self, strict: ItemBits, lenient: ItemBits) -> None:
        """See `Verdicts.learn`."""
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


def open_checkpoints(models: ModelsSection) -> tuple[Checkpoint, Mapping[str, Checkpoint], tuple[str, ...]]:
    """Seed, experts by the names that programs see, and the parameters that are merged.

    Raises:
        MergeUserError: a model cannot be used, or does not fit the others.
    """
    base = Checkpoint.open(locations.model(models.base))
    references = tuple(locations.model(reference) for reference in models.experts)
    experts = {name: Checkpoint.open(path) for name, path in zip(expert_names(models.experts), references, strict=True)}
    twin = base.tied_duplicate()  # merged apart from the embedding it repeats, it could come to differ
    names = tuple(n for n in mergeable(base, select(base.names, models.merge)) if n != twin)
    check_compatible(base, experts, names)
    return base, experts, names


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
    """Sandbox, task vectors, evaluator and problems of one campaign. A context manager.

    Merging (`probe`, `merge`) and scoring may go on side by side, each from one thread.

    Attributes:
        stages: what its work takes.
        dev: what candidates are asked.
        test: what they are asked at the end, sealed until then.
    """

    def __init__(self, config: CampaignConfig, *, allow_none: bool = False) -> None:
        """Open everything. `allow_none`: see `open_sandbox`.

        Raises:
            ConfigError, MergeUserError, BenchmarkUserError: something the campaign names cannot be used.
        """
        self.config = config
        self.stages = Stages()
        self._store: Store | None = None
        self._earlier: Mapping[str, int] = {}
        with ExitStack() as opened:
            self.sandbox = opened.enter_context(closing(open_sandbox(config, allow_none=allow_none)))
            self._open_models(opened)
            self._opened = opened.pop_all()

    def _open_models(self, opened: ExitStack) -> None:
        models = self.config.models
        self.base, self.experts, self.names = open_checkpoints(models)
        jobs = task_jobs(self.base, self.experts, self.names, run_seed=self.config.campaign.seed, program_id="")
        self._bases = {job.name: job.base for job in jobs if job.base is not None}
        self._packed = opened.enter_context(closing(self.sandbox.pack(jobs)))
        del jobs  # as large as what was packed
        self._probe_jobs = probe_jobs(len(self.experts))
        self._probes = opened.enter_context(closing(self.sandbox.pack(self._probe_jobs)))
        self._changed: dict[Changes, PackedJobs] = {}
        self.dev = open_suite(self.config, "dev")
        self.test = Sealed(self.config, self.dev)
        self.evaluator: Evaluator = opened.enter_context(
            closing(
                open_evaluator(
                    self.config.evaluator, models, locations.model(models.base), batch=self.config.benchmark.batch
                )
            )
        )
        for suite in (self.dev, self.test.suite):
            check_prompts(self.evaluator, suite)  # one that is too long shows now, not after the search
        self._base_hashes = {name: tensor_hash(self.base.read(name)) for name in self.base.names}
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
        self._opened.close()

    def keep_verdicts_in(self, store: Store) -> None:
        """From now on no model is asked a problem twice, in this process or a later one on the same archive.

        What memory did not suffice for in an earlier process is not tried again.
        """
        self._store, self._earlier = store, store.meta("incidents") or {}
        if batch := store.meta("batch"):
            self.evaluator.batch = batch["in force"]

    def probe(self, source: str) -> ExecutionResult:
        """Run a program on the fixed probe tensors: cheap, and enough to see what it does."""
        with self.stages.watch("validate", 1):
            return _patiently(lambda: self.sandbox.execute(source, self._probes))

    def describe(self, source: str, answer: ExecutionResult) -> Descriptors:
        """What a program does that gave `answer` on the probe tensors."""

        def run(changes: Changes) -> ExecutionResult:
            return _patiently(lambda: self.sandbox.execute(source, self._probes_after(changes)))

        with self.stages.watch("describe", 1):
            return describe(source, self._probe_jobs, answer, run)

    def _probes_after(self, changes: Changes) -> PackedJobs:
        if changes not in self._changed:
            packed = self.sandbox.pack(changed_probes(self._probe_jobs, changes))
            self._changed[changes] = self._opened.enter_context(closing(packed))
        return self._changed[changes]

    def merge(
        self, source: str, parameters: Mapping[str, float] | None = None, *, run_seed: int | None = None
    ) -> ExecutionResult:
        """Run a program over the campaign's task vectors; random numbers from H(run seed, program, tensor name).

        Args:
            run_seed: None: the campaign's.
        """
        run_seed = self.config.campaign.seed if run_seed is None else run_seed
        program = program_id(source)
        seeds = {name: tensor_seed(run_seed, program, name) for name in self.names}
        with self.stages.watch("execute", 1), self._packed.reseeded(seeds) as jobs:
            return _patiently(lambda: self.sandbox.execute(source, jobs, parameters))

    def score_merge(
        self,
        result: ExecutionResult,
        *,
        suite: Suite | None = None,
        is_beaten: IsBeaten | None = None,
        blocks: int | None = None,
    ) -> Scored:
        """Score base + the task vectors that a program made, rounded as `apply` would write them.

        Args:
            suite: None: dev.
            is_beaten: see `benchmarks.scores.score`.
            blocks: only the first so many blocks of the suite are asked; None: all.
        """
        assert result.outputs is not None, "a program that failed has no score"
        with self.stages.watch("swap"):
            merged = {n: self._stored(n, self._bases[n] + vector) for n, vector in result.outputs.items()}
        return self._score(merged, suite or self.dev, is_beaten, blocks)

    def effects(self, result: ExecutionResult) -> list[Effect]:
        """What a program made of each tensor; the task vectors are read again, one tensor's at a time."""
        assert result.outputs is not None, "a program that failed has no effect"
        with self.stages.watch("describe", 1):
            return [effect(self._vectors(name), merged) for name, merged in result.outputs.items()]

    def _vectors(self, name: str) -> TensorJob:
        (job,) = task_jobs(self.base, self.experts, (name,), run_seed=0, program_id="", with_base=False)
        return job

    def _stored(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Round to the base's dtype: what is scored is what `apply` would write, not a finer model nobody can save."""
        return tensor.to(self.base.dtypes[name])

    def score_model(self, name: str | None, *, suite: Suite | None = None) -> Scored:
        """Score the seed (None) or an expert as it is, whole: tensors outside the merge included where shapes agree."""

        tensors: Tensors = {}
        if name is not None:
            expert = self.experts[name]
            shared = [n for n in self.base.names if n in expert.shapes and expert.shapes[n] == self.base.shapes[n]]
            tensors = {n: expert.read(n) for n in shared}
        return self._score(tensors, suite or self.dev)

    def _score(
        self, tensors: Tensors, suite: Suite, is_beaten: IsBeaten | None = None, blocks: int | None = None
    ) -> Scored:
        self.test.refuse(suite)
        start = time.perf_counter()

        def swap() -> None:
            with self.stages.watch("swap", 1):
                self.evaluator.swap(tensors)

        known = StoredVerdicts(self._store, self._model_hash(tensors), self._conditions(suite)) if self._store else None
        try:
            result = score(
                self.evaluator,
                suite,
                is_beaten=is_beaten,
                blocks=blocks,
                judged=known,
                ready=swap,
                watch=self.stages.watch,
            )
        finally:
            self._note_incidents()
        return Scored(result, time.perf_counter() - start)

    def _model_hash(self, tensors: Tensors) -> str:
        """Of the model that these tensors make of the base: those that are not the base's own, by name. The seed's is that of no tensor."""
        with self.stages.watch("swap"):
            hashes = {name: tensor_hash(tensor) for name, tensor in tensors.items()}
        other = sorted((name, digest) for name, digest in hashes.items() if digest != self._base_hashes.get(name))
        return blake3(json.dumps(other).encode()).hexdigest()

    def _conditions(self, suite: Suite) -> str:
        """Everything an answer depends on beside the model, as one hash: the suite, and how the evaluator computes."""
        models, evaluator = self.config.models, self.evaluator
        how = (suite.digest, evaluator.engine, models.dtype, models.device, evaluator.batch)
        return blake3(repr(how).encode()).hexdigest()

    def _note_incidents(self) -> None:
        """What the evaluator mended goes into the archive, with what earlier processes did, and the batch that came of it."""
        if self._store is None or not self.evaluator.incidents:
            return
        self._store.set_meta("incidents", Counter(self._earlier) + Counter(self.evaluator.incidents))
        if self.evaluator.batch is not None:
            self._store.set_meta("batch", {"in force": self.evaluator.batch})


def _patiently(execute: Callable[[], ExecutionResult]) -> ExecutionResult:
    """Run once more what was too slow: that may be the machine's fault, and every other reason repeats itself."""
    result = execute()
    return execute() if result.reason is Reason.TIMEOUT else result
