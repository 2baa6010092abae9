"""What can be taken away from a program, or turned in it, one thing at a time: its ablations as source text. Nothing is run here.

Five kinds of change, each at every place where it makes sense:

- without: a statement is left out, an `if` with all that it holds;
- always: what an `if` holds is done whatever its condition;
- only: of a sum, product or power one side is kept, of a call what goes in;
- evenly: a number for each expert becomes their mean, so that all count alike;
- times: a number that stands in the text is halved, or doubled.

Many of them cannot run, or change nothing: that shows where they are run (`engine/ablation.py`), and is no mistake.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from sandbox import parse

Kind = Literal["without", "always", "only", "evenly", "times"]

SMALLEST_NUMBER = 1e-5
"""In absolute value: smaller ones keep divisions sound, and half of them keeps it as well. To do without is to keep one side of their sum."""

MOST_VARIANTS = 400
"""Of one program: the larger changes, which are found first. The pocket generator's have some fifty; a pocket model answers for four hundred in ten minutes."""

_COMMUTES = (ast.Add, ast.Mult)
_HELPER = "evened"
_MOST_EXPERTS = 8
"""A vector with more entries is no number for each expert."""


@dataclass(frozen=True)
class Variant:
    """A program with one thing changed.

    Attributes:
        kind: see the module.
        line: 1-based, in the program, of what is changed.
        before: source text of it.
        after: what stands there now; "" where nothing does.
        source: of the variant.
    """

    kind: Kind
    line: int
    before: str
    after: str
    source: str


def variants(source: str, *, most: int = MOST_VARIANTS) -> list[Variant]:
    """Those of a program that the gate lets pass, from the first line to the last, and at one place the larger change first. Two of one text are given once.

    Args:
        most: of these; the changes of whole statements come before those inside them.
    """
    return sorted(islice(_distinct(parse(source)), most), key=lambda one: one.line)


def _distinct(tree: ast.Module) -> Iterator[Variant]:
    seen = {ast.unparse(tree)}
    for at, node in enumerate(ast.walk(tree)):
        for kind, new, after in _changes(node, _in_loop(tree, node)):
            text = _changed(tree, at, new, helper=kind == "evenly")
            if text is not None and text not in seen:
                seen.add(text)
                yield Variant(kind, node.lineno, _head(node), after, text)  # type: ignore[attr-defined]


def _changes(node: ast.AST, in_loop: bool) -> Iterator[tuple[Kind, Sequence[ast.AST], str]]:
    """(kind, what stands in the node's place, its text) for each change of one node."""
    match node:
        case ast.Assign(targets=[ast.Name(name)], value=ast.Call() | ast.BinOp() as value):
            yield "without", [ast.Pass()], ""
            called = ast.Call(ast.Name(_HELPER, ast.Load()), [value, ast.Constant(in_loop)], [])
            yield "evenly", [ast.Assign([ast.Name(name, ast.Store())], called)], f"{name}: the same for every expert"
        case ast.Assign() | ast.AugAssign() | ast.For():
            yield "without", [ast.Pass()], ""
        case ast.If(body=body, orelse=orelse):
            yield "without", orelse or [ast.Pass()], "\n".join(map(_head, orelse))
            yield "always", body, "\n".join(map(_head, body))
        case ast.IfExp(body=body, orelse=orelse):
            yield from (("only", [kept], ast.unparse(kept)) for kept in (body, orelse))
        case ast.BinOp(left=left, op=op, right=right):
            sides = (left, right) if isinstance(op, _COMMUTES) else (left,)
            yield from (("only", [kept], ast.unparse(kept)) for kept in sides if not _is_tiny(kept))
        case ast.Call(func=ast.Attribute(value=ast.Name("torch" | "math")), args=[ast.expr() as first, *_]):
            yield "only", [first], ast.unparse(first)
        case ast.Call(func=ast.Attribute(value=owner)):
            yield "only", [owner], ast.unparse(owner)
        case ast.Call(func=ast.Name(), args=[ast.expr() as first, *_]):
            yield "only", [first], ast.unparse(first)
        case ast.Constant(value=float(number)) if not _is_tiny(node):
            for factor in (0.5, 2.0):
                turned = float(f"{factor * number:.6g}")
                yield "times", [ast.Constant(turned)], repr(turned)


def _is_tiny(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, float) and abs(node.value) <= SMALLEST_NUMBER


def _head(node: ast.AST) -> str:
    """Text of a node; of one that holds a block, its first line."""
    text = ast.unparse(node)
    return text.split("\n", 1)[0] if isinstance(node, (ast.For, ast.If)) else text


def _in_loop(tree: ast.AST, node: ast.AST) -> bool:
    """Whether a statement stands in a loop, as one does that is run for each expert."""
    loops = (one for one in ast.walk(tree) if isinstance(one, ast.For))
    return any(inner is node for loop in loops for inner in ast.walk(loop))


def _changed(tree: ast.Module, at: int, new: Sequence[ast.AST], *, helper: bool) -> str | None:
    """The program with its node number `at`, as they are walked, replaced."""
    whole = copy.deepcopy(tree)
    target = next(node for place, node in enumerate(ast.walk(whole)) if place == at)
    _Replace(target, copy.deepcopy(list(new))).visit(whole)
    if helper:
        if any(isinstance(one, ast.FunctionDef) and one.name == _HELPER for one in tree.body):
            return None
        whole.body.append(_evening())
    return ast.unparse(ast.fix_missing_locations(whole))


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, new: list[ast.AST]) -> None:
        self._target, self._new = target, new

    def visit(self, node: ast.AST) -> ast.AST | list[ast.AST]:
        """The node, or what stands in its place."""
        if node is self._target:
            return self._new if isinstance(node, ast.stmt) else self._new[0]
        return self.generic_visit(node)


def _evening() -> ast.stmt:
    """The function that makes the experts count alike: a number for each becomes their mean, and one that is worked out for each becomes 1."""
    text = f"""
def {_HELPER}(found, for_each):
    if found.dim() == 1 and found.numel() <= {_MOST_EXPERTS}:
        return found * 0 + found.mean()
    if found.dim() == 0 and for_each:
        return found * 0 + 1
    return found
"""
    return ast.parse(text).body[0]
