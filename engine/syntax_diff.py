"""Two programs held against each other by syntax: which statements are new, gone or changed, and in a changed one which expressions.

Comments, docstrings, blank lines and formatting play no part. A variable of another name is one change, however often it occurs.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from merges.contract import stripped_tree

ALIKE = 0.4
"""Statements of one kind that have this share of their tokens in common, or more, are one statement that was changed."""

_BLOCKS = frozenset({"body", "orelse", "finalbody", "handlers", "cases"})
_TOKEN = re.compile(r"\w+|[^\w\s]")
_SIGN = (ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.expr_context)
"""Nodes without a place or a text of their own: where these differ, the expression around them does."""

Pair = tuple[ast.AST | None, ast.AST | None]


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

    Raises:
        ProgramError: one of them does not parse.
    """
    old, new = stripped_tree(before), stripped_tree(after)
    return _summed(list(_block(old.body, new.body)))


def _block(old: Sequence[ast.AST], new: Sequence[ast.AST]) -> Iterator[Change]:
    for x, y in _aligned(old, new):
        if x is None and y is not None:
            yield Change("added", "", ast.unparse(y), None, _line(y))
        elif y is None and x is not None:
            yield Change("removed", ast.unparse(x), "", _line(x), None)
        elif x is not None and y is not None:
            yield from _statement(x, y)


def _aligned(old: Sequence[ast.AST], new: Sequence[ast.AST]) -> list[Pair]:
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


def _alike(x: ast.AST, y: ast.AST) -> float:
    """Share of the tokens that two statements have in common, 0..1; 0 where they are of different kinds, or too little alike."""
    if type(x) is not type(y):
        return 0.0
    a, b = (Counter(_TOKEN.findall(ast.unparse(node))) for node in (x, y))
    share = 2 * (a & b).total() / (a.total() + b.total())
    return share if share >= ALIKE else 0.0


def _statement(x: ast.AST, y: ast.AST) -> Iterator[Change]:
    """Two statements of one kind: what differs in their expressions, then what differs in the blocks that they hold."""
    inside = ast.unparse(y).splitlines()[0]
    for name in x._fields:
        if name not in _BLOCKS:
            for a, b in _differing(x, y, name):
                renamed = isinstance(a, ast.Name | ast.arg) and isinstance(b, ast.Name | ast.arg)
                kind: Literal["renamed", "changed"] = "renamed" if renamed else "changed"
                whole = a is x
                texts = [ast.unparse(node).splitlines()[0] if whole else ast.unparse(node) for node in (a, b)]
                yield Change(kind, texts[0], texts[1], _line(a), _line(b), "" if whole or renamed else inside)
                if whole:
                    break
    for name in x._fields:
        if name in _BLOCKS:
            yield from _block(getattr(x, name), getattr(y, name))


def _differing(x: ast.AST, y: ast.AST, name: str) -> Iterator[tuple[ast.AST, ast.AST]]:
    """The smallest expressions in a field of two nodes of one kind that differ; the nodes themselves, where nothing smaller tells."""
    a, b = getattr(x, name, None), getattr(y, name, None)
    items = (a, b) if isinstance(a, list) and isinstance(b, list) and len(a) == len(b) else ([a], [b])
    for one, other in zip(*items, strict=True):
        if _dumped(one) == _dumped(other):
            continue
        smaller = isinstance(one, ast.AST) and type(one) is type(other) and not isinstance(one, _SIGN)
        if not smaller:
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
    return ast.dump(value) if isinstance(value, ast.AST) else value


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
