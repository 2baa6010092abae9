"""What the JSON API answers with: the facts of the pages, typed, so that OpenAPI describes them. Shares are 0..1, times seconds, intervals 95 %."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from engine.cells import Cells
from engine.comparing import Comparison
from engine.lineage import Family, Relative
from engine.overview import Overview
from engine.pages.runs import Run
from engine.records import Candidate
from engine.summary import candidate_facts, candidate_row, comparison_facts
from engine.syntax_diff import Change

Share = Annotated[float, Field(ge=0, le=1)]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]
"""Low and high."""


class Answer(BaseModel):
    """Root of the answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Mistake(Answer):
    """What was wrong with a question: one line."""

    detail: str


class RunAnswer(Answer):
    """A run, in the list of runs."""

    name: str
    campaign: str
    finished: bool
    planned: int
    proposed: int
    assessed: int
    valid: int
    best: str | None
    score: Share | None


class IterationAnswer(Answer):
    """One iteration of a run."""

    number: int
    proposed: int
    assessed: int
    valid: int
    scored: int
    median: Share | None
    best: Share | None
    reasons: dict[str, int]


class OverviewAnswer(RunAnswer):
    """A run at a glance."""

    iterations: list[IterationAnswer]
    human: str | None
    human_score: Share | None
    stages: dict[str, float]
    phases: dict[str, float]
    learning: list[str]


class CandidateAnswer(Answer):
    """A candidate, in a list; `n` problems were asked of `of`."""

    id: str
    number: int
    iteration: int
    generator: str
    origin: str
    verdict: str
    reason: str | None
    detail: str | None
    duplicate_of: str | None
    score: Share | None
    interval: Interval | None
    strict: Share | None
    lenient: Share | None
    n: int
    of: int
    behaviour: str | None


class ProgramAnswer(CandidateAnswer):
    """Everything about one candidate."""

    source: str
    text: str
    prompt: str
    parents: list[str]
    task: str
    judged: float | None
    sampling: dict[str, float]
    line: int | None
    rule: str | None
    isolation: str | None
    execute_seconds: float
    score_seconds: float
    peak_memory_bytes: int
    sha256: str | None
    families: dict[str, Share]
    bits: str | None
    descriptors: dict[str, float] | None
    weights: list[float] | None
    operations: list[str] | None
    related: dict[str, list[str]]


class ProgramsAnswer(Answer):
    """A page of candidates; `count`: how many there are on all pages."""

    count: int
    page: int
    programs: list[CandidateAnswer]


class CellAnswer(Answer):
    """A cell of a map that is held."""

    column: int
    row: int
    program: str
    score: Share
    programs: int


class GrowthAnswer(Answer):
    """How much of a map is held after an iteration."""

    iteration: int
    held: int
    qd_score: float


class MapAnswer(Answer):
    """The best program of every cell."""

    across: str
    down: str
    columns: int
    rows: int
    cells: list[CellAnswer]
    growth: list[GrowthAnswer]


class ChangeAnswer(Answer):
    """One difference by syntax."""

    kind: str
    before: str
    after: str
    before_line: int | None
    after_line: int | None
    inside: str
    times: int


class ProblemsAnswer(Answer):
    """Two programs problem by problem: difference of the shares, first less second."""

    difference: float
    interval: Interval
    p: Share
    n: int
    only_first: list[str | int]
    only_second: list[str | int]


class ComparisonAnswer(Answer):
    """Two programs held against each other; `problems`: None where no problem was asked of both."""

    changes: list[ChangeAnswer]
    problems: ProblemsAnswer | None


class RelativeAnswer(Answer):
    """One candidate of a family. `score`: where it is not `complete`, of what it was asked; `again`: another candidate stands for this program."""

    number: int
    id: str
    iteration: int
    outcome: str
    reason: str | None
    score: Share | None
    complete: bool
    task: str
    parents: list[str]
    again: bool


class EdgeAnswer(Answer):
    """One step of a family, by the numbers of two candidates."""

    parent: int
    child: int


class FamilyAnswer(Answer):
    """A family: generations, nearest first. `unknown`: parents that the archive does not have; `more_…`: how many the limit left out."""

    member: RelativeAnswer
    ancestors: list[list[RelativeAnswer]]
    descendants: list[list[RelativeAnswer]]
    edges: list[EdgeAnswer]
    unknown: list[str]
    more_ancestors: int
    more_descendants: int


def run_answer(run: Run, seen: Overview) -> dict[str, Any]:
    """Fields of a RunAnswer."""
    return {
        "name": run.name,
        "campaign": run.config.campaign.name,
        "finished": seen.finished,
        "planned": seen.planned,
        "proposed": seen.proposed,
        "assessed": seen.assessed,
        "valid": seen.valid,
        "best": seen.best.program if seen.best else None,
        "score": seen.best.value if seen.best else None,
    }


def overview_answer(run: Run, seen: Overview) -> OverviewAnswer:
    """A run at a glance."""
    iterations = [
        IterationAnswer(**{name: getattr(one, name) for name in IterationAnswer.model_fields})
        for one in seen.iterations
    ]
    return OverviewAnswer(
        **run_answer(run, seen),
        iterations=iterations,
        human=seen.human.name if seen.human else None,
        human_score=seen.human.score.value if seen.human else None,
        stages={stage: spent for stage, (spent, _) in seen.stages.items()},
        phases=dict(seen.phases),
        learning=list(seen.learning),
    )


def candidate_answer(candidate: Candidate) -> CandidateAnswer:
    """A candidate, in a list."""
    return CandidateAnswer(**candidate_row(candidate))


def program_answer(candidate: Candidate, related: Mapping[str, Any]) -> ProgramAnswer:
    """A candidate, whole."""
    return ProgramAnswer(**candidate_facts(candidate, dict(related)))


def family_answer(found: Family) -> FamilyAnswer:
    """A family."""
    up, down = (
        [[_relative(one) for one in some] for some in generations]
        for generations in (found.ancestors, found.descendants)
    )
    return FamilyAnswer(
        member=_relative(found.member),
        ancestors=up,
        descendants=down,
        edges=[EdgeAnswer(parent=parent, child=child) for parent, child in found.edges],
        unknown=list(found.unknown),
        more_ancestors=found.more_ancestors,
        more_descendants=found.more_descendants,
    )


def _relative(one: Relative) -> RelativeAnswer:
    return RelativeAnswer(**{**vars(one), "parents": list(one.parents)})


def map_answer(found: Cells) -> MapAnswer:
    """A map."""
    held = [
        CellAnswer(column=c.column, row=c.row, program=c.program, score=c.value, programs=c.programs)
        for c in found.held
    ]
    return MapAnswer(
        across=found.across.name,
        down=found.down.name,
        columns=found.across.cells,
        rows=found.down.cells,
        cells=held,
        growth=[GrowthAnswer(iteration=i, held=count, qd_score=score) for i, (count, score) in found.growth.items()],
    )


def comparison_answer(changes: list[Change], found: Comparison | None, problems: Any) -> ComparisonAnswer:
    """Two programs."""
    return ComparisonAnswer(
        changes=[ChangeAnswer(**vars(change)) for change in changes],
        problems=ProblemsAnswer(**comparison_facts(found, problems)) if found else None,
    )
