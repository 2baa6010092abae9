"""Reads bundles, which anyone may have written: a file that is none, or lies about itself, ends in one line.

Bounded before anything is built from it: bytes, depth, programs. Two readers must agree: Python's, which sees keys that stand twice, and pydantic's, which holds the schema.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from engine.bundle import FORMAT, MAX_PROGRAMS, VERSION, Bundle
from engine.errors import UserError
from merges.errors import one_line

MAX_BYTES = 16 * 2**20
"""A thousand programs with the bits of 600 and 2000 problems are half of that."""

MAX_SHOWN = 120
"""Characters of what stood there, in a message."""


class _Refused(ValueError):
    """The text is JSON and no bundle."""


def read_bundle(path: Path) -> Bundle:
    """Read a bundle's file. Its form is sound then; whether it says the truth is not known yet.

    Raises:
        UserError: it is not there, too large, no JSON, or no bundle of this version; one line.
    """
    text = _text(path)
    try:
        _check_plain(json.loads(text, object_pairs_hook=_once, parse_constant=_constant))
        return Bundle.model_validate_json(text)
    except ValidationError as error:
        raise _bad(path, _explained(error)) from error
    except RecursionError as error:
        raise _bad(path, "got values nested too deeply") from error
    except (ValueError, MemoryError) as error:  # its own texts among them: Python's reader says where it stopped
        said = str(error) if isinstance(error, _Refused) else f"got no JSON ({one_line(error)[:MAX_SHOWN]})"
        raise _bad(path, said) from error


def _text(path: Path) -> str:
    try:
        if not path.is_file():  # nor a device or a pipe, which may never end
            raise _bad(path, "got no plain file of that name")
        with path.open("rb") as handle:
            data = handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise _bad(path, f"got {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise _bad(path, f"got one of more than {MAX_BYTES // 2**20} MiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(path, "got text that is not UTF-8") from error


def _check_plain(tree: Any) -> None:
    """What can be told before a model is built, in better words or at less cost."""
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise _Refused(f'got JSON without "format": "{FORMAT}"')
    if tree.get("version") != VERSION:
        raise _Refused(
            f"got version {_shown(tree.get('version'))}, expected {VERSION}; a newer Mergewright may read it"
        )
    programs = tree.get("programs")
    if isinstance(programs, list) and len(programs) > MAX_PROGRAMS:
        raise _Refused(f"got {len(programs)} programs, expected {MAX_PROGRAMS} at most")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys stand once: readers disagree about which of two counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise _Refused(f"got key {_shown(twice)} twice in one object")
    return found


def _constant(name: str) -> NoReturn:
    raise _Refused(f"got the number {name}, which JSON does not have")


def _explained(error: ValidationError) -> str:
    """The first mistake, by its place."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part)[:40] for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"got an unknown key at {place}"
    if first["type"] == "missing":
        return f"got nothing at {place}"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"got at {place or 'the file'} {_shown(first['input'])} where it should be {message[:MAX_SHOWN]}"


def _shown(value: object) -> str:
    text = one_line(repr(value)[: 4 * MAX_SHOWN])
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _bad(path: Path, got: str) -> UserError:
    return UserError(
        one_line(f"bundle '{path}': expected a Mergewright bundle of version {VERSION}, {got}; get it again")
    )
