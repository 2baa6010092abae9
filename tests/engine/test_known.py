"""What a campaign has seen: originals, not copies of copies."""

from __future__ import annotations

from engine.known import Known


def test_a_copy_of_a_copy_is_one_of_the_original() -> None:
    known = Known()
    known.add("first", "b")
    assert known.original("second", "b") == "first"
    known.add("second", "b", "first")
    assert known.original("second", "b") == "first"
    assert known.original("third", "c") is None


def test_a_program_that_never_ran_is_the_original_of_its_own_text_alone() -> None:
    known = Known()
    known.add("refused", None)
    assert known.original("refused", None) == "refused"
    assert known.original("other", None) is None


def test_what_is_passed_over_is_forgotten_with_its_copies_when_another_batch_begins() -> None:
    known = Known()
    known.begin((1, 0))
    known.add("first", "b")
    known.pass_over("first")
    known.add("copy", "b", "first")
    known.begin((1, 0))
    assert known.original("copy", "b") == "first"
    known.begin((1, 1))
    assert known.original("first", "b") is None
    assert known.original("copy", "b") is None
    known.add("copy", "b")
    known.begin((1, 2))
    assert known.original("first", "b") == "copy"
