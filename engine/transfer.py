"""Programs on experts that they were not found on, beside human-made merges tuned there: what a discovery is worth elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from engine.baselines import best_by_method, planned_evaluations
from engine.bench import Bench
from engine.config import CampaignConfig
from engine.errors import ConfigError
from engine.hashing import problems_hash
from engine.records import Program
from engine.rundir import input_hashes
from engine.store import Store
from engine.study.held_out import HeldOut, difference, met_trial, transferred, tune_in
from engine.suites import describe, open_splits, problems_of, weights_of


@dataclass(frozen=True)
class Transfer:
    """What a program got on other experts, as it is.

    Attributes:
        base, experts: hashes of the weights; experts by name, in their order.
        splits, problems: which held-out problems, and their hash.
        met: the program's score, or how it failed.
        humans: human-made merges, each at its best on the dev problems there, best first.
        evaluations: dev evaluations that these had.
        against: the program less the first of them, paired by problem; None where it failed.
    """

    base: str
    experts: Mapping[str, str]
    splits: tuple[str, ...]
    problems: str
    met: HeldOut
    humans: Sequence[HeldOut]
    evaluations: int
    against: Mapping[str, Any] | None


def measure(
    config: CampaignConfig,
    programs: Sequence[Program],
    experts: Sequence[str],
    splits: Sequence[str],
    folder: Path,
    told: Callable[[str], None] = lambda _: None,
) -> list[Transfer]:
    """Tune the human-made merges of a campaign on the dev problems for other experts, then score them and the programs on held-out problems.

    Args:
        config: of the campaign that found the programs: its seed, base, dev problems and dev evaluations are used.
        splits: "test", or of the pocket benchmark fresh:SEED, or several of these, together.
        folder: what was asked is kept here, and not asked again.
        told: of the work that begins.

    Raises:
        ConfigError: the campaign has no human-made merges.
        RunError: what was asked earlier was tuned on something else.
        UserError, BenchmarkUserError, MergeUserError: experts or problems that cannot be used.
    """
    if not config.baselines.names:
        raise ConfigError("baselines.names: expected human-made merges to compare a transfer with, got none; name some")
    config = config.model_copy(update={"models": config.models.model_copy(update={"experts": tuple(experts)})})
    suite = open_splits(config, splits)
    key = blake3(repr((config.models, config.benchmark, config.campaign.seed)).encode()).hexdigest()[:12]
    file = folder / f"transfer-{key}.db"
    with Bench(config) as bench, closing(Store(f"sqlite:///{file}", create=True)) as store:
        planned = planned_evaluations(config.baselines, len(bench.experts))
        told(f"tuning human-made merges on {', '.join(bench.experts)}, {planned} dev evaluations")
        tune_in(store, bench, file)
        if "test" in splits:
            bench.test.open_for_study()
        tuned = best_by_method(store.trials())
        told(
            f"{len(tuned)} human-made merges and {len(programs)} programs on {len(suite)} problems ({', '.join(splits)})"
        )
        humans = [met_trial(bench, one.trial, suite) for one in tuned]
        inputs, weights = input_hashes(bench), weights_of(describe(suite))
        seed = config.campaign.seed
        return [
            Transfer(
                base=inputs["base"],
                experts=inputs["experts"],
                splits=tuple(splits),
                problems=problems_hash(problems_of(suite)),
                met=met,
                humans=humans,
                evaluations=sum(one.evaluations for one in tuned),
                against=difference(met, humans[0], weights, seed),
            )
            for met in (transferred(bench, program, suite, run_seed=seed) for program in programs)
        ]
