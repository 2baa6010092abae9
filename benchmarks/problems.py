"""Word problems and the JSONL files they come in.

One object a line, GSM8K's form: `question`, and `answer` with worked steps that end in `#### n`. Optional fields: `id`,
`family`. An answer that is a bare number is taken as it stands. The names of the two fields can be given, so that other
people's files need no conversion.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.answers import FINAL_MARK, number
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
        final: the number a right answer ends with, as written (`1,234`).
        family: kind of problem where the benchmark knows kinds, else None.
    """

    id: str
    question: str
    answer: str
    final: str
    family: str | None = None


def final_of(answer: str) -> str | None:
    """The number that a worked solution ends with: after its last `####`, or the whole text if it is a bare number."""
    tail = answer.rpartition(FINAL_MARK)[2].strip()
    return tail if number(tail) is not None else None


def load_jsonl(path: str | Path, *, question: str = "question", answer: str = "answer") -> tuple[Problem, ...]:
    """Reads a problem file.

    Args:
        path: the JSONL file (UTF-8; empty lines are skipped).
        question, answer: names of the two fields.

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
            question=question,
            answer=answer,
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


def problem_of(row: Any, *, where: str, default_id: str, question: str = "question", answer: str = "answer") -> Problem:
    """A problem from one record.

    Args:
        row: an object with the two text fields, as JSON gives it.
        where: file and line, for the message.
        default_id: taken where the record has no `id`.

    Raises:
        ProblemFileError: the record is no problem.
    """
    fix = f'write {{"{question}": "...", "{answer}": "... {FINAL_MARK} 72"}}'
    if not isinstance(row, Mapping):
        raise ProblemFileError(f"{where}: expected one JSON object, got {type(row).__name__}; {fix}")
    for field in (question, answer):
        if not isinstance(row.get(field), str) or not row[field].strip():
            got = "no such field" if field not in row else repr(row[field])[:40]
            raise ProblemFileError(f"{where}: field '{field}': expected a text, got {got}; {fix}")
    final = final_of(row[answer])
    if final is None:
        got = repr(" ".join(row[answer].split())[-40:])
        raise ProblemFileError(f"{where}: field '{answer}': expected to end in '{FINAL_MARK} n', got {got}; {fix}")
    family = row.get("family")
    return Problem(
        id=str(row.get("id") or default_id),
        question=row[question].strip(),
        answer=row[answer].strip(),
        final=final,
        family=family if isinstance(family, str) else None,
    )


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
