"""The held-out problems of a study, met when every run is finished: the best programs on dev, what they are compared with, and the transfer.

Which program stands for a run is decided on dev alone. Human-made merges are tuned on dev once, with as many evaluations as a run has programs, for the
experts of the study and again for those of the transfer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.statistics import ItemBits, paired_difference, wilson_share
from benchmarks.suite import Suite
from engine.baselines import best_by_method, planned_evaluations, tune_all
from engine.bench import Bench
from engine.config import CampaignConfig
from engine.errors import ConfigError, HostError
from engine.finale import finalists
from engine.records import Trial
from engine.store import Store
from engine.study.plan import Study
from engine.study.runner import PlannedRun, stores
from engine.suites import describe, open_splits, weights_of
from merges import library

FILES = {"study": "held_out.db", "transfer": "transfer.db"}


@dataclass(frozen=True)
class HeldOut:
    """A score on the held-out problems.

    Attributes:
        name: a program's id, or a human-made merge's name.
        dev: its dev share; None on other experts, where a program is not tuned.
        parameters: hyper-parameters.
        value, low, high: share of right answers with its 95 % interval.
        bits: one of '1' and '0' for every problem.
    """

    name: str
    dev: float | None
    parameters: Mapping[str, float]
    value: float
    low: float
    high: float
    bits: ItemBits


@dataclass(frozen=True)
class Arena:
    """One set of experts with the problems, dev and held out.

    Attributes:
        human: the human-made merge that is best on dev, on the held-out problems.
        humans: every one at its best, best on dev first.
        evaluations: dev evaluations spent on them.
        runs: of each run (METHOD-SEED) its best programs, best on dev first.
        weights: of the held-out problems.
    """

    human: HeldOut
    humans: Sequence[HeldOut]
    evaluations: int
    runs: Mapping[str, Sequence[HeldOut]]
    weights: Sequence[float]


def meet(
    study: Study, runs: Sequence[PlannedRun], out: Path, *, experts: Sequence[str] | None, told: Callable[[str], None]
) -> Arena:
    """Tune the human-made merges, then score everything on the held-out problems; what was asked in an earlier process is not asked again.

    Args:
        experts: None: the study's own, and the `top` programs of each run; others: the transfer, and the first program of each run alone.
        told: of the work that begins.
    """
    config = _config(study, experts)
    top = study.study.top if experts is None else 1
    file = out / FILES["study" if experts is None else "transfer"]
    with Bench(config) as bench, closing(Store(f"sqlite:///{file}", create=True)) as store:
        bench.keep_verdicts_in(store)
        told(f"tuning human-made merges, {planned_evaluations(config.baselines, len(bench.experts))} dev evaluations")
        tune_all(bench, store, lambda _: None)
        suite = open_splits(config, study.study.held_out)
        if "test" in study.study.held_out:
            bench.test.open_for_study()
        tuned = best_by_method(store.trials())
        told(f"{len(tuned)} human-made merges on {len(suite)} held-out problems")
        humans = [_met_trial(bench, one.trial, suite) for one in tuned]
        met = {}
        for run, archive in stores(list(runs)):
            told(f"{run.name}: its best {top}")
            met[run.name] = [
                _met(bench, c.program.id, c.program.source, c.score if experts is None else None, suite, run.seed)
                for c in finalists(archive, top)
            ]
        spent = sum(one.evaluations for one in tuned)
        return Arena(humans[0], humans, spent, met, weights_of(describe(suite)))


def _config(study: Study, experts: Sequence[str] | None) -> CampaignConfig:
    """The campaign that all methods share, with as many evaluations for human-made merges as a run has programs."""
    config = study.shared()
    if experts is not None:
        config = config.model_copy(update={"models": config.models.model_copy(update={"experts": tuple(experts)})})
    if not config.baselines.names:
        raise ConfigError(
            "study.set: expected human-made merges to compare with, got baselines.names empty; leave that to the study"
        )
    one = config.baselines.model_copy(update={"evaluations": 1})
    per_parameter = (
        config.campaign.iterations * config.campaign.programs / planned_evaluations(one, len(config.models.experts))
    )
    evaluations = max(1, round(per_parameter))
    return config.model_copy(update={"baselines": config.baselines.model_copy(update={"evaluations": evaluations})})


def _met_trial(bench: Bench, trial: Trial, suite: Suite) -> HeldOut:
    source = library.source(trial.name)
    return _met(bench, trial.name, source, trial.score.value, suite, None, trial.parameters)


def _met(
    bench: Bench,
    name: str,
    source: str,
    dev: float | None,
    suite: Suite,
    run_seed: int | None,
    parameters: Mapping[str, float] | None = None,
) -> HeldOut:
    result = bench.merge(source, parameters, run_seed=run_seed)
    if result.outputs is None:
        raise HostError(
            f"held-out problems: program {name} ran in the search and fails now ({result.reason}: {result.detail}); give the same command again"
        )
    score = bench.score_merge(result, suite=suite).score
    interval = wilson_share(score.value, score.effective_n)
    return HeldOut(name, dev, dict(parameters or {}), score.value, interval.low, interval.high, score.bits)


def difference(one: HeldOut, other: HeldOut, weights: Sequence[float], seed: int) -> dict[str, Any]:
    """Paired by problem: the first less the second, its 95 % interval (bootstrap), p (exact McNemar)."""
    found = paired_difference(one.bits, other.bits, np.random.default_rng(seed), weights=weights)
    return {
        "difference": found.interval.estimate,
        "interval": [found.interval.low, found.interval.high],
        "p": found.p_value,
    }
