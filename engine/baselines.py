"""Human-made merges, tuned on dev: what a discovery has to beat.

Each method of the library gets `evaluations` dev scores for every hyper-parameter that is tuned: half spread evenly over its range
(a grid for one hyper-parameter, a Sobol sequence for several), half in shrinking steps around the best so far. Every evaluation is a
trial in the archive, so a resumed run repeats none, and the number spent is known.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from engine.bench import Bench
from engine.config import BaselinesSection
from engine.errors import HostError
from engine.records import Trial
from engine.store import Store, trial_key
from merges import library

Ranges = Mapping[str, tuple[float, float]]
Parameters = dict[str, float]

SCALE = (0.1, 1.5)  # of a sum of task vectors; beyond it every model of the literature has collapsed
DENSITY = (0.1, 1.0)
TUNED: Mapping[str, Ranges] = {
    "task_arithmetic": {"scale": SCALE},
    "ties": {"scale": SCALE, "density": DENSITY},
    "dare_linear": {"scale": SCALE, "density": DENSITY},
    "dare_ties": {"scale": SCALE, "density": DENSITY},
    "breadcrumbs": {"scale": SCALE, "density": DENSITY},
    "model_stock": {},
    "slerp": {"t": (0.0, 1.0)},
    "nuslerp": {"w1": (0.05, 3.0)},
}
PER_EXPERT = {"linear": (0.05, 2.0), "weighted_task_arithmetic": (0.0, 1.2)}
"""Methods with one weight per expert (`w0`, `w1`, …): as many hyper-parameters as there are experts."""

LEAST_STEP = 0.005  # of a hyper-parameter's range
DECIMALS = 3  # hyper-parameters are rounded, so that a table can state them exactly


@dataclass(frozen=True)
class Tuned:
    """A human-made merge at its best on dev: the trial, and how many dev evaluations were spent on it."""

    trial: Trial
    evaluations: int


def tuned_ranges(name: str, experts: int) -> Ranges:
    """Ranges of the hyper-parameters that are tuned for `name`; empty where there are none."""
    if name in PER_EXPERT:
        return {f"w{i}": PER_EXPERT[name] for i in range(experts)}
    return TUNED.get(name, {})


def budget_of(name: str, experts: int, evaluations: int) -> int:
    """Dev evaluations of one method: `evaluations` for every tuned hyper-parameter; 1 where it has none."""
    ranges = tuned_ranges(name, experts)
    return evaluations * len(ranges) if ranges else 1


def planned_evaluations(section: BaselinesSection, experts: int) -> int:
    """Dev evaluations of all configured methods together."""
    return sum(budget_of(name, experts, section.evaluations) for name in section.names)


def tune_all(bench: Bench, store: Store, on_trial: Callable[[Trial], None]) -> None:
    """Score the seed, every expert, and tune every configured human-made merge; trials already stored are not repeated."""
    stored = {trial_key(t.name, t.parameters): t for t in store.trials()}

    def remember(trial: Trial) -> Trial:
        store.add_trial(trial)
        stored[trial_key(trial.name, trial.parameters)] = trial
        on_trial(trial)
        return trial

    for name in (None, *bench.experts):
        label, kind = ("seed", "seed") if name is None else (f"expert:{name}", "expert")
        if trial_key(label, {}) not in stored:
            remember(Trial(label, kind, {}, bench.score_model(name).score))
    for name in bench.config.baselines.names:
        ranges = tuned_ranges(name, len(bench.experts))
        budget = budget_of(name, len(bench.experts), bench.config.baselines.evaluations)

        def score(parameters: Parameters, name: str = name) -> float:
            found = stored.get(trial_key(name, parameters))
            return (found or remember(_try(bench, name, parameters))).score.value

        tune(score, ranges, budget, seed=bench.config.campaign.seed)


def tune(score: Callable[[Parameters], float], ranges: Ranges, budget: int, *, seed: int) -> tuple[Parameters, float]:
    """Maximise `score` within `budget` evaluations; deterministic for a seed. Of equal scores the first wins."""
    best: tuple[Parameters, float] | None = None
    rng, tried = random.Random(seed), list[Parameters]()
    spread = list(_spread(ranges, max(1, (budget + 1) // 2), seed))
    for index in range(budget):
        if index < len(spread):
            parameters = spread[index]
        else:
            assert best is not None
            step = max(LEAST_STEP, 0.25 * 0.8 ** (index - len(spread)))
            parameters = _new_near(best[0], ranges, step, rng, tried)
        tried.append(parameters)
        value = score(parameters)
        if best is None or value > best[1]:
            best = (parameters, value)
    assert best is not None
    return best


def _new_near(
    best: Parameters, ranges: Ranges, step: float, rng: random.Random, tried: Sequence[Parameters]
) -> Parameters:
    """A point near the best that was not tried yet, from ever further away; a point tried before where everything was."""
    while True:
        parameters = {
            k: _rounded(_clip(best[k] + rng.gauss(0.0, step) * (high - low), low, high))
            for k, (low, high) in ranges.items()
        }
        if parameters not in tried or step > 1:
            return parameters
        step *= 1.1


def _spread(ranges: Ranges, count: int, seed: int) -> Iterator[Parameters]:
    if len(ranges) == 1:
        (name, (low, high)), *_ = ranges.items()
        for i in range(count):
            yield {name: _rounded(low + (high - low) * (i + 0.5) / count)}
        return
    if not ranges:
        yield {}
        return
    points = torch.quasirandom.SobolEngine(len(ranges), scramble=True, seed=seed).draw(count).tolist()  # type: ignore[no-untyped-call]
    for point in points:
        yield {
            name: _rounded(low + (high - low) * x) for x, (name, (low, high)) in zip(point, ranges.items(), strict=True)
        }


def _rounded(value: float) -> float:
    return round(value, DECIMALS)


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _try(bench: Bench, name: str, parameters: Parameters) -> Trial:
    with bench.stages.watch("idle", 1):  # what is tried next depends on this score: nothing can be merged ahead
        result = bench.merge(library.source(name), parameters)
    if (
        not result.ok or result.outputs is None
    ):  # our own program on the user's tensors: a host's fault, never a score of zero
        raise HostError(
            f"baseline '{name}': expected a merge, got {result.reason}: {result.detail}; start a new run without it (baselines.names)"
        )
    return Trial(name, "human", parameters, bench.score_merge(result).score)


def best_by_method(trials: tuple[Trial, ...]) -> list[Tuned]:
    """Every human-made merge at its best dev score, best first; of equal scores the one tried first."""
    best: dict[str, Trial] = {}
    spent: dict[str, int] = {}
    for trial in trials:
        if trial.kind == "human":
            spent[trial.name] = spent.get(trial.name, 0) + 1
            if trial.name not in best or trial.score.value > best[trial.name].score.value:
                best[trial.name] = trial
    ranked = sorted(best.values(), key=lambda t: -t.score.value)
    return [Tuned(trial, spent[trial.name]) for trial in ranked]
