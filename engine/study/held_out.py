"""The held-out problems of a study, met when every run is finished: the best programs on dev, what they are compared with, and the transfer.

Which program stands for a run is decided on dev alone. Human-made merges are tuned on dev once, with as many evaluations as a run has programs, for the
experts of the study and again for those of the transfer.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.statistics import ItemBits, paired_difference, wilson_share
from benchmarks.suite import Suite
from engine.baselines import best_by_method, planned_evaluations, tune_all, tuned_ranges
from engine.bench import Bench
from engine.config import CampaignConfig
from engine.errors import ConfigError, HostError, RunError
from engine.finale import finalists
from engine.hashing import derived_seed, problems_hash
from engine.ranking import scored_best_first
from engine.records import Candidate, Program, Trial
from engine.rundir import input_hashes
from engine.store import Store
from engine.study.plan import Study
from engine.study.runner import HELD_OUT_FILE, PlannedRun, check_inputs, stores
from engine.suites import describe, open_splits, problems_of, weights_of
from merges import library
from sandbox import ExecutionResult

FILES = {"study": HELD_OUT_FILE, "transfer": "transfer.db"}
TUNED_ON = "tuned on"
"""The fact in such a file that says what its trials come from."""
MOST_ORDERS = 5
"""Other orders of the transfer's experts that a program meets."""


@dataclass(frozen=True)
class HeldOut:
    """A score on the held-out problems.

    Attributes:
        name: a program's id, or a human-made merge's name.
        dev: its dev share; None on other experts, where a program is not tuned.
        parameters: hyper-parameters.
        value, low, high: share of right answers with its 95 % interval; None where it failed on other experts than those that it was found on.
        bits: one of '1' and '0' for every problem; empty where it failed.
        fault: how it failed.
    """

    name: str
    dev: float | None
    parameters: Mapping[str, float]
    value: float | None
    low: float | None
    high: float | None
    bits: ItemBits
    fault: str | None = None


@dataclass(frozen=True)
class Arena:
    """One set of experts with the problems, dev and held out.

    Attributes:
        human: the human-made merge that is best on dev, on the held-out problems.
        humans: every one at its best, best on dev first.
        evaluations: dev evaluations spent on them.
        runs: of each run (METHOD-SEED) its best programs, best on dev first.
        by_iteration: of each run the program first on dev of every iteration, of those that scored one; empty for other experts.
        drawn: of each run programs of every iteration that chance drew; empty for other experts, and where the study draws none.
        weights: of the held-out problems.
        reordered: of each run its first program, once for each other order of the experts; empty where the study asks for none.
    """

    human: HeldOut
    humans: Sequence[HeldOut]
    evaluations: int
    runs: Mapping[str, Sequence[HeldOut]]
    by_iteration: Mapping[str, Mapping[int, HeldOut]]
    drawn: Mapping[str, Mapping[int, Sequence[HeldOut]]]
    weights: Sequence[float]
    reordered: Mapping[str, Sequence[HeldOut]] = field(default_factory=dict)


def meet(
    study: Study, runs: Sequence[PlannedRun], out: Path, *, experts: Sequence[str] | None, told: Callable[[str], None]
) -> Arena:
    """Tune the human-made merges, then score everything on the held-out problems; what was asked in an earlier process is not asked again.

    Args:
        experts: None: the study's own, and the `top` programs of each run; others: the transfer, and the first program of each run alone.
        told: of the work that begins.

    Raises:
        RunError: the runs are of other models or problems than there are now; what was tuned earlier was tuned on something else.
    """
    config = _config(study, experts)
    top = study.study.top if experts is None else 1
    file = out / FILES["study" if experts is None else "transfer"]
    with Bench(config) as bench, closing(Store(f"sqlite:///{file}", create=True)) as store:
        if experts is None:
            check_inputs(runs, {**input_hashes(bench), "dev": problems_hash(problems_of(bench.dev))})
        told(f"tuning human-made merges, {planned_evaluations(config.baselines, len(bench.experts))} dev evaluations")
        tune_in(store, bench, file)
        suite = open_splits(config, study.study.held_out)
        if "test" in study.study.held_out:
            bench.test.open_for_study()
        tuned = best_by_method(store.trials())
        told(f"{len(tuned)} human-made merges on {len(suite)} held-out problems")
        humans = [met_trial(bench, one.trial, suite) for one in tuned]
        met: dict[str, list[HeldOut]] = {}
        by_iteration: dict[str, dict[int, HeldOut]] = {}
        chance: dict[str, dict[int, list[HeldOut]]] = {}
        for run, archive in stores(list(runs)):
            told(f"{run.name}: its best {top}")
            best = finalists(archive, top)
            if experts is None:
                met[run.name] = [_met_program(bench, c, suite, run) for c in best]
                firsts = first_by_iteration(archive.candidates())
                by_iteration[run.name] = {i: _met_program(bench, c, suite, run) for i, c in firsts.items()}
                few = drawn(archive.candidates(), study.study.drawn, run.seed)
                chance[run.name] = {i: [_met_program(bench, c, suite, run) for c in cs] for i, cs in few.items()}
            else:
                met[run.name] = [transferred(bench, c.program, suite, run_seed=run.seed) for c in best]
        spent = sum(one.evaluations for one in tuned)
        arena = Arena(humans[0], humans, spent, met, by_iteration, chance, weights_of(describe(suite)))
    if experts is None or study.transfer is None or not study.transfer.orders:
        return arena
    return replace(arena, reordered=_reordered(study, runs, file, experts, told))


def _reordered(
    study: Study, runs: Sequence[PlannedRun], file: Path, experts: Sequence[str], told: Callable[[str], None]
) -> dict[str, list[HeldOut]]:
    """The first program of every run on the experts in other orders."""
    met: dict[str, list[HeldOut]] = {run.name: [] for run in runs}
    for order in other_orders(experts):
        told(f"the first of each run on {', '.join(order)}")
        config = _config(study, order)
        with Bench(config) as bench, closing(Store(f"sqlite:///{file}")) as store:
            bench.keep_verdicts_in(store)
            suite = open_splits(config, study.study.held_out)
            for run, archive in stores(list(runs)):
                met[run.name] += [
                    transferred(bench, c.program, suite, run_seed=run.seed) for c in finalists(archive, 1)
                ]
    return met


def other_orders(experts: Sequence[str]) -> list[tuple[str, ...]]:
    """All orders of the experts but the one that they are given in; of more than MOST_ORDERS so many, always the same."""
    others = list(itertools.permutations(experts))[1:]
    return random.Random(derived_seed("orders")).sample(others, min(MOST_ORDERS, len(others)))


def tune_in(store: Store, bench: Bench, file: Path) -> None:
    """Tune the human-made merges in a file of their own, which keeps what was asked from now on; what is in it already counts, if it was tuned on the same.

    Args:
        store: open on `file`.

    Raises:
        RunError: it was tuned on other models, problems or ranges, or does not say on which.
    """
    ground, before = tuned_on(bench), store.meta(TUNED_ON)
    if not store.trials():
        store.set_meta(TUNED_ON, ground)
    elif before is None:
        raise RunError(
            f"'{file}': expected a word of what its human-made merges were tuned on, got none: an earlier version wrote it; remove the file, and they are tuned again"
        )
    elif other := next((name for name in ground if before.get(name) != ground[name]), None):
        raise RunError(
            f"'{file}': expected human-made merges that were tuned with the same {other} as now, got others; restore what it was, or remove the file, and they are tuned again"
        )
    bench.keep_verdicts_in(store)
    tune_all(bench, store, lambda _: None)


def tuned_on(bench: Bench) -> dict[str, Any]:
    """Everything that the scores of human-made merges come from, by name: models and problems by hash, the rest as configured."""
    config, inputs = bench.config, input_hashes(bench)
    ground = {
        "base": inputs["base"],
        "experts": list(inputs["experts"].items()),  # their order counts
        "dev problems": problems_hash(problems_of(bench.dev)),
        "scorer": bench.dev.scorer_version,
        "evaluator": bench.evaluator.engine,
        "models": config.models.model_dump(exclude={"base", "experts"}),
        "benchmark": config.benchmark.model_dump(),
        "baselines": config.baselines.model_dump(),
        "seed": config.campaign.seed,
    }
    found: dict[str, Any] = json.loads(json.dumps(ground))  # as the archive gives it back
    return found


def first_by_iteration(candidates: Sequence[Candidate]) -> dict[int, Candidate]:
    """The program first on dev of every iteration that scored one."""
    ranked = scored_best_first(candidates)
    return {i: next(c for c in ranked if c.iteration == i) for i in sorted({c.iteration for c in ranked})}


def drawn(candidates: Sequence[Candidate], count: int, seed: int) -> dict[int, list[Candidate]]:
    """Of every iteration `count` of its scored programs, or all; the same ones wherever a seed's programs are the same."""
    scored = sorted((c for c in candidates if c.score is not None), key=lambda c: c.number)
    by_iteration = {i: [c for c in scored if c.iteration == i] for i in sorted({c.iteration for c in scored})}
    return {
        i: random.Random(derived_seed("drawn", seed, i)).sample(ones, min(count, len(ones)))
        for i, ones in by_iteration.items()
        if count
    }


def _config(study: Study, experts: Sequence[str] | None) -> CampaignConfig:
    """The campaign that all methods share, with as many evaluations for human-made merges as a run has programs."""
    config = study.shared()
    if experts is not None:
        config = config.model_copy(update={"models": config.models.model_copy(update={"experts": tuple(experts)})})
    if not config.baselines.names:
        raise ConfigError(
            "study.set: expected human-made merges to compare with, got baselines.names empty; leave that to the study"
        )
    budget, experts_count = config.campaign.iterations * config.campaign.programs, len(config.models.experts)
    parameters = sum(len(tuned_ranges(name, experts_count)) for name in config.baselines.names)
    untuned = sum(not tuned_ranges(name, experts_count) for name in config.baselines.names)  # one evaluation each
    evaluations = max(1, round((budget - untuned) / parameters)) if parameters else 1
    return config.model_copy(update={"baselines": config.baselines.model_copy(update={"evaluations": evaluations})})


def met_trial(bench: Bench, trial: Trial, suite: Suite) -> HeldOut:
    """A human-made merge as it was tuned, on held-out problems."""
    return _met(bench, trial.name, library.source(trial.name), trial.score.value, suite, parameters=trial.parameters)


def _met_program(bench: Bench, candidate: Candidate, suite: Suite, run: PlannedRun) -> HeldOut:
    program = candidate.program
    return _met(bench, program.id, program.source, candidate.score, suite, run_seed=run.seed)


def transferred(bench: Bench, program: Program, suite: Suite, *, run_seed: int) -> HeldOut:
    """A program on experts that it never ran on: that it fails there is a finding."""
    result = bench.merge(program.source, run_seed=run_seed)
    if result.outputs is None:
        return HeldOut(program.id, None, {}, None, None, None, "", f"{result.reason}: {result.detail}")
    return _scored(bench, program.id, None, {}, result, suite)


def _met(
    bench: Bench,
    name: str,
    source: str,
    dev: float | None,
    suite: Suite,
    *,
    run_seed: int | None = None,
    parameters: Mapping[str, float] | None = None,
) -> HeldOut:
    result = bench.merge(source, parameters, run_seed=run_seed)
    if result.outputs is None:
        raise HostError(
            f"held-out problems: program {name} ran in the search and fails now ({result.reason}: {result.detail}); give the same command again"
        )
    return _scored(bench, name, dev, dict(parameters or {}), result, suite)


def _scored(
    bench: Bench, name: str, dev: float | None, parameters: Mapping[str, float], result: ExecutionResult, suite: Suite
) -> HeldOut:
    score = bench.score_merge(result, suite=suite).score
    interval = wilson_share(score.value, score.effective_n)
    return HeldOut(name, dev, parameters, score.value, interval.low, interval.high, score.bits)


def difference(one: HeldOut, other: HeldOut, weights: Sequence[float], seed: int) -> dict[str, Any] | None:
    """Paired by problem: the first less the second, its 95 % interval (bootstrap), p (exact McNemar); None where one failed."""
    if not (one.bits and other.bits):
        return None
    found = paired_difference(one.bits, other.bits, np.random.default_rng(seed), weights=weights)
    return {
        "difference": found.interval.estimate,
        "interval": [found.interval.low, found.interval.high],
        "p": found.p_value,
    }
