"""Word problems and the JSONL files they come in.

One object a line, GSM8K's form: `question`, and `answer` with worked steps that end in `#### n`. Optional fields: `id`,
`family`, `level`. An answer that is a bare number is taken as it stands. The names of the fields can be given, so that other
people's files need no conversion; what an answer ends in is the checker's rule (`checkers.py`).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.checkers import NUMBER, Checker
from benchmarks.errors import ProblemFileError

MAX_LINE_CHARACTERS = 1_000_000
"""Longer lines are refused: no word problem is that long, and a binary file often is."""


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        id: unique within its benchmark.
        question: the text the model sees, without any prompt around it.
        answer: the worked solution, as in the file.
        final: what a right answer ends with, as written (`1,234`, `\\frac{1}{2}`, `B`); its checker reads it.
        family: kind of problem where the benchmark knows kinds, else None.
        level: how hard it is, in the benchmark's own words, else None.
    """

    id: str
    question: str
    answer: str
    final: str
    family: str | None = None
    level: str | None = None


@dataclass(frozen=True)
class Fields:
    """What the fields of a record are called."""

    question: str = "question"
    answer: str = "answer"
    family: str = "family"


def load_jsonl(path: str | Path, *, fields: Fields = Fields(), checker: Checker = NUMBER) -> tuple[Problem, ...]:
    """Reads a problem file.

    Args:
        path: the JSONL file (UTF-8; empty lines are skipped).
        fields: what the records call question, answer and family.
        checker: which finals the answers have to end in.

    Raises:
        ProblemFileError: the file is missing, empty, not UTF-8, or a line is not a problem; names file and line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else (error.strerror or type(error).__name__)
        raise ProblemFileError(
            f"problem file '{path}': expected a readable JSONL file, got: {reason}; check the path"
        ) from error
    problems = tuple(
        problem_of(
            _parse(line, f"{path}:{at}"),
            where=f"{path}:{at}",
            default_id=f"{path.stem}-{at:05d}",
            fields=fields,
            checker=checker,
        )
        for at, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    )
    if not problems:
        raise ProblemFileError(
            f"problem file '{path}': expected at least one problem, got an empty file; check the path"
        )
    _refuse_doubles(problems, path)
    return problems


def problem_of(
    row: Any, *, where: str, default_id: str, fields: Fields = Fields(), checker: Checker = NUMBER
) -> Problem:
    """A problem from one record.

    Args:
        row: an object with the two text fields, as JSON gives it.
        where: file and line, for the message.
        default_id: taken where the record has no `id`.
        fields, checker: as in `load_jsonl`.

    Raises:
        ProblemFileError: the record is no problem.
    """
    fix = f'write {{"{fields.question}": "...", "{fields.answer}": "{checker.example}"}}'
    if not isinstance(row, Mapping):
        raise ProblemFileError(f"{where}: expected one JSON object, got {type(row).__name__}; {fix}")
    for field in (fields.question, fields.answer):
        if not isinstance(row.get(field), str) or not row[field].strip():
            got = "no such field" if field not in row else repr(row[field])[:40]
            raise ProblemFileError(f"{where}: field '{field}': expected a text, got {got}; {fix}")
    answer = row[fields.answer]
    final = checker.final_of(answer)
    if final is None:
        got = repr(" ".join(answer.split())[-40:])
        raise ProblemFileError(
            f"{where}: field '{fields.answer}': expected to end in {checker.ends_in}, got {got}; {fix}"
        )
    family, level = row.get(fields.family), row.get("level")
    return Problem(
        id=str(row.get("id") or default_id),
        question=row[fields.question].strip(),
        answer=answer.strip(),
        final=final,
        family=family if isinstance(family, str) else None,
        level=level if isinstance(level, str) else None,
    )


def draw(problems: Sequence[Problem], count: int, *, seed: int) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """Two parts of a set: `count` problems, drawn, and all others; both in the set's order.

    The draw is a hash of seed and text (spaces aside), so it depends neither on the order in which a file holds the problems nor on a
    version of Python; problems with the same text fall together.
    """
    assert 0 <= count <= len(problems)

    def place(at: int) -> bytes:
        return hashlib.sha256(f"{seed}\n{' '.join(problems[at].question.split())}".encode()).digest()

    drawn = set(sorted(range(len(problems)), key=place)[:count])
    return (
        tuple(problem for at, problem in enumerate(problems) if at in drawn),
        tuple(problem for at, problem in enumerate(problems) if at not in drawn),
    )


def without(dev: Iterable[Problem], test: Iterable[Problem]) -> tuple[Problem, ...]:
    """The dev problems whose question is no test question (compared as in `refuse_overlap`)."""
    known = {_key(problem.question) for problem in test}
    return tuple(problem for problem in dev if _key(problem.question) not in known)


def refuse_overlap(dev: Sequence[Problem], test: Sequence[Problem]) -> None:
    """Dev and test of one campaign share no question (compared by text, spaces and case aside).

    Raises:
        ProblemFileError: they do; names the first shared problem.
    """
    known = {_key(problem.question): problem for problem in dev}
    shared = [problem for problem in test if _key(problem.question) in known]
    if shared:
        twin = known[_key(shared[0].question)]
        raise ProblemFileError(
            f"problems: expected no question in both dev and test, got {len(shared)} (first: '{twin.id}' is "
            f"'{shared[0].id}'); give each split a file of its own"
        )


def _key(question: str) -> str:
    return " ".join(question.split()).casefold()


def _parse(line: str, where: str) -> Any:
    try:
        if len(line) > MAX_LINE_CHARACTERS:
            raise ValueError("line too long")
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProblemFileError(
            f"{where}: expected one JSON object, got {line[:40]!r}; write one problem a line as JSON"
        ) from error


def _refuse_doubles(problems: Iterable[Problem], path: Path) -> None:
    seen: set[str] = set()
    for problem in problems:
        if problem.id in seen:
            raise ProblemFileError(
                f"{path}: expected unique ids, got '{problem.id}' twice; give every problem its own id"
            )
        seen.add(problem.id)
