"""The changes of a program, one at a time: each kind at its places, and nothing that is no change."""

from __future__ import annotations

import ast

import pytest

from engine.discovered import entries
from engine.variants import Variant, variants
from merges import library
from sandbox import check

PROGRAM = """
def merge_models(model_dict, device, base):
    vectors = list(model_dict.values())
    scores = torch.stack([v.pow(2).mean() for v in vectors])
    weights = scores / (scores.sum() + 1e-8)
    merged = sum(w * v for w, v in zip(weights, vectors))
    if merged.norm() > base.norm():
        merged = merged * 0.5
    return 1.2 * merged
"""


@pytest.fixture
def found() -> list[Variant]:
    return variants(PROGRAM)


def changes(found: list[Variant], kind: str) -> list[tuple[int, str, str]]:
    return [(one.line, one.before, one.after) for one in found if one.kind == kind]


def body(variant: Variant) -> list[str]:
    return [line.strip() for line in variant.source.splitlines()]


def test_a_statement_is_left_out_and_a_condition_met_always_and_never(found: list[Variant]) -> None:
    assert (8, "merged = merged * 0.5", "") in changes(found, "without")
    (always,) = (one for one in found if one.kind == "always")
    assert (always.line, always.before) == (7, "if merged.norm() > base.norm():")
    assert always.after == "merged = merged * 0.5"
    assert "merged = merged * 0.5" in body(always)
    assert not any(line.startswith("if ") for line in body(always))
    never = next(one for one in found if one.kind == "without" and one.line == 7)
    assert "merged = merged * 0.5" not in body(never)
    assert body(never)[-1] == "return 1.2 * merged"


def test_the_other_branch_stands_where_a_condition_is_never_met() -> None:
    found = variants(
        "def merge_models(m, device):\n    if device:\n        a = 1\n    else:\n        a = f(2)\n    return a\n"
    )
    never = next(one for one in found if one.kind == "without" and one.before == "if device:")
    assert never.after == "a = f(2)"
    assert body(never) == ["def merge_models(m, device):", "a = f(2)", "return a"]


def test_one_side_of_an_operation_is_kept_and_what_goes_into_a_call(found: list[Variant]) -> None:
    kept = changes(found, "only")
    assert (9, "1.2 * merged", "merged") in kept
    assert (9, "1.2 * merged", "1.2") in kept
    assert (5, "scores / (scores.sum() + 1e-08)", "scores") in kept
    assert (5, "scores / (scores.sum() + 1e-08)", "scores.sum() + 1e-08") not in kept, "a divisor is no quotient"
    assert (4, "v.pow(2)", "v") in kept
    assert (5, "scores.sum() + 1e-08", "scores.sum()") in kept
    assert (5, "scores.sum() + 1e-08", "1e-08") not in kept, "what keeps a division sound is nothing by itself"


def test_numbers_are_halved_and_doubled_but_for_those_that_keep_divisions_sound(found: list[Variant]) -> None:
    assert changes(found, "times") == [
        (8, "0.5", "0.25"),
        (8, "0.5", "1.0"),
        (9, "1.2", "0.6"),
        (9, "1.2", "2.4"),
    ]


def test_experts_count_alike_wherever_something_is_worked_out(found: list[Variant]) -> None:
    evened = [one for one in found if one.kind == "evenly"]
    assert [(one.line, one.after) for one in evened] == [
        (3, "vectors: the same for every expert"),
        (4, "scores: the same for every expert"),
        (5, "weights: the same for every expert"),
        (6, "merged: the same for every expert"),
        (8, "merged: the same for every expert"),
    ]
    assert all(one.source.count("evened(") == 2 for one in evened)


def test_a_program_that_has_such_a_function_keeps_its_own() -> None:
    own = PROGRAM + "\ndef evened(a, b):\n    return a\n"
    assert not changes(variants(own), "evenly")


def test_of_a_long_program_the_changes_of_whole_statements_are_kept() -> None:
    found = variants(PROGRAM, most=10)
    assert len(found) == 10
    assert {one.kind for one in found} == {"without", "evenly", "always"}


SOURCES = {name: library.source(name) for name in library.names()} | {k: e.source for k, e in entries().items()}


@pytest.mark.parametrize("name", SOURCES)
def test_every_change_parses_differs_and_stands_where_it_says(name: str) -> None:
    source = SOURCES[name]
    found = variants(source)
    plain = ast.unparse(ast.parse(source))
    texts = [one.source for one in found]
    assert len(set(texts)) == len(texts) > 5
    assert plain not in texts
    lines = len(source.splitlines())
    assert [one.line for one in found] == sorted(one.line for one in found)
    for one in found:
        assert 1 <= one.line <= lines
        ast.parse(one.source)
    # what the gate refuses of them is the change's doing, not that of how it is written
    assert sum(check(one.source).ok for one in found) > 0.8 * len(found)
