"""Where a program comes from and what came of it: its family, generation by generation, and what it has to do with the updates of the generator.

An id names a program, and several candidates may have it: a program may be written again, even by one of its own descendants. So a family is one of candidates. The
ids that a prompt was made of mean the candidate that stands for the program; one that is the same again is somebody's descendant, and nobody's parent. Everything is
asked of the database, by columns: 50,000 programs are no more work than the family itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import CTE, ColumnElement, Select, and_, exists, func, literal, or_, select
from sqlalchemy.orm import aliased

from engine.records import Candidate, Outcome, ProgramId
from engine.rows import AT_ONCE
from engine.schema import CandidateRow, ParentRow
from engine.storable import decoding

if TYPE_CHECKING:
    from engine.store import Store

MOST = 200
"""Candidates of a family in each direction, unless more are asked for."""

_BETTER, _OTHER = aliased(CandidateRow), aliased(CandidateRow)


def _stands(candidate: Any) -> ColumnElement[bool]:
    """Whether a candidate stands for its program: the first that has a score, else the first."""
    same, scored = _BETTER.program_id == candidate.program_id, _BETTER.outcome == Outcome.OK
    earlier = _BETTER.number < candidate.number
    # in parts that an index over programs and outcomes answers at once, be a program written again a thousand times
    first_of_all = ~exists().where(same, scored) & ~exists().where(same, earlier)
    return ~exists().where(same, scored, earlier) & or_(candidate.outcome == Outcome.OK, first_of_all)


_STANDS = _stands(CandidateRow)
_COLUMNS = (
    CandidateRow.number, CandidateRow.program_id, CandidateRow.iteration, CandidateRow.outcome, CandidateRow.reason, CandidateRow.value,
    CandidateRow.asked, CandidateRow.problems, CandidateRow.task, CandidateRow.parents, _STANDS.label("stands"),
)  # fmt: skip


@dataclass(frozen=True)
class Relative:
    """One candidate of a family.

    Attributes:
        number, id, iteration: of the candidate, and of its program.
        outcome, reason: value of `Outcome`; of `sandbox.Reason` where it failed, else None.
        score: dev share 0..1, None where there is none; where it is not `complete`, of what it was asked before the race stopped it.
        complete: whether it has a score on all dev problems.
        task: what was asked for, as in TaskKind.
        parents: ids of the programs that its prompt showed.
        again: another candidate stands for this program: the first that has a score, else the first of all.
    """

    number: int
    id: ProgramId
    iteration: int
    outcome: str
    reason: str | None
    score: float | None
    complete: bool
    task: str
    parents: tuple[ProgramId, ...]
    again: bool


Generations = tuple[tuple[Relative, ...], ...]


@dataclass(frozen=True)
class Family:
    """The family of a program.

    Attributes:
        member: the candidate that stands for the program.
        ancestors: generations, nearest first: the parents, theirs, and so on; each candidate once, in the nearest generation to which it belongs, by number.
        descendants: likewise.
        edges: (number of the parent, number of the child), between those above.
        unknown: ids of parents that are not in the archive (one that was imported in part).
        more_ancestors, more_descendants: how many were left out.
    """

    member: Relative
    ancestors: Generations
    descendants: Generations
    edges: tuple[tuple[int, int], ...]
    unknown: tuple[ProgramId, ...] = ()
    more_ancestors: int = 0
    more_descendants: int = 0


def family(store: Store, program_id: ProgramId, *, limit: int = MOST) -> Family | None:
    """The family of a program; None where nobody in the archive has this id.

    Args:
        limit: candidates in each direction; the nearest generations first.
    """
    found = _standing(store, [program_id])
    if not found:
        return None
    (member,) = found
    up, down = _up(store, member, limit), _down(store, member, limit)
    ancestors, descendants = (sum(map(len, generations)) for generations in (up, down))
    everyone = [member, *(one for some in (*up, *down) for one in some)]
    standing = {one.id: one.number for one in everyone if not one.again}
    edges = {(standing[parent], one.number) for one in everyone for parent in one.parents if parent in standing}
    shown = {
        parent for one in (member, *(one for some in up for one in some)) for parent in one.parents
    } - standing.keys()
    return Family(
        member=member,
        ancestors=up,
        descendants=down,
        edges=tuple(sorted(edges)),
        unknown=tuple(sorted(shown - {one.id for one in _standing(store, shown)})),
        more_ancestors=0 if ancestors < limit else _count(store, ancestors_of(program_id)) - ancestors,
        more_descendants=0 if descendants < limit else _count(store, descendants_of(program_id)) - descendants,
    )


def _up(store: Store, member: Relative, limit: int) -> Generations:
    generations: list[tuple[Relative, ...]] = []
    met, there = {member.id}, 0
    last: tuple[Relative, ...] = (member,)
    while there < limit:
        ids = {parent for one in last for parent in one.parents} - met
        last = _standing(store, ids, limit - there)
        if not last:
            break
        met |= ids
        generations.append(last)
        there += len(last)
    return tuple(generations)


def _down(store: Store, member: Relative, limit: int) -> Generations:
    generations: list[tuple[Relative, ...]] = []
    met, there = {member.number}, 0
    last: tuple[Relative, ...] = (member,)
    while there < limit:
        ids = {one.id for one in last if not one.again}
        children = _written_from(store, ids, limit + 1)  # of those met are at most so many that the others suffice
        last = tuple([one for one in children if one.number not in met][: limit - there])
        if not last:
            break
        met |= {one.number for one in last}
        generations.append(last)
        there += len(last)
    return tuple(generations)


def _standing(store: Store, ids: Collection[ProgramId], limit: int | None = None) -> tuple[Relative, ...]:
    """Those that stand for some programs."""
    return _relatives(store, ids, limit, lambda some: and_(CandidateRow.program_id.in_(some), _STANDS))


def _written_from(store: Store, ids: Collection[ProgramId], limit: int) -> tuple[Relative, ...]:
    """Those whose prompt showed one of some programs."""
    child = select(ParentRow.number).distinct()
    return _relatives(store, ids, limit, lambda some: CandidateRow.number.in_(child.where(ParentRow.parent.in_(some))))


def _relatives(
    store: Store, ids: Collection[ProgramId], limit: int | None, who: Callable[[list[ProgramId]], ColumnElement[bool]]
) -> tuple[Relative, ...]:
    """Whom a condition over some ids finds, by number, the first `limit` of them."""
    wanted, found = sorted(ids), dict[int, Relative]()
    for at in range(0, len(wanted), AT_ONCE):
        question = select(*_COLUMNS).where(who(wanted[at : at + AT_ONCE])).order_by(CandidateRow.number).limit(limit)
        with store.reading() as session, decoding():
            found |= {row.number: _relative(row) for row in session.execute(question)}
    return tuple(found[number] for number in sorted(found)[:limit])


def _relative(row: Any) -> Relative:
    return Relative(
        number=row.number,
        id=row.program_id,
        iteration=row.iteration,
        outcome=row.outcome,
        reason=row.reason,
        score=row.value,
        complete=row.value is not None and row.asked == row.problems,
        task=row.task,
        parents=tuple(row.parents),
        again=not row.stands,
    )


def _count(store: Store, numbers: Select[Any]) -> int:
    with store.reading() as session:
        return session.scalar(select(func.count()).select_from(numbers.subquery())) or 0


def standing_for(program_id: ProgramId) -> Select[Any]:
    """The number of the candidate that stands for a program."""
    return select(CandidateRow.number).where(CandidateRow.program_id == program_id, _STANDS)


def ancestors_of(program_id: ProgramId) -> Select[Any]:
    """The numbers of the candidates that a program comes from, itself not among them.

    What was met is not gone into again, so that a circle ends: there may be one where an archive was put together from several.
    """
    kin: CTE = select(literal(program_id).label("id")).cte("ancestors", recursive=True)
    parents = (
        select(ParentRow.parent)
        .join(CandidateRow, CandidateRow.number == ParentRow.number)
        .join(kin, CandidateRow.program_id == kin.c.id)
        .where(_STANDS)
    )
    kin = kin.union(parents)
    return select(_OTHER.number).join(kin, _OTHER.program_id == kin.c.id).where(_stands(_OTHER), kin.c.id != program_id)


def descendants_of(program_id: ProgramId) -> Select[Any]:
    """The numbers of the candidates that come from a program; see `ancestors_of`."""
    kin: CTE = standing_for(program_id).cte("descendants", recursive=True)
    children = (
        select(ParentRow.number)
        .join(_OTHER, _OTHER.program_id == ParentRow.parent)
        .join(kin, kin.c.number == _OTHER.number)
        .where(_stands(_OTHER))
    )
    kin = kin.union(children)
    return select(kin.c.number).where(kin.c.number.not_in(standing_for(program_id)))


def related(store: Store, chosen: Candidate) -> dict[str, Sequence[str]]:
    """What a candidate has to do with others, in words: parents and children, the updates of the generator that wrote it, those that learnt from it, and the programs
    that behave like it."""
    me, number, version, updates = chosen.program.id, chosen.number, chosen.program.generator, store.updates()
    c = CandidateRow
    named = select(c.number, c.program_id).order_by(c.number)
    with store.reading() as session:
        mine = select(ParentRow.number).where(ParentRow.parent == me)
        children = session.execute(named.where(c.number.in_(mine))).all()
        duplicates = session.execute(named.where(c.duplicate_of == me, c.number != number)).all()
    return {
        "parents": list(chosen.program.parents),
        "children": [row.program_id for row in children],
        "generator learnt from": [
            f"iteration {i}: {len(liked(update))} programs liked, {len(disliked(update))} disliked, by {update.get('method')}"
            for i, update in updates.items()
            if version.isdecimal() and i <= int(version) and update.get("trained")
        ],
        "chosen in learning": [f"after iteration {i}" for i, update in updates.items() if number in liked(update)],
        "rejected in learning": [f"after iteration {i}" for i, update in updates.items() if number in disliked(update)],
        "duplicates": [f"{row.program_id} (candidate {row.number})" for row in duplicates],
    }


def liked(update: Mapping[str, Any]) -> set[int]:
    """Numbers of the candidates that an update taught as good, whatever its method."""
    return {p[0] for p in update.get("pairs", ())} | {*update.get("desirable", ()), *update.get("kept", ())}


def disliked(update: Mapping[str, Any]) -> set[int]:
    """Numbers of those that it taught as bad."""
    return {p[1] for p in update.get("pairs", ())} | {*update.get("undesirable", ())}
