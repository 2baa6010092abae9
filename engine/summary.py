"""Facts about a run as plain values, for `--json` and for programs that watch runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.problems import Problem
from engine.comparing import Comparison, called
from engine.config import CampaignConfig
from engine.finale import Row
from engine.records import WORKS, Candidate, Outcome
from engine.rundir import imported
from engine.store import Store


def summary(config: CampaignConfig, store: Store, folder: Path) -> dict[str, Any]:
    """How far the run is and what it has found; `digest` is of all that a resumed run must repeat."""
    candidates = store.candidates()
    done = [c for c in candidates if c.assessment.outcome is not Outcome.PENDING]
    valid = [c for c in done if c.assessment.outcome in WORKS]
    best = max((c for c in done if c.complete), key=lambda c: (c.score or 0.0, -c.number), default=None)
    return {
        "run": str(folder),
        "finished": store.meta("state") is not None,
        "planned": len(candidates) if imported(folder) else config.campaign.iterations * config.campaign.programs,
        "proposed": len(candidates),
        "assessed": len(done),
        "valid": len(valid),
        "best": {"id": best.program.id, "score": best.score} if best else None,
        "trials": len(store.trials()),
        "finals": len(store.finals()),
        "phases": [{"iteration": i, "phase": s, "seconds": round(t, 3), "count": n} for i, s, t, n in store.phases()],
        "stages": [{"iteration": i, "stage": s, "seconds": round(t, 3), "count": n} for i, s, t, n in store.stages()],
        "incidents": store.meta("incidents") or {},
        "digest": store.digest(),
    }


def candidate_row(candidate: Candidate) -> dict[str, Any]:
    """One candidate for `archive list --json`: failures included, a score only where there is one."""
    a = candidate.assessment
    return {
        "id": candidate.program.id,
        "number": candidate.number,
        "iteration": candidate.iteration,
        "generator": candidate.program.generator,
        "origin": candidate.program.origin,
        "verdict": a.outcome.value,
        "reason": a.reason,
        "detail": a.detail,
        "duplicate_of": a.duplicate_of,
        "score": candidate.score,
        "interval": [a.score.low, a.score.high] if a.score else None,
        "strict": a.score.strict if a.score else None,
        "lenient": a.score.lenient if a.score else None,
        "n": a.score.n if a.score else 0,
        "of": a.score.of if a.score else 0,
        "behaviour": a.behaviour,
    }


def candidate_facts(candidate: Candidate, related: dict[str, Sequence[str]]) -> dict[str, Any]:
    """Everything about one candidate, for `archive show --json`."""
    a, p = candidate.assessment, candidate.program
    return {
        **candidate_row(candidate),
        "source": p.source,
        "text": p.text,
        "prompt": p.prompt,
        "parents": list(p.parents),
        "task": p.task,
        "judged": p.judged,
        "sampling": vars(p.sampling),
        "line": a.line,
        "rule": a.rule,
        "isolation": a.isolation,
        "execute_seconds": a.execute_seconds,
        "score_seconds": a.score_seconds,
        "peak_memory_bytes": a.peak_memory_bytes,
        "sha256": a.sha256,
        "families": dict(a.score.families) if a.score else {},
        "bits": a.score.bits if a.score else None,
        "descriptors": dict(a.descriptors.numbers) if a.descriptors else None,
        "weights": list(a.descriptors.weights) if a.descriptors else None,
        "operations": list(a.descriptors.operations) if a.descriptors else None,
        "related": {k: list(v) for k, v in related.items()},
    }


def final_facts(row: Row) -> dict[str, Any]:
    """A finalist's test scores: shares 0..1, 95 % intervals, the paired difference to the best human-made merge."""
    score, against = row.final.score, row.against_human
    return {
        "rank": row.final.rank,
        "score": score.value,
        "n": score.n,
        "interval": [row.interval.low, row.interval.high],
        "simultaneous": row.simultaneous,
        "against_human": (
            {
                "difference": against.interval.estimate,
                "interval": [against.interval.low, against.interval.high],
                "p": against.p_value,
            }
            if against
            else None
        ),
    }


def comparison_facts(found: Comparison, problems: Sequence[Problem]) -> dict[str, Any]:
    """Two programs problem by problem, for `archive diff --json`: difference of the shares, first less second, and the ids of the problems that one alone solved
    (their places in the suite, where the problems are not known any more)."""
    interval = found.difference.interval
    return {
        "difference": interval.estimate,
        "interval": [interval.low, interval.high],
        "p": found.difference.p_value,
        "n": found.difference.n,
        "only_first": called(found.only_first, problems),
        "only_second": called(found.only_second, problems),
    }
