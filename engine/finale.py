"""The final: the only place where test problems are touched, once for every subject.

The headline is decided before it: the program ranked first on dev against the human-made merge ranked first on dev. The others are
shown with simultaneous intervals, since the best of fourteen on test would be a winner by luck.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.statistics import Interval, PairedDifference, paired_difference, simultaneous_intervals, wilson_share
from engine.baselines import best_by_method
from engine.bench import Bench
from engine.errors import HostError
from engine.pipeline import ahead
from engine.ranking import scored_best_first
from engine.records import Candidate, Final
from engine.store import Store
from merges import library
from sandbox import ExecutionResult

LEVEL = 0.95
RESAMPLES = 40_000  # of the bootstrap: at a fifteenth of 5 % a tail must still hold some sixty of them


@dataclass(frozen=True)
class Row:
    """One line of the final table: a Final, its test interval, and its paired difference to the best human-made merge.

    Attributes:
        final: the subject and its scores.
        interval: of the test share.
        simultaneous: whether interval and difference hold together with those of the other discovered programs not first on dev.
        against_human: test difference to the human-made merge first on dev, paired by problem; None for that merge itself. Its
            p-value is multiplied by their number where it is simultaneous (Bonferroni).
    """

    final: Final
    interval: Interval
    simultaneous: bool
    against_human: PairedDifference | None


def run_final(bench: Bench, store: Store, on_final: Callable[[Final], None]) -> None:
    """Score seed, experts, tuned human-made merges and the dev-best programs on test; each once, resumable in between."""
    done = {(f.kind, f.name) for f in store.finals()}
    subjects = _subjects(bench, store)
    if all((kind, name) in done for kind, name, *_ in subjects):
        return
    suite = bench.test.open(store)
    waiting = [subject for subject in subjects if (subject[0], subject[1]) not in done]
    with closing(ahead(_merged(bench, waiting), by=1, name="sandbox")) as merged:
        for (kind, name, rank, dev, parameters, _), result in bench.stages.waiting(merged):
            if result is None:
                scored = bench.score_model(None if kind == "seed" else name, suite=suite)
            else:
                scored = bench.score_merge(result, suite=suite)
            if kind == "discovered" and result is not None:
                store.add_effects(name, bench.effects(result))
            final = Final(name, kind, rank, dev, parameters, scored.score)
            store.add_final(final)
            on_final(final)


Subject = tuple[str, str, int, float, Mapping[str, float], str | None]
"""kind, name, rank on dev within its kind, dev share, hyper-parameters, source (None: a model as it is)"""


def _merged(bench: Bench, subjects: Sequence[Subject]) -> Iterator[tuple[Subject, ExecutionResult | None]]:
    """Each subject with its merge, which the sandbox makes while the one before is scored; None for a model as it is."""
    for subject in subjects:
        _, name, _, _, parameters, source = subject
        result = None if source is None else bench.merge(source, parameters)
        if result is not None and result.outputs is None:
            # it ran on dev with the same tensors and seeds: something outside it changed
            raise HostError(
                f"final: program {name} ran in the search and fails now ({result.reason}: {result.detail}); resume to try again"
            )
        yield subject, result


def _subjects(bench: Bench, store: Store) -> list[Subject]:
    trials = store.trials()
    subjects: list[Subject] = []
    for kind in ("seed", "expert"):
        same = [t for t in trials if t.kind == kind]
        ranks = {t.name: rank for rank, t in enumerate(sorted(same, key=lambda t: -t.score.value), start=1)}
        subjects += [(kind, t.name.removeprefix("expert:"), ranks[t.name], t.score.value, {}, None) for t in same]
    for rank, tuned in enumerate(best_by_method(trials), start=1):
        trial = tuned.trial
        subjects.append(("human", trial.name, rank, trial.score.value, trial.parameters, library.source(trial.name)))
    for rank, candidate in enumerate(finalists(store, bench.config.campaign.finalists), start=1):
        subjects.append(
            ("discovered", candidate.program.id, rank, candidate.score or 0.0, {}, candidate.program.source)
        )
    return subjects


def finalists(store: Store, count: int) -> list[Candidate]:
    """The `count` best new programs by dev score; of equals the earlier one. Who was stopped in a race comes after all who were not."""
    return scored_best_first(store.candidates())[:count]


def final_table(finals: tuple[Final, ...], *, seed: int, weights: Sequence[float] | None = None) -> list[Row]:
    """The rows of the final, in the order seed, experts, human-made by dev rank, discovered by dev rank.

    Args:
        seed: of the bootstrap.
        weights: of the test problems, where they do not count alike.
    """
    human = next((f for f in finals if f.kind == "human" and f.rank == 1), None)
    others = [f for f in finals if f.kind == "discovered" and f.rank > 1]
    joint = (
        simultaneous_intervals([f.score.value for f in others], others[0].score.effective_n, LEVEL) if others else []
    )
    simultaneous = {f.name: interval for f, interval in zip(others, joint, strict=True)}
    rows = []
    for final in finals:
        special = simultaneous.get(final.name) if final.kind == "discovered" else None
        against = None
        if human and final is not human:
            against = _against(final, human, seed, len(others) if special else 1, weights)
        interval = special or wilson_share(final.score.value, final.score.effective_n, LEVEL)
        rows.append(Row(final, interval, special is not None, against))
    return rows


def _against(final: Final, human: Final, seed: int, together: int, weights: Sequence[float] | None) -> PairedDifference:
    """The paired difference, at a level and with a p-value that hold for `together` comparisons at once."""
    level = 1 - (1 - LEVEL) / together
    rng = np.random.default_rng(seed)
    plain = paired_difference(
        final.score.bits, human.score.bits, rng, weights=weights, level=level, resamples=RESAMPLES
    )
    interval = replace(plain.interval, level=LEVEL)
    return replace(plain, interval=interval, p_value=min(1.0, together * plain.p_value))
