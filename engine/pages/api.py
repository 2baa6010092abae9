"""The JSON API: what the pages show, for programs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import StringConstraints

from engine.ablation import Ablation, known_ablation
from engine.cells import Axis, cells
from engine.descriptors import NUMBERS
from engine.errors import UnknownNameError
from engine.lineage import MOST, family, related
from engine.pages import answers
from engine.pages.asking import MOST_CELLS, PAGE
from engine.pages.runs import Runs, at_a_glance
from engine.records import LARGEST_NUMBER, Outcome
from engine.search import CONDITION_PATTERN, MOST_AT_ONCE, MOST_TEXT, NAMES, question
from engine.syntax_diff import diff

Name = Annotated[str, Path(description="A run's name, as in the list of runs.")]
Reference = Annotated[
    str, Path(description="A program's id, the beginning of it (4 digits or more), or a candidate's number (7, n7).")
]
AxisName = StrEnum("AxisName", {name: name for name in NUMBERS})  # type: ignore[misc]
Where = Annotated[str, StringConstraints(pattern=CONDITION_PATTERN)]
Sort = Annotated[
    str,
    Query(
        pattern=f"^(-?({'|'.join(NAMES)}))?$",
        description="A fact or descriptor, smallest first; -NAME: largest first. Empty: best first.",
    ),
]
Member = Annotated[
    str,
    Query(
        description="Only who came before this program, or after it, in its family: an id, the beginning of it, or a candidate's number. Empty: anybody."
    ),
]
MISTAKES: dict[int | str, dict[str, Any]] = {
    400: {"model": answers.Mistake, "description": "A question that cannot be answered."},
    404: {"model": answers.Mistake, "description": "No such run, or no such program."},
    422: {"model": answers.Mistake, "description": "A value of the wrong kind."},
}


def routes(runs: Runs) -> APIRouter:
    """The addresses below /api."""
    router = APIRouter(prefix="/api", responses=MISTAKES)
    _add_runs(router, runs)
    _add_search(router, runs)
    _add_programs(router, runs)
    return router


def _add_runs(router: APIRouter, runs: Runs) -> None:
    @router.get("/runs")
    def list_runs() -> list[answers.RunAnswer]:
        """All runs that are shown; one whose archive cannot be read is left out."""
        runs.refresh()
        return [answers.RunAnswer(**answers.run_answer(run, seen)) for run, seen in at_a_glance(runs)[0]]

    @router.get("/runs/{name}")
    def get_run(name: Name) -> answers.OverviewAnswer:
        """A run at a glance."""
        run = runs.named(name)
        return answers.overview_answer(run, run.overview())

    @router.get("/runs/{name}/map")
    def get_map(
        name: Name,
        across: AxisName = AxisName.scale,  # type: ignore[attr-defined]
        down: Annotated[AxisName, Query(description="Another one.")] = AxisName.rest,  # type: ignore[attr-defined]
        columns: Annotated[int, Query(ge=1, le=MOST_CELLS)] = 16,
        rows: Annotated[int, Query(ge=1, le=MOST_CELLS)] = 8,
    ) -> answers.MapAnswer:
        """The best program of every cell over two descriptors."""
        return answers.map_answer(cells(runs.named(name).store, Axis(across, columns), Axis(down, rows)))


def _add_search(router: APIRouter, runs: Runs) -> None:
    @router.get("/runs/{name}/programs")
    def list_programs(
        name: Name,
        verdict: Outcome | None = None,
        iteration: Annotated[int | None, Query(ge=1, le=LARGEST_NUMBER)] = None,
        generator: str | None = None,
        operation: Annotated[
            list[str] | None, Query(max_length=MOST_AT_ONCE, description="Called in the program's text. Repeatable.")
        ] = None,
        text: Annotated[
            str, Query(max_length=MOST_TEXT, description="Stands in the program's text, whatever the case.")
        ] = "",
        where: Annotated[
            list[Where] | None,
            Query(max_length=MOST_AT_ONCE, description="Such as rest>0.1 or score>=60%. Repeatable."),
        ] = None,
        ancestors_of: Member = "",
        descendants_of: Member = "",
        sort: Sort = "",
        page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    ) -> answers.ProgramsAnswer:
        """Candidates, failures included, a page at a time."""
        asked = question(
            where=where,
            sort=sort,
            verdict=verdict,
            iteration=iteration,
            generator=generator,
            operations=operation or (),
            text=text,
            ancestors_of=ancestors_of or None,
            descendants_of=descendants_of or None,
            limit=PAGE,
            offset=(page - 1) * PAGE,
        )
        run = runs.named(name)
        found, count = run.store.find(run.within_families(asked))
        return answers.ProgramsAnswer(count=count, page=page, programs=[answers.candidate_answer(one) for one in found])


def _add_programs(router: APIRouter, runs: Runs) -> None:
    @router.get("/runs/{name}/programs/{reference}")
    def get_program(name: Name, reference: Reference) -> answers.ProgramAnswer:
        """One program: source, scores, lineage, what it does."""
        run = runs.named(name)
        candidate = run.candidate(reference)
        return answers.program_answer(candidate, related(run.store, candidate))

    @router.get("/runs/{name}/programs/{reference}/lineage")
    def get_lineage(
        name: Name, reference: Reference, limit: Annotated[int, Query(ge=1, le=MOST)] = MOST
    ) -> answers.FamilyAnswer:
        """A program's family, up and down, nearest first; at most `limit` in each direction."""
        run = runs.named(name)
        found = family(run.store, run.candidate(reference).program.id, limit=limit)
        assert found is not None, "it is its own"
        return answers.family_answer(found)

    @router.get("/runs/{name}/programs/{reference}/ablation")
    def get_ablation(name: Name, reference: Reference) -> Ablation:
        """What each part of a program is worth, where `mergewright archive ablate` has asked."""
        run = runs.named(name)
        program = run.candidate(reference).program.id
        found = known_ablation(run.store, program)
        if found is None:
            raise UnknownNameError(
                f"ablation of {program}: expected one that was taken, got none; `mergewright archive ablate` takes it"
            )
        return found

    @router.get("/runs/{name}/compare")
    def compare_programs(name: Name, first: str, second: str) -> answers.ComparisonAnswer:
        """Two programs: by syntax, and problem by problem."""
        run = runs.named(name)
        one, other = run.candidate(first), run.candidate(second)
        found = run.compared(one.assessment.score, other.assessment.score)
        changes = diff(one.program.source, other.program.source)
        return answers.comparison_answer(changes, found, run.problems() if found else ())
