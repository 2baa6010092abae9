"""A family as two trees, up and down, for a page: who can be reached by several ways is gone into where it is met first."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from engine.lineage import Family, Relative

MOST_SHOWN = 60
"""Relatives in each direction."""


@dataclass(frozen=True)
class Kin:
    """A relative and who follows from it: its parents on the way up, its children on the way down."""

    relative: Relative
    further: tuple[Kin, ...]


def ancestors(found: Family) -> tuple[Kin, ...]:
    """The tree up, from the program's parents."""
    return _tree(found, found.ancestors, ((child, parent) for parent, child in found.edges))


def descendants(found: Family) -> tuple[Kin, ...]:
    """The tree down, from the programs that were written from it."""
    return _tree(found, found.descendants, found.edges)


def _tree(
    found: Family, generations: Iterable[Iterable[Relative]], steps: Iterable[tuple[int, int]]
) -> tuple[Kin, ...]:
    people = {one.number: one for some in generations for one in some}
    after: dict[int, list[int]] = {}
    for here, there in steps:
        if there in people:
            after.setdefault(here, []).append(there)
    branches: dict[int, list[int]] = {}
    waiting, placed = deque([found.member.number]), {found.member.number}
    while waiting:  # nearest first: nobody hangs deeper than its generation
        here = waiting.popleft()
        branches[here] = [one for one in after.get(here, ()) if one not in placed]
        placed.update(branches[here])
        waiting.extend(branches[here])
    made: dict[int, Kin] = {}
    for here in reversed(list(branches)):
        if here in people:
            made[here] = Kin(people[here], tuple(made[one] for one in branches[here]))
    return tuple(made[one] for one in branches[found.member.number])
