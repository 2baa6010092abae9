"""Text that a program chose, made safe to show and to store."""

from __future__ import annotations


def clean(text: str, limit: int) -> str:
    """One printable line of at most `limit` bytes in UTF-8: control, separator and surrogate characters are escaped.

    The child cleans what it reports, and the parent cleans it again, because a report may be forged.
    """
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:limit])
    return escaped.encode("utf-8", "backslashreplace")[:limit].decode("utf-8", "ignore")
