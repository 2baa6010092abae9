"""What each program of a batch is asked for: the kind of task, and the programs that are shown with it.

Kinds are dealt out by the shares of [prompts]. Parents are drawn from the `elite` best programs so far (the better the likelier), or evenly from the map of
[explore]; a program to mend from the latest failures. While there is nothing to show, the fixed one-shot prompt is asked. Every draw follows from the place's seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from engine.config import PromptsSection
from engine.exploring import Explorer
from engine.hashing import derived_seed
from engine.ranking import scored_best_first
from engine.records import Candidate, Outcome, Sampling, Task, TaskKind

RECENT_FAILURES = 20  # that may be mended: those of the generator as it was lately
FAULTY = frozenset({Outcome.REJECTED, Outcome.FAILED})


def compose(
    section: PromptsSection,
    places: Sequence[Sampling],
    assessed: Sequence[Candidate],
    explorer: Explorer | None = None,
) -> list[Task]:
    """One task for every place.

    Args:
        section: shares of the kinds, size of the elite.
        places: of one batch.
        assessed: all candidates that may be shown, in order.
        explorer: who has a map of them; None: nothing is explored.
    """
    elite = scored_best_first(assessed)[: section.elite]
    failed = [c for c in assessed if c.assessment.outcome in FAULTY and c.program.source][-RECENT_FAILURES:]
    tasks = []
    for place in places:
        rng = random.Random(derived_seed(place.seed, "task"))
        if explorer is None or not explorer.explores:
            tasks.append(_task(section, rng, elite, failed, even=False))
        else:
            parents, faulty = explorer.parents(place, assessed), explorer.neighbours(place, failed)
            tasks.append(_task(section, rng, parents, faulty, even=True))
    return tasks


def _task(
    section: PromptsSection,
    rng: random.Random,
    parents: Sequence[Candidate],
    failed: Sequence[Candidate],
    *,
    even: bool,
) -> Task:
    shares = section.shares()
    (kind,) = rng.choices(list(shares), weights=list(shares.values()))
    if kind is TaskKind.REPAIR and failed:
        return Task(kind, (rng.choice(failed),))
    count = {TaskKind.VARIANT: 1, TaskKind.CROSSOVER: 2}.get(kind)
    if count is None or len(parents) < count:
        return Task()
    return Task(kind, tuple(rng.sample(parents, count)) if even else _drawn(parents, count, rng))


def _drawn(elite: Sequence[Candidate], count: int, rng: random.Random) -> tuple[Candidate, ...]:
    """Different programs of the elite; the weight of the i-th best is 1 / i."""
    left, drawn = list(enumerate(elite, start=1)), []
    for _ in range(count):
        (chosen,) = rng.choices(left, weights=[1.0 / rank for rank, _ in left])
        left.remove(chosen)
        drawn.append(chosen[1])
    return tuple(drawn)
