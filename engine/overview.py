"""A run at a glance, for pages and reports: counted and drawn from a few columns, so that a large archive answers as fast as a small one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from engine.baselines import best_by_method
from engine.config import CampaignConfig
from engine.learning.account import update_lines
from engine.records import WORKS, Outcome, ProgramId, Trial
from engine.rows import AT_ONCE
from engine.schema import CandidateRow, FinalRow, TrialRow, UpdateRow
from engine.stages import STAGES
from engine.store import Store

_WORKS = {outcome.value for outcome in WORKS}


@dataclass(frozen=True)
class Mark:
    """A candidate that was asked everything.

    Attributes:
        number, iteration, program: which one.
        value, low, high: dev share 0..1 and its 95 % interval.
    """

    number: int
    iteration: int
    program: ProgramId
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Iteration:
    """One iteration.

    Attributes:
        number: 1-based.
        proposed, assessed, valid, scored: candidates; valid ones passed the gate and gave sound results; scored ones were new besides.
        reasons: reason → failures and refusals, the most frequent first.
        scores: dev shares of all that were scored, in the order of proposal.
        median, best: of them, None where there is none; the best of those that were asked everything.
    """

    number: int
    proposed: int
    assessed: int
    valid: int
    scored: int
    reasons: Mapping[str, int]
    scores: tuple[float, ...]
    median: float | None
    best: float | None


@dataclass(frozen=True)
class Overview:
    """A run.

    Attributes:
        finished: its final is in the archive, or it was asked for none and ended.
        planned, proposed, assessed, valid: programs.
        iterations: in order.
        reasons: over all of them.
        climb: every program that was better on dev than all before it, of those that were asked everything.
        human, seed: the human-made merge first on dev, and the seed model; None before they were scored.
        evaluations: dev evaluations spent on human-made merges.
        finals: subjects scored on test.
        phases: phase → wall-clock seconds.
        stages: stage → (busy seconds, count); stages overlap.
        learning: what the updates came to, a line each.
    """

    finished: bool
    planned: int
    proposed: int
    assessed: int
    valid: int
    iterations: tuple[Iteration, ...]
    reasons: Mapping[str, int]
    climb: tuple[Mark, ...]
    human: Trial | None
    seed: Trial | None
    evaluations: int
    finals: int
    phases: Mapping[str, float]
    stages: Mapping[str, tuple[float, int]]
    learning: tuple[str, ...]

    @property
    def best(self) -> Mark | None:
        """The first on dev."""
        return self.climb[-1] if self.climb else None


def overview(config: CampaignConfig, store: Store, *, imported: bool = False) -> Overview:
    """The run as it is now.

    Args:
        imported: an import made it, and no campaign: nothing is planned but what came.
    """
    with store.reading() as session:
        counted, scores = _counted(session), _scores(session)
        climb = tuple(_climb(session, scores))
        finals = session.scalar(select(func.count()).select_from(FinalRow)) or 0
    trials = store.trials()
    tuned = best_by_method(trials)
    iterations = tuple(_iterations(counted, scores))
    proposed = sum(one.proposed for one in iterations)
    return Overview(
        finished=store.meta("state") is not None,
        planned=proposed if imported else config.campaign.iterations * config.campaign.programs,
        proposed=proposed,
        assessed=sum(one.assessed for one in iterations),
        valid=sum(one.valid for one in iterations),
        iterations=iterations,
        reasons=_summed(one.reasons for one in iterations),
        climb=climb,
        human=tuned[0].trial if tuned else None,
        seed=next((trial for trial in trials if trial.kind == "seed"), None),
        evaluations=sum(one.evaluations for one in tuned),
        finals=finals,
        phases=_phases(store),
        stages=_stages(store),
        learning=tuple(update_lines(store.updates())),
    )


def pulse(store: Store) -> str:
    """A short text that changes with what pages show of a run: cheap enough to ask every second."""
    with store.reading() as session:
        counts = [session.scalar(select(func.count()).select_from(table)) for table in (TrialRow, FinalRow, UpdateRow)]
        proposed = session.scalar(select(func.max(CandidateRow.number)))
        pending = session.scalar(select(func.count()).where(CandidateRow.outcome == Outcome.PENDING.value))
    return "-".join(map(str, (*counts, proposed or 0, pending, int(store.meta("state") is not None))))


Count = tuple[int, str, str | None, int]
"""iteration, outcome, reason, candidates"""


def _counted(session: Session) -> list[Count]:
    row = CandidateRow
    wanted = select(row.iteration, row.outcome, row.reason, func.count())
    return list(session.execute(wanted.group_by(row.iteration, row.outcome, row.reason)).tuples())


Score = tuple[int, int, float, float | None]
"""number, iteration, dev share, standing: the share itself where everything was asked"""


def _scores(session: Session) -> list[Score]:
    row = CandidateRow
    wanted = select(row.number, row.iteration, row.value, row.standing).where(row.value.is_not(None))
    # plain tuples: of fifty thousand rows an object each takes longer than the database
    return [tuple(one) for one in session.execute(wanted.order_by(row.number))]  # type: ignore[misc]


def _climb(session: Session, scores: Sequence[Score]) -> Iterator[Mark]:
    """Those that were better than all before them, of those that were asked everything."""
    best, numbers = -1.0, []
    for number, _, value, standing in scores:
        if value > best and value == standing:
            best = value
            numbers.append(number)
    row = CandidateRow
    wanted = select(row.number, row.iteration, row.program_id, row.value, row.low, row.high)
    for at in range(0, len(numbers), AT_ONCE):
        some = wanted.where(row.number.in_(numbers[at : at + AT_ONCE])).order_by(row.number)
        for number, iteration, program, share, low, high in session.execute(some):
            assert share is not None, "asked for"
            assert low is not None, "a score has an interval"
            assert high is not None, "a score has an interval"
            yield Mark(number, iteration, program, share, low, high)


def _iterations(counted: Sequence[Count], scored: Sequence[Score]) -> Iterator[Iteration]:
    scores: dict[int, list[float]] = {}
    best: dict[int, float] = {}
    for _, iteration, value, standing in scored:
        scores.setdefault(iteration, []).append(value)
        if value == standing:
            best[iteration] = max(value, best.get(iteration, 0.0))
    for number in sorted({iteration for iteration, *_ in counted}):
        here = [(outcome, reason, count) for iteration, outcome, reason, count in counted if iteration == number]
        mine = scores.get(number, [])
        yield Iteration(
            number=number,
            proposed=sum(count for *_, count in here),
            assessed=sum(count for outcome, _, count in here if outcome != Outcome.PENDING.value),
            valid=sum(count for outcome, _, count in here if outcome in _WORKS),
            scored=len(mine),
            reasons=_summed({reason: count} for _, reason, count in here if reason),
            scores=tuple(mine),
            median=median(mine) if mine else None,
            best=best.get(number),
        )


def _summed(parts: Iterable[Mapping[str, int]]) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total.most_common())


def _phases(store: Store) -> Mapping[str, float]:
    spent: dict[str, float] = {}
    for _, phase, seconds, _ in store.phases():
        spent[phase] = spent.get(phase, 0.0) + seconds
    return spent


def _stages(store: Store) -> Mapping[str, tuple[float, int]]:
    spent: dict[str, tuple[float, int]] = {}
    for _, stage, seconds, count in store.stages():
        before = spent.get(stage, (0.0, 0))
        spent[stage] = (before[0] + seconds, before[1] + count)
    return {stage: spent[stage] for stage in STAGES if stage in spent}
