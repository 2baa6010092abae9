"""The gate: from any text to a verdict, and from an accepted text to code whose guards are in place.

`check` runs in the host: a size cap, a parse, a depth cap and the transformer. It compiles nothing (compiling is an
attack surface) and never raises for what the text says. `compile_program` runs only in the confined child.
"""

from __future__ import annotations

import ast
import contextlib
import re
import unicodedata
import warnings
from types import CodeType

from sandbox.reasons import Reason
from sandbox.records import Limits, Signature, Verdict
from sandbox.rules import PolicyViolation, Refusal
from sandbox.signature import check_entry, signature_from
from sandbox.text import clean
from sandbox.transformer import MergeTransformer

CANDIDATE_FILE = "<candidate>"
"""File name of a program's code; tracebacks and guards know a program's frames and functions by it."""

MAX_DEPTH = 120
"""Deepest nesting of the syntax tree: the transformer and the compiler recurse, and the host's stack is not the
candidate's."""

MAX_NODES = 40_000

MAX_BRACES = 2_000
"""Opening braces: the parser is started anew for each expression in an f-string, a second for sixteen thousand."""

_PARSE_TRIES = 10
_MARKS_IN_A_ROW = 8
_DOTS_IN_A_ROW = 30
_CHAIN = re.compile(rf"(?:\.\s*\w+\s*){{{_DOTS_IN_A_ROW + 1}}}")

_PARSE_ERRORS = (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError)
# ValueError: null bytes, huge integers; MemoryError: the parser's own stack is full; SyntaxError covers bad
# indentation.


class _TooDeep(Exception):
    pass


def _check_text(text: str) -> None:
    """Refuse what costs Python's parser far more than its length: it runs in the host, and nothing limits it there.

    Measured for 64 KiB: 24 s for a name with 30,000 combining marks (their canonical order is found by insertion, for each rule that
    tries the name), 1.1 GB for `import a.b.b.b…` (every prefix is kept), 1 s for f-strings with 16,000 expressions.

    Raises:
        SyntaxError: it is such a text.
    """
    if text.count("{") > MAX_BRACES:
        raise SyntaxError(f"more than {MAX_BRACES} opening braces")
    if _CHAIN.search(text):
        raise SyntaxError(f"more than {_DOTS_IN_A_ROW} dots in a row")
    if not text.isascii():
        marks = 0
        for character in text:
            marks = marks + 1 if unicodedata.combining(character) else 0
            if marks > _MARKS_IN_A_ROW:
                raise SyntaxError(f"more than {_MARKS_IN_A_ROW} combining characters in a row")


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


def _tree(text: str) -> ast.Module:
    """`ast.parse`, again where Python's own count of depth was disturbed.

    CPython counts the depth of the tree it builds in one place for all threads: where the garbage collector lets another thread
    parse meanwhile, `SystemError: AST constructor recursion depth mismatch` is raised (cpython issue 106905 and others).
    """
    for _ in range(_PARSE_TRIES - 1):
        with contextlib.suppress(SystemError):
            return ast.parse(text, filename=CANDIDATE_FILE)
    return ast.parse(text, filename=CANDIDATE_FILE)


def parse(source: str | bytes) -> ast.Module:
    """The syntax tree of a text nobody trusts, within the depth and size limits. For every place that reads programs.

    Raises:
        SyntaxError, ValueError, MemoryError, RecursionError, OverflowError: from Python's parser.
    """
    text = _text(source)
    _check_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an odd escape in a string is no reason to warn, or to fail, in the host
        tree = _tree(text)
    try:
        _check_shape(tree)
    except _TooDeep as error:
        raise SyntaxError(str(error)) from None
    return tree


def _syntax_verdict(error: BaseException, detail_bytes: int) -> Verdict:
    line = error.lineno if isinstance(error, SyntaxError) else None
    words = error.msg if isinstance(error, SyntaxError) else str(error)
    if isinstance(error, MemoryError | RecursionError):
        words = "nested too deeply"
    return Verdict(False, Reason.SYNTAX, clean(f"{type(error).__name__}: {words}", detail_bytes), line, None)


def _first_refusal(tree: ast.Module) -> Refusal | None:
    """Checks the entry, then rewrites `tree` in place; the refusal that stands first in the text, or None."""
    transformer = MergeTransformer(tree)
    entry = check_entry(tree)
    transformer.visit(tree)
    return transformer.first_refusal() or entry


def check(source: str | bytes, limits: Limits | None = None) -> Verdict:
    """The static gate. Runs nothing of the program.

    Args:
        source: the program's text; bytes are read as UTF-8.
        limits: `source_bytes` and `detail_bytes` are used; the default limits if None.

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
        return _syntax_verdict(error, limits.detail_bytes)
    if refusal is not None:
        return Verdict(False, Reason.POLICY, clean(refusal.detail, limits.detail_bytes), refusal.line, refusal.rule)
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
    return compile(tree, CANDIDATE_FILE, "exec", dont_inherit=True)
