"""Every number of a study, as plain values: written once as JSON, read by the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from engine import rundir
from engine.config import ExploreSection
from engine.exploring import growth
from engine.hashing import derived_seed
from engine.judging.judge import agreement
from engine.records import Candidate
from engine.study.held_out import Arena, HeldOut, difference, meet
from engine.study.measures import best_so_far, by_iteration, scores_of
from engine.study.over_seeds import ByProblem, Value, over_seeds, paired
from engine.study.plan import Study
from engine.study.runner import PlannedRun, added_late, made_by, stores

MEASURES = ("median", "top_decile", "best", "valid", "distinct")
HELD = "held-out, first on dev"
HELD_TOP = "held-out, mean of the best"
TRANSFERRED = "transfer, first on dev"
REORDERED = "transfer, first on dev, in other orders"


def collect(study: Study, runs: Sequence[PlannedRun], out: Path, *, told: Callable[[str], None]) -> dict[str, Any]:
    """Everything that may be said of finished runs; touches the held-out problems."""
    searched = {run.name: _searched(run, archive) for run, archive in stores(list(runs))}
    own = meet(study, runs, out, experts=None, told=told)
    other = meet(study, runs, out, experts=study.transfer.experts, told=told) if study.transfer else None
    late = added_late(study, out)
    results: dict[str, Any] = {
        "study": study.model_dump(mode="json"),
        "added_late": late,
        "made_by": made_by(runs),
        "runs": searched,
        "held_out": _arena(own),
        "transfer": _arena(other) if other else None,
        "methods": {name: _method(study, name, searched, own, other) for name in study.methods},
        "plain": {name: _plain(study, name, searched) for name in study.methods},
    }
    results["comparisons"] = [
        _comparison(study, c.better, c.than, searched, own, other)
        | {"added_late": any(part in late for part in study.rests_on(c))}
        for c in study.compare
    ]
    return results


def _searched(run: PlannedRun, archive: Any) -> dict[str, Any]:
    candidates = archive.candidates()
    judged = {
        i: asdict(agreement([c for c in candidates if c.iteration == i]))
        for i in sorted({c.iteration for c in candidates if c.program.judged is not None})
    }
    return {
        "method": run.method,
        "seed": run.seed,
        "iterations": {str(i): asdict(m) for i, m in by_iteration(candidates).items()},
        "scores": {
            str(i): scores_of([c for c in candidates if c.iteration == i])
            for i in sorted({c.iteration for c in candidates})
        },
        "best_so_far": best_so_far(candidates),
        "updates": {str(i): _short(update) for i, update in archive.updates().items()},
        "judged": {str(i): one for i, one in judged.items()},
        "map": _mapped(rundir.read_config(run.folder).explore, candidates),
        "seconds": round(sum(seconds for _, _, seconds, _ in archive.phases()), 1),
    }


def _mapped(section: ExploreSection, candidates: Sequence[Candidate]) -> dict[str, dict[str, float]]:
    """How much of the map is held after each iteration, and its QD score over all its cells, whatever the run explored by; both 0..1. Empty without descriptors."""
    if not any(c.assessment.descriptors for c in candidates):
        return {}
    grown = growth(section, candidates)
    return {
        str(i): {"cells held": one.coverage, "QD score a cell": one.qd_score / one.cells} for i, one in grown.items()
    }


def _short(update: Mapping[str, Any]) -> dict[str, Any]:
    """An update without the lists of what was learnt from."""
    return {
        name: value
        for name, value in update.items()
        if name not in ("pairs", "kept", "held_out", "desirable", "undesirable")
    }


def _arena(arena: Arena) -> dict[str, Any]:
    return {
        "human": _shown(arena.human),
        "humans": [_shown(one) for one in arena.humans],
        "evaluations": arena.evaluations,
        "problems": len(arena.weights),
        "runs": {
            name: [
                _shown(one)
                | {"against_human": difference(one, arena.human, arena.weights, derived_seed("study", name))}
                for one in programs[:1]
            ]
            + [_shown(one) for one in programs[1:]]
            for name, programs in arena.runs.items()
        },
        "by_iteration": {
            name: {str(i): _shown(one) for i, one in firsts.items()} for name, firsts in arena.by_iteration.items()
        },
        "drawn": {
            name: {str(i): [_shown(one) for one in ones] for i, ones in drawn.items()}
            for name, drawn in arena.drawn.items()
        },
        "reordered": {name: [_shown(one) for one in ones] for name, ones in arena.reordered.items()},
    }


def _shown(one: HeldOut) -> dict[str, Any]:
    return {name: value for name, value in asdict(one).items() if name != "bits"}


def _values(
    study: Study, method: str, searched: Mapping[str, Any], own: Arena, other: Arena | None
) -> dict[str, dict[int, Value | None]]:
    """What of a method is compared, by name and seed; what was measured on held-out problems by problem.

    None of a seed whose run has no such value: nothing of it worked, its program broke on the other experts, or a judge had nothing to order. What such a run does have is its share of
    valid programs, 0 where none works.
    """
    values: dict[str, dict[int, Value | None]] = {}

    def note(name: str, seed: int, value: Value | None) -> None:
        values.setdefault(name, dict.fromkeys(study.seeds_of(method)))[seed] = value

    for seed in study.seeds_of(method):
        name = f"{method}-{seed}"
        for iteration, measured in searched[name]["iterations"].items():
            for measure in MEASURES:
                note(f"{measure}, iteration {iteration}", seed, measured[measure])
        note("best of the run", seed, searched[name]["best_so_far"][-1])
        for iteration, agreed in searched[name]["judged"].items():
            note(f"judge: pairs ordered rightly, iteration {iteration}", seed, agreed["pairwise"])
        for iteration, mapped in searched[name]["map"].items():
            for what, share in mapped.items():
                note(f"map: {what}, iteration {iteration}", seed, share)
        for iteration in map(int, searched[name]["iterations"]):
            drawn, first = own.drawn[name].get(iteration, ()), own.by_iteration[name].get(iteration)
            if study.study.drawn:
                note(f"held-out, mean of {study.study.drawn} drawn of iteration {iteration}", seed, _right(*drawn))
            note(f"held-out, first on dev of iteration {iteration}", seed, _right(first) if first else None)
            gap = None if first is None or first.dev is None else first.dev - _answers(first)
            note(f"dev − held-out, first on dev of iteration {iteration}", seed, gap)
        note(HELD, seed, _right(*own.runs[name][:1]))
        note(HELD_TOP, seed, _right(*own.runs[name]))
        note(f"{HELD}, above {own.human.name}", seed, _above_human(own, name))
        if other is not None:
            note(TRANSFERRED, seed, _right(*other.runs[name][:1]))
            note(f"{TRANSFERRED}, above {other.human.name}", seed, _above_human(other, name))
            if other.reordered:
                every = _in_every(other.reordered[name])
                note(REORDERED, seed, every)
                above = None if every is None else every - _answers(other.human)
                note(f"{REORDERED}, above {other.human.name}", seed, above)
    return values


def _answers(one: HeldOut) -> ByProblem:
    """1 for every held-out problem that it got right, else 0."""
    return np.array([bit == "1" for bit in one.bits], dtype=np.float64)


def _right(*programs: HeldOut) -> ByProblem | None:
    """Of every held-out problem the share of programs that got it right, of those that ran; None where none did."""
    ran = [_answers(one) for one in programs if one.bits]
    return np.stack(ran).mean(axis=0) if ran else None


def _in_every(orders: Sequence[HeldOut]) -> ByProblem | None:
    """Of every problem the share of orders in which a program got it right; None where it failed in one, or there is no program."""
    return _right(*orders) if all(one.bits for one in orders) else None


def _above_human(arena: Arena, run: str) -> ByProblem | None:
    """What the first program of a run got right, less what the best human-made merge did."""
    first = _right(*arena.runs[run][:1])
    return None if first is None else first - _answers(arena.human)


def _plain(study: Study, method: str, searched: Mapping[str, Any]) -> dict[str, Any]:
    """What of a method is no share: mean over seeds, by name."""
    values: dict[str, dict[int, float | None]] = {}

    def note(name: str, seed: int, value: float | None) -> None:
        values.setdefault(name, dict.fromkeys(study.seeds_of(method)))[seed] = value

    for seed in study.seeds_of(method):
        run = searched[f"{method}-{seed}"]
        for iteration, measured in run["iterations"].items():
            note(f"characters of a program, iteration {iteration}", seed, measured["characters"])
        for iteration, agreed in run["judged"].items():
            note(f"judge: rank correlation, iteration {iteration}", seed, agreed["spearman"])
    return {name: asdict(over_seeds(list(by_seed.values()))) for name, by_seed in values.items()}


def _method(study: Study, method: str, searched: Mapping[str, Any], own: Arena, other: Arena | None) -> dict[str, Any]:
    values = _values(study, method, searched, own, other)
    return {name: asdict(over_seeds(list(by_seed.values()), own.weights)) for name, by_seed in values.items()}


def _comparison(
    study: Study, better: str, than: str, searched: Mapping[str, Any], own: Arena, other: Arena | None
) -> dict[str, Any]:
    first, second = (_values(study, method, searched, own, other) for method in (better, than))
    found = {name: paired(first[name], second[name], own.weights) for name in first if name in second}
    return {
        "better": better,
        "than": than,
        "differences": {
            name: {**asdict(one.difference), "p": one.p, "seeds": list(one.seeds), "holds": one.difference.holds}
            for name, one in found.items()
        },
    }
