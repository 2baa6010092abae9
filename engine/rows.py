"""Candidates as rows of the archive, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmarks.scores import Score
from engine.descriptors import NUMBERS, Descriptors
from engine.ranking import standing
from engine.records import Assessment, Candidate, Outcome, Program, Sampling
from engine.schema import CandidateRow, DescriptorRow, ParentRow, ScoreRow, SketchRow, SourceRow, WritingRow

AT_ONCE = 500
"""Rows asked for by their numbers at once: databases bound the values of a question."""


def add_candidate(session: Session, number: int, iteration: int, program: Program) -> CandidateRow:
    """A proposed program, in the places where it lies; answers with its row."""
    row = CandidateRow(
        number=number,
        iteration=iteration,
        program_id=program.id,
        origin=program.origin,
        generator=program.generator,
        sampling=vars(program.sampling).copy(),
        parents=list(program.parents),
        task=program.task,
        judged=program.judged,
        outcome=Outcome.PENDING.value,
        execute_seconds=0.0,
        score_seconds=0.0,
        peak_memory_bytes=0,
    )
    session.add_all([row, SourceRow(number=number, source=program.source)])
    session.add(WritingRow(number=number, prompt=program.prompt, text=program.text))
    session.add_all(ParentRow(number=number, place=at, parent=parent) for at, parent in enumerate(program.parents))
    return row


_COPIED = (
    "reason", "detail", "line", "rule", "duplicate_of", "behaviour", "sha256", "execute_seconds", "score_seconds", "peak_memory_bytes", "isolation",
)  # fmt: skip
"""Of an assessment, what goes into columns as it is."""


def complete(session: Session, row: CandidateRow, assessment: Assessment) -> None:
    """What became of a candidate, in its row."""
    for column in _COPIED:
        setattr(row, column, getattr(assessment, column))
    row.outcome = assessment.outcome.value
    if score := assessment.score:
        row.value, row.low, row.high = score.value, score.low, score.high
        row.asked, row.problems = score.n, score.of
        row.standing = standing(score)
        session.add(ScoreRow(number=row.number, score=score_to_json(score)))
    if assessment.descriptors:
        keep_descriptors(session, row.program_id, assessment.descriptors)


def keep_descriptors(session: Session, program_id: str, found: Descriptors) -> None:
    """What a program does, in the two places where it lies."""
    operations = f" {' '.join(found.operations)} "
    weights = list(found.weights)
    session.merge(DescriptorRow(program_id=program_id, **found.numbers, weights=weights, operations=operations))
    session.merge(SketchRow(program_id=program_id, sketch=list(found.sketch)))


def candidates_of(session: Session, rows: Sequence[CandidateRow]) -> Iterator[Candidate]:
    """Rows with what lies apart from them, in the session that read them: it sees one state of the archive."""
    for at in range(0, len(rows), AT_ONCE):
        some = rows[at : at + AT_ONCE]
        numbers, ids = [row.number for row in some], {row.program_id for row in some}
        sources = session.scalars(select(SourceRow).where(SourceRow.number.in_(numbers)))
        source = {row.number: row.source for row in sources}
        writings = session.scalars(select(WritingRow).where(WritingRow.number.in_(numbers)))
        written = {row.number: (row.prompt, row.text) for row in writings}
        scores = session.scalars(select(ScoreRow).where(ScoreRow.number.in_(numbers)))
        score = {row.number: score_from_json(row.score) for row in scores}
        described = session.scalars(select(DescriptorRow).where(DescriptorRow.program_id.in_(ids)))
        sketches = session.scalars(select(SketchRow).where(SketchRow.program_id.in_(ids)))
        sketch = {row.program_id: row.sketch for row in sketches}
        known = {row.program_id: _descriptors(row, sketch[row.program_id]) for row in described}
        for row in some:
            program = _program(row, source[row.number], *written[row.number])
            yield _candidate(row, program, score.get(row.number), known.get(row.program_id))


def numbered(session: Session, numbers: Sequence[int]) -> Iterator[Candidate]:
    """The candidates of these numbers, in this order; those that are not there are left out."""
    found: dict[int, Candidate] = {}
    for at in range(0, len(numbers), AT_ONCE):
        some = numbers[at : at + AT_ONCE]
        rows = session.scalars(select(CandidateRow).where(CandidateRow.number.in_(some))).all()
        found |= {one.number: one for one in candidates_of(session, rows)}
    return (found[number] for number in numbers if number in found)


def _descriptors(row: DescriptorRow, sketch: Sequence[float]) -> Descriptors:
    numbers = {name: getattr(row, name) for name in NUMBERS}
    return Descriptors(numbers, tuple(row.weights), tuple(row.operations.split()), tuple(sketch))


def _program(row: CandidateRow, source: str, prompt: str, text: str) -> Program:
    return Program(
        source,
        row.program_id,
        row.origin,
        row.generator,
        prompt,
        text,
        Sampling(**row.sampling),
        tuple(row.parents),
        row.task,
        row.judged,
    )


def _candidate(row: CandidateRow, program: Program, score: Score | None, descriptors: Descriptors | None) -> Candidate:
    assessment = Assessment(
        outcome=Outcome(row.outcome),
        reason=row.reason,
        detail=row.detail,
        line=row.line,
        rule=row.rule,
        duplicate_of=row.duplicate_of,
        behaviour=row.behaviour,
        sha256=row.sha256,
        score=score,
        execute_seconds=row.execute_seconds,
        score_seconds=row.score_seconds,
        peak_memory_bytes=row.peak_memory_bytes,
        isolation=row.isolation,
        descriptors=descriptors if row.behaviour and not row.duplicate_of else None,
    )
    return Candidate(row.number, row.iteration, program, assessment)


def repeated(candidate: Candidate) -> list[Any]:
    """Of a candidate, what a resumed run must repeat: all but times and memory."""
    a, p = candidate.assessment, candidate.program
    proposed = [
        candidate.number,
        candidate.iteration,
        p.id,
        p.source,
        p.text,
        p.prompt,
        p.generator,
        list(p.parents),
        p.task,
        p.judged,
    ]
    fate = [
        a.outcome,
        a.reason,
        a.detail,
        a.line,
        a.rule,
        a.duplicate_of,
        a.behaviour,
        a.sha256,
        a.descriptors and vars(a.descriptors),
    ]
    return [proposed + fate, score_to_json(a.score) if a.score else None]


def score_to_json(score: Score) -> dict[str, Any]:
    """A score as plain values."""
    return {**vars(score), "families": dict(score.families)}


def score_from_json(value: Mapping[str, Any]) -> Score:
    """The score that `score_to_json` put down."""
    return Score(**value)
