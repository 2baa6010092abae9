"""One line each, one tree, everything exported."""

from __future__ import annotations

import inspect

from hypothesis import given
from hypothesis import strategies as st

import merges
from merges import errors
from merges.errors import MAX_MESSAGE_CHARACTERS, CheckpointError, MergeError, one_line

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]


@given(st.text())
def test_any_foreign_text_becomes_one_printable_line(text):
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert line.isprintable()
    assert len(line) <= MAX_MESSAGE_CHARACTERS


def test_messages_are_folded_and_cut():
    assert str(CheckpointError("a\nb\x1b[31m\tc")) == "a b [31m c"
    cut = str(CheckpointError("what " + "x" * 10_000 + " advice"))
    assert len(cut) == MAX_MESSAGE_CHARACTERS
    assert cut.startswith("what x")
    assert cut.endswith("x advice")


def test_every_kind_is_in_the_tree_in_its_drawing_and_exported():
    for kind in KINDS:
        assert issubclass(kind, MergeError)
        assert kind.__name__ in (errors.__doc__ or "")
        assert kind.__name__ in merges.__all__
