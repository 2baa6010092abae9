"""The gate: from any text to a verdict, and from an accepted text to code whose guards are in place.

`check` runs in the host: a size cap, a parse, a depth cap and the transformer. It compiles nothing (compiling is an
attack surface) and never raises for what the text says. `compile_program` runs only in the confined child.
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType

from sandbox.reasons import Reason
from sandbox.records import Limits, Signature, Verdict
from sandbox.rules import PolicyViolation, Refusal
from sandbox.signature import check_entry, signature_from
from sandbox.transformer import MergeTransformer

CANDIDATE_FILE = "<candidate>"
"""File name of a program's code; tracebacks and guards know a program's frames and functions by it."""

MAX_DEPTH = 120
"""Deepest nesting of the syntax tree: the transformer and the compiler recurse, and the host's stack is not the
candidate's."""

MAX_NODES = 40_000

_PARSE_ERRORS = (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError)
# ValueError: null bytes, huge integers; MemoryError: the parser's own stack is full; SyntaxError covers bad
# indentation.


class _TooDeep(Exception):
    pass


def _text(source: str | bytes) -> str:
    return source.decode("utf-8") if isinstance(source, bytes) else source


def _check_shape(tree: ast.AST) -> None:
    """Raise where the tree is deeper or larger than the limits. Not recursive."""
    level, count, depth = [tree], 0, 0
    while level:
        count, depth = count + len(level), depth + 1
        if depth > MAX_DEPTH or count > MAX_NODES:
            raise _TooDeep(f"nested deeper than {MAX_DEPTH}" if depth > MAX_DEPTH else f"more than {MAX_NODES} nodes")
        level = [child for node in level for child in ast.iter_child_nodes(node)]


def parse(source: str | bytes) -> ast.Module:
    """The syntax tree of a text, within the depth and size limits.

    Raises:
        SyntaxError, ValueError, MemoryError, RecursionError, OverflowError: from Python's parser.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an odd escape in a string is no reason to warn, or to fail, in the host
        tree = ast.parse(_text(source), filename=CANDIDATE_FILE)
    try:
        _check_shape(tree)
    except _TooDeep as error:
        raise SyntaxError(str(error)) from None
    return tree


def _syntax_verdict(error: BaseException) -> Verdict:
    line = error.lineno if isinstance(error, SyntaxError) else None
    words = error.msg if isinstance(error, SyntaxError) else str(error)
    if isinstance(error, MemoryError | RecursionError):
        words = "nested too deeply"
    return Verdict(False, Reason.SYNTAX, f"{type(error).__name__}: {words}", line, None)


def _first_refusal(tree: ast.Module) -> Refusal | None:
    """Checks the entry, then rewrites `tree` in place; the refusal that stands first in the text, or None."""
    transformer = MergeTransformer(tree)
    entry = check_entry(tree)
    transformer.visit(tree)
    refusals = sorted(transformer.refusals, key=lambda refusal: refusal.line or 0)
    return refusals[0] if refusals else entry


def check(source: str | bytes, limits: Limits | None = None) -> Verdict:
    """The static gate. Runs nothing of the program.

    Args:
        source: the program's text; bytes are read as UTF-8.
        limits: only `source_bytes` is used; the default limits if None.

    Returns:
        A verdict; never an exception for what the text says.
    """
    limits = limits or Limits()
    try:
        length = len(source if isinstance(source, bytes) else source.encode("utf-8"))
        if length > limits.source_bytes:
            detail = f"the program has {length} bytes; the limit is {limits.source_bytes}"
            return Verdict(False, Reason.SOURCE_SIZE, detail, None, None)
        tree = parse(source)
        refusal = _first_refusal(tree)
    except _PARSE_ERRORS as error:
        return _syntax_verdict(error)
    if refusal is not None:
        return Verdict(False, Reason.POLICY, refusal.detail, refusal.line, refusal.rule)
    return Verdict(True)


def signature_of(source: str | bytes) -> Signature:
    """What a program declares. Raises nothing for a source that `check` accepted; otherwise as `parse`."""
    return signature_from(parse(source))


def compile_program(source: str) -> CodeType:
    """Guarded code of a program. For the confined child only.

    Raises:
        PolicyViolation: the gate refuses the text (the host checks first, so this is a second line).
        SyntaxError and the other errors of `parse`.
    """
    tree = parse(source)
    refusal = _first_refusal(tree)
    if refusal is not None:
        raise PolicyViolation(refusal)
    ast.fix_missing_locations(tree)
    with _no_source_file():
        return compile(tree, CANDIDATE_FILE, "exec", dont_inherit=True)


_quoting = False


@contextmanager
def _no_source_file() -> Iterator[None]:
    """Keep the compiler from opening a file of the candidate's name to quote the faulty line in its SyntaxError.

    The confined child would be killed for it, and an honest mistake (a parameter named twice) would read as an attack.
    The interpreter asks its audit hooks first, and takes a refusal for "no such file".
    """
    global _quoting
    if not _hooked:
        sys.addaudithook(_refuse_while_compiling)
        _hooked.append(True)
    _quoting = True
    try:
        yield
    finally:
        _quoting = False


_hooked: list[bool] = []


def _refuse_while_compiling(event: str, _arguments: object) -> None:
    if _quoting and event == "open":
        raise PermissionError("the compiler quotes no source")
