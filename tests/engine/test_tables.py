"""What people read on the terminal."""

from __future__ import annotations

import unicodedata

import pytest

from engine.tables import printable


@pytest.mark.parametrize(
    "unseen",
    "\u034f\u061c\u115f\u1160\u17b5\u180b\u180e\u200b\u202e\u2800\u3164\ufe0f\uffa0\U0001d159\U000e0041\U000e0100",
)
def test_what_nobody_sees_is_shown_by_number(unseen: str) -> None:
    shown = printable(f"{unseen} = 2")
    assert shown == f"{unseen.encode('unicode_escape').decode()} = 2"
    assert shown.isascii()


def test_what_is_seen_stays() -> None:
    text = "".join(map(chr, range(32, 127))) + "é λ 語 א 한글 ⚠"
    assert printable(text) == text
    assert printable("a\tb\nc", keep="\n") == "a\\x09b\nc"


def test_no_letter_that_has_a_shape_is_taken_for_unseen() -> None:
    seen = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Lu", "Ll", "Nd", "Sc", "Sm")]
    assert printable("".join(seen)) == "".join(seen)
