"""Two programs held against each other by syntax: which statements are new, gone or changed, and in a changed one which expressions.

Comments, docstrings, blank lines and formatting play no part. A variable of another name is one change, however often it occurs.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

from merges.contract import stripped_tree

ALIKE = 0.4
"""Statements of one kind that have this share of their tokens in common, or more, are one statement that was changed."""

MOST_PAIRS = 250_000
"""Pairs of statements that are looked at to compare two programs: half a second's worth, and five hundred statements against as many."""

_BLOCKS = frozenset({"body", "orelse", "finalbody", "handlers", "cases"})
_TOKEN = re.compile(r"\w+|[^\w\s]")
_SIGN = (ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.expr_context)
"""Nodes without a place or a text of their own: where these differ, the expression around them does."""

Pair = tuple["_Statement | None", "_Statement | None"]


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        kind: "added", "removed", "changed", or "renamed" (a variable, wherever it occurs).
        before, after: source text of what differs; "" where there is none.
        before_line, after_line: 1-based, in the two sources, of the first occurrence; None where there is none.
        inside: first line of the statement, as it is after the change, of which an expression differs; "" where whole statements do.
        times: how often the same change occurs.
    """

    kind: Literal["added", "removed", "changed", "renamed"]
    before: str
    after: str
    before_line: int | None
    after_line: int | None
    inside: str = ""
    times: int = 1


def diff(before: str, after: str) -> list[Change]:
    """The changes that make the second program out of the first, in the order of the text; none where they are the same program.

    Where two blocks have more pairs of statements than are left of `MOST_PAIRS`, what lies between their common beginning and their common end is one change that
    removes it and one that adds it.

    Raises:
        ProgramError: one of them does not parse.
    """
    known: dict[object, int] = {}
    old, new = ([_read(node, known) for node in stripped_tree(source).body] for source in (before, after))
    return _summed(list(_Comparison().block(old, new)))


@dataclass(frozen=True, eq=False)
class _Statement:
    """A statement (a handler, a case), with what is asked of it more than once.

    Attributes:
        node: of the syntax tree.
        says: a number; that of another statement where both say the same.
        head: its text without the blocks that it holds.
        blocks: what it holds: field → statements.
        tokens: of the head and of all that it holds, and how often each; `size` of them.
    """

    node: ast.AST
    says: int
    head: str
    blocks: Mapping[str, Sequence[_Statement]]
    tokens: Counter[str]
    size: int

    @property
    def title(self) -> str:
        """Its first line."""
        return self.head.splitlines()[0]


def _read(node: ast.AST, known: dict[object, int]) -> _Statement:
    """A statement and all that it holds, each written out once. `known`: what was read so far says what."""
    blocks = {name: [_read(one, known) for one in getattr(node, name)] for name in node._fields if name in _BLOCKS}
    fields = {name: [] if name in blocks else getattr(node, name) for name in node._fields}
    head = ast.unparse(ast.copy_location(type(node)(**fields), node))
    tokens = Counter(_TOKEN.findall(head))
    for one in chain(*blocks.values()):
        tokens.update(one.tokens)
    said = (type(node), head, *(tuple(one.says for one in block) for block in blocks.values()))
    return _Statement(node, known.setdefault(said, len(known)), head, blocks, tokens, tokens.total())


class _Comparison:
    """Two programs, as far as they have been compared."""

    def __init__(self) -> None:
        self._pairs_left = MOST_PAIRS

    def block(self, old: Sequence[_Statement], new: Sequence[_Statement]) -> Iterator[Change]:
        """What differs between two blocks. How both begin and end is part of an alignment that has the most in common, and is not looked at again."""
        first = _common(old, new)
        old, new = old[first:], new[first:]
        last = _common(old[::-1], new[::-1])
        old, new = old[: len(old) - last], new[: len(new) - last]
        pairs = len(old) * len(new)
        if pairs > self._pairs_left:
            yield _removed(*old)
            yield _added(*new)
            return
        self._pairs_left -= pairs
        for x, y in _aligned(old, new):
            if x is not None and y is not None:
                yield from self._statement(x, y)
            elif x is not None:
                yield _removed(x)
            elif y is not None:
                yield _added(y)

    def _statement(self, x: _Statement, y: _Statement) -> Iterator[Change]:
        """Two statements of one kind: what differs in their expressions, then what differs in the blocks that they hold."""
        for name in x.node._fields:
            for a, b in () if name in x.blocks else _differing(x.node, y.node, name):
                renamed = isinstance(a, ast.Name | ast.arg) and isinstance(b, ast.Name | ast.arg)
                kind: Literal["renamed", "changed"] = "renamed" if renamed else "changed"
                whole = a is x.node
                texts = (x.title, y.title) if whole else (ast.unparse(a), ast.unparse(b))
                yield Change(kind, *texts, _line(a), _line(b), "" if whole or renamed else y.title)
                if whole:
                    break
        for name in x.blocks:
            yield from self.block(x.blocks[name], y.blocks[name])


def _common(old: Sequence[_Statement], new: Sequence[_Statement]) -> int:
    """How many statements two blocks begin with that say the same."""
    return next(
        (at for at, (x, y) in enumerate(zip(old, new, strict=False)) if x.says != y.says), min(len(old), len(new))
    )


def _removed(*some: _Statement) -> Change:
    return Change("removed", _text(some), "", _line(some[0].node), None)


def _added(*some: _Statement) -> Change:
    return Change("added", "", _text(some), None, _line(some[0].node))


def _text(some: Sequence[_Statement]) -> str:
    return "\n".join(ast.unparse(one.node) for one in some)


def _aligned(old: Sequence[_Statement], new: Sequence[_Statement]) -> list[Pair]:
    """The alignment of two lists that has the most in common, in order: pairs of statements that are alike, and the others alone."""
    shares = [[_alike(x, y) for y in new] for x in old]
    best = [[0.0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for i in reversed(range(len(old))):
        for j in reversed(range(len(new))):
            best[i][j] = max(shares[i][j] + best[i + 1][j + 1], best[i + 1][j], best[i][j + 1])
    i = j = 0
    found: list[Pair] = []
    while i < len(old) and j < len(new):
        if shares[i][j] and best[i][j] == shares[i][j] + best[i + 1][j + 1]:
            found.append((old[i], new[j]))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            found.append((old[i], None))
            i += 1
        else:
            found.append((None, new[j]))
            j += 1
    return found + [(x, None) for x in old[i:]] + [(None, y) for y in new[j:]]


def _alike(x: _Statement, y: _Statement) -> float:
    """Share of the tokens that two statements have in common, 0..1; 0 where they are of different kinds, or too little alike."""
    if type(x.node) is not type(y.node):
        return 0.0
    few, many = sorted((x.tokens, y.tokens), key=len)
    share = 2 * sum(min(count, many.get(token, 0)) for token, count in few.items()) / (x.size + y.size)
    return share if share >= ALIKE else 0.0


def _differing(x: ast.AST, y: ast.AST, name: str) -> Iterator[tuple[ast.AST, ast.AST]]:
    """The smallest expressions in a field of two nodes of one kind that differ; the nodes themselves, where nothing smaller tells."""
    a, b = getattr(x, name, None), getattr(y, name, None)
    items = (a, b) if isinstance(a, list) and isinstance(b, list) and len(a) == len(b) else ([a], [b])
    for one, other in zip(*items, strict=True):
        smaller = isinstance(one, ast.AST) and type(one) is type(other) and not isinstance(one, _SIGN)
        if not smaller:
            if _dumped(one) == _dumped(other):
                continue
            distinct = isinstance(one, ast.expr) and isinstance(other, ast.expr)
            yield (one, other) if distinct else (x, y)
            return
        found = [pair for field in one._fields for pair in _differing(one, other, field)]
        placed = hasattr(one, "lineno") or isinstance(one, ast.arguments)
        if any(pair[0] is one for pair in found):
            yield (one, other) if placed and not isinstance(one, ast.arguments) else (x, y)
        else:
            yield from found


def _dumped(value: object) -> object:
    if isinstance(value, list):
        return [_dumped(one) for one in value]
    return ast.dump(value) if isinstance(value, ast.AST) else repr(value)  # 1, 1.0 and True are equal, and not the same


def _line(node: ast.AST) -> int | None:
    return getattr(node, "lineno", None)


def _summed(changes: Sequence[Change]) -> list[Change]:
    """The same change of an expression or a name once, with how often it occurs."""
    first: dict[tuple[str, str, str], Change] = {}
    found = []
    for change in changes:
        key = (change.kind, change.before, change.after)
        if change.kind in ("added", "removed"):
            found.append(change)
        elif key in first:
            first[key] = replace(first[key], times=first[key].times + 1)
        else:
            first[key] = change
            found.append(change)
    return [
        first.get((one.kind, one.before, one.after), one) if one.kind not in ("added", "removed") else one
        for one in found
    ]
