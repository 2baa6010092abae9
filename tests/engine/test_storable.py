"""Text and values of any kind come back; what any database takes is stored as it is."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.storable import dumps, escape, loads, unescape

MARK = "\ufdef"
STRANGE = st.text(st.one_of(st.characters(), st.sampled_from(f"\0\ud800\udfff{MARK}\ufdd0\ufdd1\ufddf0d")))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), STRANGE),
    lambda inner: st.lists(inner) | st.dictionaries(STRANGE | st.just("\0"), inner),
)


@given(STRANGE)
def test_any_text_comes_back_from_what_every_database_takes(text: str) -> None:
    stored = escape(text)
    assert "\0" not in stored
    stored.encode()  # no lone surrogate
    assert unescape(stored) == text


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters=f"\0{MARK}")))
def test_text_that_every_database_takes_is_stored_as_it_is(text: str) -> None:
    assert escape(text) == text


@given(STRANGE, STRANGE)
def test_two_texts_are_never_stored_as_one(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


@pytest.mark.parametrize("text", [MARK, f"{MARK}0000", f"{MARK}\ufdd0", f"{MARK}\ufdd0\ufdd0\ufdd0x"])
def test_text_of_before_with_a_mark_that_is_no_escape_is_read_as_it_is(text: str) -> None:
    assert unescape(text) == text


@given(VALUES)
def test_any_value_comes_back_from_sound_json_in_ascii(value: object) -> None:
    stored = dumps(value)
    assert stored.isascii()
    json.loads(stored, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert repr(loads(stored)) == repr(loads(stored.encode())) == repr(value)


@given(st.recursive(st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists))
def test_a_plain_value_is_plain_json(value: object) -> None:
    assert dumps({"value": value}) == json.dumps({"value": value})


def test_numbers_that_archives_of_before_hold_are_still_read() -> None:
    found = loads('{"loss": NaN, "kl": -Infinity}')
    assert math.isnan(found["loss"])
    assert found["kl"] == -math.inf
