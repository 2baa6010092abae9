"""What `merge_models` declares: the optional inputs it wants and its hyper-parameters. Read from the text; nothing
runs.

A program defines `merge_models(model_dict, device)` at the top level. It may declare `name`, `depth`, `base`, `rng`
by name, and keyword-only arguments with number defaults, which are its hyper-parameters. Other arguments need a
default, and keep it.
"""

from __future__ import annotations

import ast
import math

from sandbox.records import Signature
from sandbox.rules import Refusal

ENTRY = "merge_models"
OPTIONAL_INPUTS = frozenset({"name", "depth", "base", "rng"})

_FORM = "write `def merge_models(model_dict, device):`"


def entry_of(tree: ast.Module) -> ast.FunctionDef | None:
    """The last top-level definition of the entry function, as Python would see it; None if there is none."""
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == ENTRY]
    return found[-1] if found else None


def check_entry(tree: ast.Module) -> Refusal | None:
    """What is wrong with the entry function's signature, or None."""
    entry = entry_of(tree)
    if entry is None:
        return Refusal("signature", ENTRY, None, _FORM + " at the top level")
    arguments = entry.args
    positional = [*arguments.posonlyargs, *arguments.args]
    if len(positional) < 2:
        return Refusal("signature", ENTRY, entry.lineno, _FORM)
    for argument in arguments.posonlyargs[2:]:
        return Refusal("signature", argument.arg, entry.lineno, "optional inputs are passed by name; move the '/'")
    optional = set(positional[2:][: len(positional) - 2 - len(arguments.defaults)])
    required_keywords = {
        a for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default is None
    }
    for argument in sorted(optional | required_keywords, key=lambda a: (a.lineno, a.col_offset)):
        if argument.arg not in OPTIONAL_INPUTS:
            hint = (
                f"'{argument.arg}' is given by nobody: make it keyword-only with a number default (a hyper-parameter)"
            )
            return Refusal("signature", argument.arg, argument.lineno, hint)
    return None


def signature_from(tree: ast.Module) -> Signature:
    """The signature of a program's tree; the empty signature where there is no entry function."""
    entry = entry_of(tree)
    if entry is None:
        return Signature()
    arguments = entry.args
    named = [*arguments.posonlyargs, *arguments.args][2:] + arguments.kwonlyargs
    parameters: dict[str, float | int] = {}
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        value = _number(default)
        if value is not None and argument.arg not in OPTIONAL_INPUTS:
            parameters[argument.arg] = value
    return Signature(frozenset(a.arg for a in named) & OPTIONAL_INPUTS, parameters)


def _number(node: ast.expr | None) -> float | int | None:
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        sign = -1 if isinstance(node.op, ast.USub) else 1
        node = node.operand
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return sign * node.value if _is_finite(node.value) else None
    return None


def _is_finite(value: float) -> bool:
    """Whether it is a number that can be tuned: neither infinite (`1e999`) nor an integer beyond all floats."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
