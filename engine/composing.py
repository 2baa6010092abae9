"""What each program of a batch is asked for: the kind of task, and the programs that are shown with it.

Kinds are dealt out by the shares of [prompts]. Parents are drawn from the `elite` best programs so far (the better the likelier), a program to
mend from the latest failures. While there is nothing to show, the fixed one-shot prompt is asked. Every draw follows from the place's seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from engine.config import PromptsSection
from engine.hashing import derived_seed
from engine.ranking import scored_best_first
from engine.records import Candidate, Outcome, Sampling, Task, TaskKind

RECENT_FAILURES = 20  # that may be mended: those of the generator as it was lately
FAULTY = frozenset({Outcome.REJECTED, Outcome.FAILED})


def compose(section: PromptsSection, places: Sequence[Sampling], assessed: Sequence[Candidate]) -> list[Task]:
    """One task for every place.

    Args:
        section: shares of the kinds, size of the elite.
        places: of one batch.
        assessed: all candidates that may be shown, in order.
    """
    elite = scored_best_first(assessed)[: section.elite]
    failed = [c for c in assessed if c.assessment.outcome in FAULTY and c.program.source][-RECENT_FAILURES:]
    return [_task(section, random.Random(derived_seed(place.seed, "task")), elite, failed) for place in places]


def _task(section: PromptsSection, rng: random.Random, elite: Sequence[Candidate], failed: Sequence[Candidate]) -> Task:
    shares = section.shares()
    (kind,) = rng.choices(list(shares), weights=list(shares.values()))
    if kind is TaskKind.REPAIR and failed:
        return Task(kind, (rng.choice(failed),))
    if kind is TaskKind.VARIANT and elite:
        return Task(kind, _drawn(elite, 1, rng))
    if kind is TaskKind.CROSSOVER and len(elite) > 1:
        return Task(kind, _drawn(elite, 2, rng))
    return Task()


def _drawn(elite: Sequence[Candidate], count: int, rng: random.Random) -> tuple[Candidate, ...]:
    """Different programs of the elite; the weight of the i-th best is 1 / i."""
    left, drawn = list(enumerate(elite, start=1)), []
    for _ in range(count):
        (chosen,) = rng.choices(left, weights=[1.0 / rank for rank, _ in left])
        left.remove(chosen)
        drawn.append(chosen[1])
    return tuple(drawn)
