"""What a campaign has seen: originals, not copies of copies."""

from __future__ import annotations

from dataclasses import replace

from engine.descriptors import NUMBERS, SKETCH_NUMBERS, Descriptors
from engine.known import Known
from engine.records import Assessment, Outcome
from tests.engine.conftest import candidate


def sketch(*values: float) -> tuple[float, ...]:
    """Of one probe for each value."""
    return tuple(value for value in values for _ in range(SKETCH_NUMBERS))


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


def test_the_nearest_program_is_found_where_it_is_too_near() -> None:
    known = Known(novelty=0.1)
    assert known.near(sketch(1.0, 1.0)) is None
    known.sketched("first", sketch(1.0, 1.0))
    known.sketched("second", sketch(1.0, 1.1))
    found = known.near(sketch(1.0, 1.08))
    assert found is not None
    assert found[0] == "second"
    assert round(found[1], 4) == round((0.02 / 1.1) / 2, 4)
    assert known.near(sketch(1.0, 1.6)) is None
    known.sketched("third", sketch(1.0, 1.1))
    assert (known.near(sketch(1.0, 1.1)) or ("",))[0] == "second"  # of equally near ones the earliest


def test_without_novelty_nothing_is_near() -> None:
    known = Known()
    known.sketched("first", sketch(1.0))
    assert known.near(sketch(1.0)) is None


def test_what_failed_on_the_real_tensors_and_what_a_triage_passed_over_is_near_to_nobody() -> None:
    known = Known(novelty=0.5)
    known.begin((1, 0))
    known.sketched("failed", sketch(1.0))
    known.blame("failed", Assessment(Outcome.FAILED, reason="nonfinite"))
    assert known.near(sketch(1.0)) is None
    known.sketched("passed", sketch(2.0))
    known.pass_over("passed")
    assert known.near(sketch(2.0)) == ("passed", 0.0)
    known.begin((1, 1))
    assert known.near(sketch(2.0)) is None


def test_a_resumed_run_knows_what_was_near() -> None:
    one = candidate(1, 0.5)
    found = Descriptors(dict.fromkeys(NUMBERS, 0.0), (0.5,), (), sketch(1.0))
    one = replace(one, assessment=replace(one.assessment, descriptors=found))
    assert Known([one], novelty=0.1).near(sketch(1.01)) is not None
