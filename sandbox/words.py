"""How the allow-lists are written: names as one paragraph of text, without a quote around each."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """The set of whitespace-separated words of a text."""
    return frozenset(text.split())
