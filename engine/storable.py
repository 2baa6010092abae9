"""Text and plain values of any kind, as every database takes them, and back exactly.

PostgreSQL refuses the NUL character in text; no database's encoding has lone surrogates, which an endpoint's JSON may bring; JSON has no number that is not finite,
and a training that fails reports one. Candidates are hostile: none of this may stop a run. What holds nothing of the kind is stored as it is.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Dialect, Text, TypeDecorator

_MARK, _ZERO = 0xFDEF, 0xFDD0
"""Noncharacters of Unicode: the mark of an escape, and the first of the sixteen that stand for hex digits after it. No search for words ever meets them."""

_STRANGE = re.compile(f"[\\x00\\ud800-\\udfff{chr(_MARK)}]")
_ESCAPED = re.compile(f"{chr(_MARK)}([{chr(_ZERO)}-{chr(_ZERO + 15)}]{{4}})")


class DamagedError(ValueError):
    """A row holds what nobody has stored. `archive_faults` makes it the user's line."""


@contextmanager
def decoding() -> Iterator[None]:
    """Stands around the making of records from rows, and around nothing else: what fails here is the archive's fault.

    Raises:
        DamagedError: a value is not of its kind, or its other half is missing.
    """
    try:
        yield
    except DamagedError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"a row that cannot be read ({type(error).__name__}: {error})") from error


def escape(text: str) -> str:
    """Text without NUL and lone surrogates; these, and the mark itself, become the mark and four digits."""
    return _STRANGE.sub(lambda found: chr(_MARK) + _digits(ord(found[0])), text) if _STRANGE.search(text) else text


def unescape(text: str) -> str:
    """The text that `escape` was given."""
    return _ESCAPED.sub(lambda found: chr(_number(found[1])), text) if chr(_MARK) in text else text


def _digits(number: int) -> str:
    return "".join(chr(_ZERO + int(digit, 16)) for digit in f"{number:04x}")


def _number(digits: str) -> int:
    return int("".join(f"{ord(digit) - _ZERO:x}" for digit in digits), 16)


class AnyText(TypeDecorator[str]):
    """A column for text that somebody else wrote."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """See `escape`."""
        return None if value is None else escape(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """See `unescape`."""
        with decoding():
            return None if value is None else unescape(value)


_NUL_KEY = '"\\u0000'
"""How the key of an escape begins in JSON, and any key of somebody else's that has to be escaped for it."""


def dumps(value: Any) -> str:
    """JSON in ASCII. A number that is not finite is {NUL: its name}, and a key that begins with NUL has one more; anything else is as `json` has it."""
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        text = _NUL_KEY
    return json.dumps(_marked(value)) if _NUL_KEY in text else text


def loads(text: str | bytes) -> Any:
    """What `dumps` was given, tuples as lists; also JSON as Python writes it, with NaN and Infinity, of archives of before.

    Raises:
        DamagedError: it is no JSON.
    """
    with decoding():
        plain = text.decode() if isinstance(text, bytes) else text
        return json.loads(plain, object_hook=_unmarked if _NUL_KEY in plain else None)


def _marked(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"\0": str(value)}
    if isinstance(value, dict):
        return {f"\0{key}" if str(key).startswith("\0") else key: _marked(one) for key, one in value.items()}
    return [_marked(one) for one in value] if isinstance(value, list | tuple) else value


def _unmarked(found: dict[str, Any]) -> Any:
    if set(found) == {"\0"}:
        return float(found["\0"])
    return {key.removeprefix("\0"): one for key, one in found.items()}
