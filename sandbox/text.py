"""Text that a program chose, made safe to show and to store."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")


def clean(text: str, limit: int) -> str:
    """One printable line of at most `limit` bytes in UTF-8: control, separator and surrogate characters are escaped.

    Hexadecimal numbers become `0x…`: they are memory addresses (`<function f at 0x7f…>`), other ones in every process,
    and details go into archives that must come out alike from the same seeds. It is done before the cut, which would
    otherwise fall elsewhere.
    The child cleans what it reports, and the parent cleans it again, because a report may be forged.
    """
    text = _ADDRESS.sub("0x…", text)
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:limit])
    return escaped.encode("utf-8", "backslashreplace")[:limit].decode("utf-8", "ignore")
