"""Questions to an archive: which candidates, in which order, and how many of them. `Store.find` answers them inside the database, whatever its size."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import eq, ge, gt, le, lt
from typing import Any

from sqlalchemy import ColumnElement, Select, false, func, literal, select
from sqlalchemy.orm import InstrumentedAttribute

from engine.descriptors import NUMBERS
from engine.errors import ConfigError
from engine.lineage import ancestors_of, descendants_of
from engine.ranking import best_first
from engine.records import Candidate, Outcome, ProgramId
from engine.schema import CandidateRow, DescriptorRow, SourceRow
from engine.storable import escape

FACTS = {
    "score": CandidateRow.value,
    "number": CandidateRow.number,
    "iteration": CandidateRow.iteration,
    "seconds": CandidateRow.execute_seconds,
    "memory": CandidateRow.peak_memory_bytes,
}
"""What is searched and sorted by beside the descriptors: the dev score 0..1, the number and iteration of a candidate, what it cost in the sandbox (s, bytes)."""

NAMES = (*FACTS, *NUMBERS)
"""Names in conditions, and to sort by."""

CONDITION_PATTERN = (
    rf"^\s*({'|'.join(NAMES)})\s*(>=|<=|>|<|=)\s*[-+]?([0-9]+([.][0-9]*)?|[.][0-9]+)(e[-+]?[0-9]+)?\s*%?\s*$"
)
"""What `condition` takes, as a regular expression for those who describe it."""

MOST_TEXT = 3000
"""Characters of a text to search for: SQLite takes patterns of 50,000 bytes, and a character may come to 15 of them (`storable.escape`)."""

MOST_AT_ONCE = 100
"""Conditions, and operations, of one question: databases bound how deep one may be."""

_HEX_DIGITS = frozenset("0123456789abcdef")

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {">=": ge, "<=": le, ">": gt, "<": lt, "=": eq}
_CONDITION = re.compile(r"\s*([a-z_]+)\s*(>=|<=|>|<|=)\s*([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)\s*(%?)\s*")


@dataclass(frozen=True)
class Condition:
    """`name comparison value`, such as rest > 0.1."""

    name: str
    comparison: str
    value: float


def condition(text: str) -> Condition:
    """Read one condition; a value with % is a hundredth of it.

    Raises:
        ConfigError: it is none, or of an unknown name.
    """
    parts = _CONDITION.fullmatch(text)
    try:
        value = float(parts[3]) if parts else 0.0
    except ValueError:
        parts = None
    if not parts:
        raise ConfigError(
            f"condition '{text}': expected NAME, one of {' '.join(_COMPARISONS)} and a number, such as 'rest>0.1'; write it so"
        )
    if parts[1] not in NAMES:
        raise ConfigError(
            f"condition '{text}': expected a name out of {', '.join(NAMES)}, got '{parts[1]}'; choose one"
        )
    return Condition(parts[1], parts[2], value / 100 if parts[4] else value)


@dataclass(frozen=True)
class Query:
    """Which candidates. A duplicate has no descriptors and no operations of its own: it meets no condition on them, and comes last in an order by one.

    Attributes:
        verdict: value of `Outcome`; None: any.
        iteration, generator: in which it was written, and by which version; None: any.
        operations: all of these are called in its text, MOST_AT_ONCE at most; case matters, as it does in Python.
        text: stands in its source, whatever the case, MOST_TEXT characters at most; "" anywhere.
        conditions: all of these hold, MOST_AT_ONCE at most. What has no such number does not meet a condition on it.
        sort: a name out of NAMES, those that have no such number last; None: as `ranking.best_first` has it.
        falling: the largest first, where `sort` is given.
        limit, offset: how many, after how many; limit None: all.
        ancestors_of, descendants_of: whole ids; of the families of these programs (`lineage.family`), who came before them or after them. None: anybody.
    """

    verdict: str | None = None
    iteration: int | None = None
    generator: str | None = None
    operations: Sequence[str] = ()
    text: str = ""
    conditions: Sequence[Condition] = ()
    sort: str | None = None
    falling: bool = False
    limit: int | None = None
    offset: int = 0
    ancestors_of: ProgramId | None = None
    descendants_of: ProgramId | None = None

    def __post_init__(self) -> None:
        """Refuse names that nobody knows, and more than a database takes.

        Raises:
            ConfigError: an unknown verdict, or an unknown name to sort by; a text too long, or too many operations or conditions.
        """
        if len(self.text) > MOST_TEXT:
            raise ConfigError(
                f"text: expected {MOST_TEXT} characters at most, got {len(self.text)}; search for a part of it"
            )
        for what, given in (("operations", self.operations), ("conditions", self.conditions)):
            if len(given) > MOST_AT_ONCE:
                raise ConfigError(f"{what}: expected {MOST_AT_ONCE} at most, got {len(given)}; leave some out")
        if self.verdict is not None and self.verdict not in set(Outcome):
            raise ConfigError(f"verdict: expected one of {', '.join(Outcome)}, got '{self.verdict}'; choose one")
        if self.sort is not None and self.sort not in NAMES:
            raise ConfigError(f"sort: expected one of {', '.join(NAMES)}, got '{self.sort}'; choose one")


def question(*, where: Sequence[str] | None = None, sort: str | None = None, **others: Any) -> Query:
    """A question in a user's words.

    Args:
        where: conditions as text.
        sort: a name to sort by, smallest first; -NAME: largest first; nothing: best first.
        others: as in `Query`.

    Raises:
        ConfigError: a condition that is none, or a name that nobody knows.
    """
    conditions = [condition(one) for one in where or ()]
    order = sort or ""
    return Query(conditions=conditions, sort=order.removeprefix("-") or None, falling=order.startswith("-"), **others)


def in_order(candidates: Sequence[Candidate], query: Query) -> list[Candidate]:
    """Candidates of several archives, each already in the order of `query`, in that order all together; its limit holds for all."""
    if query.sort is None:
        return sorted(candidates, key=best_first)[: query.limit]
    sign = -1 if query.falling else 1
    values = [(_value(c, query.sort), c) for c in candidates]
    ordered = sorted(values, key=lambda one: (one[0] is None, sign * (one[0] or 0.0)))
    return [c for _, c in ordered][: query.limit]


def _value(candidate: Candidate, name: str) -> float | None:
    a = candidate.assessment
    facts = {
        "score": candidate.score,
        "number": candidate.number,
        "iteration": candidate.iteration,
        "seconds": a.execute_seconds,
        "memory": a.peak_memory_bytes,
    }
    if name in facts:
        return facts[name]
    return a.descriptors.numbers[name] if a.descriptors else None


def selected(query: Query, database: str) -> Select[Any]:
    """The numbers of the candidates that `query` asks for, in its order, all of them: `limit` and `offset` are left to the caller.

    Args:
        database: "sqlite" or another one that SQLAlchemy knows.
    """
    found = select(CandidateRow.number)
    names = {one.name for one in query.conditions} | {query.sort}
    if query.operations or names & set(NUMBERS):
        found = found.outerjoin(DescriptorRow, _described())
    return found.where(*_conditions(query, database)).order_by(*_order(query))


def _described() -> ColumnElement[bool]:
    """Descriptors are those of a program, and one that was described may come again, as a duplicate or to fail: then they are not the candidate's."""
    probed = CandidateRow.behaviour.is_not(None) & CandidateRow.duplicate_of.is_(None)
    return (DescriptorRow.program_id == CandidateRow.program_id) & probed


def ids_beginning(text: str) -> Select[Any]:
    """The ids that begin with a text, each once, sorted. A range and not a pattern: it is what an index answers. Ids are hex digits, so what has others begins none."""
    found = select(CandidateRow.program_id).distinct().order_by(CandidateRow.program_id)
    if not set(text) <= _HEX_DIGITS:
        return found.where(false())
    return found.where(CandidateRow.program_id >= text, CandidateRow.program_id < text + "g")


def _conditions(query: Query, database: str) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    for column, value in (
        (CandidateRow.outcome, query.verdict),
        (CandidateRow.iteration, query.iteration),
        (CandidateRow.generator, query.generator and escape(query.generator)),
    ):
        if value is not None:
            wanted.append(column == value)
    if query.text:
        # SQLite's LIKE cares for no case as it is (of ASCII letters), and to turn every source into small letters takes twice as long;
        # elsewhere the letters of ASCII too, whatever the database's language: quicker, and what is found is the same
        source = SourceRow.source
        anywhere = source.contains if database == "sqlite" else source.collate("C").icontains
        wanted.append(CandidateRow.number.in_(select(SourceRow.number).where(anywhere(query.text, autoescape=True))))
    if query.ancestors_of is not None:
        wanted.append(CandidateRow.number.in_(ancestors_of(query.ancestors_of)))
    if query.descendants_of is not None:
        wanted.append(CandidateRow.number.in_(descendants_of(query.descendants_of)))
    # not LIKE, which ignores case in SQLite
    called, place = DescriptorRow.operations, func.instr if database == "sqlite" else func.strpos
    wanted += [place(called, literal(f" {name} ", called.type)) > 0 for name in query.operations]
    wanted += [_COMPARISONS[one.comparison](_column(one.name), one.value) for one in query.conditions]
    return wanted


def _order(query: Query) -> list[ColumnElement[Any]]:
    """Those without a value come last, and of equals the earlier one first."""
    column = CandidateRow.standing if query.sort is None else _column(query.sort)
    falling = query.falling or query.sort is None
    return [(column.desc() if falling else column.asc()).nulls_last(), CandidateRow.number.asc()]


def _column(name: str) -> InstrumentedAttribute[Any]:
    found: InstrumentedAttribute[Any] = FACTS[name] if name in FACTS else getattr(DescriptorRow, name)
    return found
