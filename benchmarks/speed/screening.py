"""What `explore.screen` saves, and what it loses. `python -m benchmarks.speed.screening RUN...`

Finished runs that scored every working new program are gone through again as if they had screened: from the second iteration on, batch by batch, the triage of the
engine leaves out what programs that do alike foretell to be worst, and what it left out teaches it nothing later. What the run itself learnt, and so wrote, stays as it was.

Prints for each run and share: the merges and scores that are left of the whole run, the rank correlation of foretold and measured scores over all programs of the later
iterations, dev points by which the best program of the run falls, and how many of its ten best are kept; then means over the runs, with those of a draw by lot.
"""

import argparse
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine.agreement import agree
from engine.config import CampaignConfig
from engine.config_file import build_config
from engine.errors import UserError
from engine.known import batch_of
from engine.records import Assessment, Candidate, Outcome
from engine.store import Store
from engine.surrogate import Surrogate
from engine.triage import Triage

SHARES = (0.5, 0.25)
BEST = 10
LOTS = 200


@dataclass(frozen=True)
class Screened:
    """A run as it would have been screened.

    Attributes:
        paid: share of its merges and scores that is left, 0..1.
        spearman: of foretold and measured scores, mean over its later iterations; None: nothing was foretold.
        lost: dev points between its best program and the best of those kept.
        held: how many of its BEST best are kept; a mean may be broken.
    """

    paid: float
    spearman: float | None
    lost: float
    held: float


def screen(candidates: Sequence[Candidate], share: float) -> Screened:
    """Screens a run's candidates, in order.

    Args:
        share: of a batch's working new programs, that is scored; 0..1.
    """
    config = build_config({"explore": {"screen": share}, "campaign": {"programs": len(candidates)}})
    kept: list[Candidate] = []
    ranks = []
    for number in sorted({c.iteration for c in candidates}):
        here = [c for c in candidates if c.iteration == number]
        surrogate = Surrogate(kept)
        if surrogate.ready:
            told = [(surrogate.foretell(d.sketch), c.score) for c in here if (d := c.assessment.descriptors)]
            ranks.append(agree([(one, score) for one, score in told if score is not None]).spearman or 0.0)
        kept += _chosen(config, kept, here)
    return _measured(candidates, kept, float(np.mean(ranks)) if ranks else None)


def _chosen(config: CampaignConfig, earlier: Sequence[Candidate], here: Sequence[Candidate]) -> list[Candidate]:
    """Those of an iteration that would have been scored; what was left out goes on without a score."""
    triage, found = Triage(config, earlier), []
    for batch in sorted({batch_of(c) for c in here}):
        rows = [c for c in here if batch_of(c) == batch]
        working = [(c, c.assessment.descriptors) for c in rows if c.assessment.is_new]
        left_out = triage.left_out(working) if triage.share(rows[0]) < 1.0 else {}
        skipped = Assessment(Outcome.SKIPPED)
        found += [replace(c, assessment=skipped) if c.number in left_out else c for c in rows]
    return found


def by_lot(candidates: Sequence[Candidate], share: float, rng: np.random.Generator) -> Screened:
    """The same share of the later iterations' programs, drawn by chance; mean of LOTS draws."""
    first = min(c.iteration for c in candidates)
    drawn = []
    for _ in range(LOTS):
        kept = [c for c in candidates if c.iteration == first or rng.random() < share]
        drawn.append(_measured(candidates, kept, None))
    return mean_of(drawn)


def _measured(everyone: Sequence[Candidate], kept: Sequence[Candidate], spearman: float | None) -> Screened:
    scored = [c for c in everyone if c.score is not None]
    there = {c.number for c in kept if c.score is not None}
    whole = sorted((c for c in scored if c.complete), key=lambda c: (-(c.score or 0.0), c.number))
    held = [c for c in whole if c.number in there]
    lost = 100 * ((whole[0].score or 0.0) - (held[0].score or 0.0))
    return Screened(len(there) / len(scored), spearman, lost, sum(c.number in there for c in whole[:BEST]))


def said(one: Screened) -> str:
    """A line of figures."""
    rank = "Spearman    –" if one.spearman is None else f"Spearman {one.spearman:+.2f}"
    return f"scored {100 * one.paid:5.1f} %   {rank}   best lost {one.lost:4.1f} points   of the {BEST} best kept {one.held:4.1f}"


def mean_of(rows: Sequence[Screened]) -> Screened:
    """Field by field."""
    paid, lost, held = np.mean([[r.paid, r.lost, r.held] for r in rows], axis=0)
    ranks = [r.spearman for r in rows if r.spearman is not None]
    return Screened(float(paid), float(np.mean(ranks)) if ranks else None, float(lost), float(held))


def unscreened(run: Path) -> list[Candidate]:
    """The candidates of a run that scored all that works; refuses others."""
    with closing(Store.in_folder(run)) as store:
        found = list(store.candidates())
    if not any(c.complete for c in found):
        raise UserError(f"{run}: expected a run with scored programs, got none")
    if any(c.assessment.outcome is Outcome.SKIPPED for c in found):
        raise UserError(
            f"{run}: expected a run that scored every program that works, got one with a screen or a triage"
        )
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.screening", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    arguments = parser.parse_args()
    try:
        runs = {run.name: unscreened(run) for run in arguments.runs}
    except UserError as error:
        raise SystemExit(str(error)) from None
    rng = np.random.default_rng(5)
    for share in SHARES:
        rows = []
        for name, candidates in runs.items():
            rows.append(screen(candidates, share))
            print(f"share {share:<6}{name:<16}{said(rows[-1])}", flush=True)
        print(f"share {share:<6}{'mean':<16}{said(mean_of(rows))}")
        print(
            f"share {share:<6}{'by lot':<16}{said(mean_of([by_lot(c, share, rng) for c in runs.values()]))}", flush=True
        )


if __name__ == "__main__":
    main()
