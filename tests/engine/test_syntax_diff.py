"""Differences by syntax: what says the same is the same, and what differs is named as small as it is."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterable

import pytest

from engine import syntax_diff
from engine.syntax_diff import MOST_PAIRS, Change, diff
from merges import library
from merges.contract import program_id
from merges.errors import ProgramError

FIRST = """
import torch

def merge_models(model_dict, device, *, scale=0.4):
    vectors = list(model_dict.values())
    total = torch.zeros_like(vectors[0])
    for vector in vectors:
        cut = vector.abs().median()
        total = total + vector * (vector.abs() > cut)
    return scale * total
"""


def changed(before: str, after: str) -> list[tuple[str, str, str]]:
    text = FIRST.replace(before, after)
    assert text != FIRST
    return [(one.kind, one.before, one.after) for one in diff(FIRST, text)]


def test_comments_docstrings_and_formatting_are_no_difference() -> None:
    text = FIRST.replace("    return", "    # the end\n\n    return").replace("scale * total", "(scale  *  total)")
    text = text.replace("0.4):\n", '0.4):\n    """Sum."""\n')
    assert text != FIRST
    assert diff(FIRST, text) == []


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("scale * total", "2 * total", [("changed", "scale", "2")]),
        ("vector.abs() > cut", "vector.abs() >= cut", [("changed", "vector.abs() > cut", "vector.abs() >= cut")]),
        (".median()", ".mean()", [("changed", "vector.abs().median", "vector.abs().mean")]),
        ("vectors[0]", "vectors[-1]", [("changed", "0", "-1")]),
        ("    return scale", "    total = total.sign()\n    return scale", [("added", "", "total = total.sign()")]),
        ("        cut = vector.abs().median()\n", "", [("removed", "cut = vector.abs().median()", "")]),
        ("for vector in vectors:", "for vector in vectors[1:]:", [("changed", "vectors", "vectors[1:]")]),
        (
            "device, *, scale=0.4",
            "device",
            [
                (
                    "changed",
                    "def merge_models(model_dict, device, *, scale=0.4):",
                    "def merge_models(model_dict, device):",
                )
            ],
        ),
        ("scale=0.4", "scale=0.5", [("changed", "0.4", "0.5")]),
        (
            "return scale",
            "return None if False else scale",
            [("changed", "scale * total", "None if False else scale * total")],
        ),
    ],
)
def test_what_differs_is_named_as_small_as_it_is(before: str, after: str, expected: list[tuple[str, str, str]]) -> None:
    assert changed(before, after) == expected


def test_a_renamed_variable_is_one_change_with_its_count() -> None:
    found = diff(FIRST, FIRST.replace("total", "merged"))
    assert [(one.kind, one.before, one.after) for one in found] == [("renamed", "total", "merged")]
    assert found[0].times == 4
    assert (found[0].before_line, found[0].after_line) == (6, 6)


def test_a_change_names_its_lines_and_the_statement_around_it() -> None:
    after = FIRST.replace("import torch\n", "import math\nimport torch\n").replace("scale * total", "math.pi * total")
    added, inside = diff(FIRST, after)
    assert added == Change("added", "", "import math", None, 2)
    assert inside == Change("changed", "scale", "math.pi", 10, 11, "return math.pi * total")


def test_what_is_gone_on_one_side_is_new_on_the_other() -> None:
    after = FIRST.replace("    return scale", "    total = total.sign()\n    return scale").replace("0.4", "0.5")
    there, back = diff(FIRST, after), diff(after, FIRST)
    swapped = {"added": "removed", "removed": "added"}
    assert [(swapped.get(c.kind, c.kind), c.after, c.before, c.after_line, c.before_line) for c in there] == [
        (c.kind, c.before, c.after, c.before_line, c.after_line) for c in back
    ]


def test_every_two_programs_of_the_library_differ_unless_they_are_one() -> None:
    for one, other in itertools.product(library.names(), repeat=2):
        a, b = library.source(one), library.source(other)
        found = diff(a, b)
        assert bool(found) == (program_id(a) != program_id(b)), (one, other)
        assert all(change.before != change.after for change in found), (one, other)


def long(statements: Iterable[str], depth: int = 1) -> str:
    """A program of many statements, below `depth` headers."""
    heads = [" " * at + f"if {'a' * at}:\n" for at in range(1, depth)]
    return "def merge_models(model_dict, device):\n" + "".join(heads) + " " * depth + ";".join(statements) + "\n"


LONG = {
    "nothing in common": (long(f"x{at}=1" for at in range(3500)), long(f"y={at}*z" for at in range(3500))),
    "a change in the middle": (
        long(f"x{at}=1" for at in range(3500)),
        long(f"x{at}={'1' if at != 1700 else '2'}" for at in range(3500)),
    ),
    "many blocks": tuple(
        "def merge_models(model_dict, device):\n"
        + "".join(f" if b{block}:\n  " + ";".join(f"{name}{at}=1" for at in range(130)) + "\n" for block in range(30))
        for name in "xy"
    ),
    "a change far inside": tuple(long([*(f"x{at}=1" for at in range(2000)), f"y={end}"], depth=90) for end in (1, 2)),
    "a change in a long list": tuple(
        "def merge_models(model_dict, device):\n return " + "-(" * 40 + f"[{'1,' * 8000}{end}]" + ")" * 40 + "\n"
        for end in (1, 2)
    ),
}
"""Programs that the gate lets through, longer than anybody reads."""


@pytest.mark.parametrize("name", LONG)
def test_long_programs_are_compared_with_little_work(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = LONG[name]
    pairs, written = 0, 0

    def alike(x: object, y: object) -> float:
        nonlocal pairs
        pairs += 1
        return find(x, y)  # type: ignore[arg-type]

    def counted(write: Callable[..., str]) -> Callable[..., str]:
        def counting(node: ast.AST) -> str:
            nonlocal written
            text = write(node)
            written += len(text)
            return text

        return counting

    find = syntax_diff._alike
    monkeypatch.setattr(syntax_diff, "_alike", alike)
    for write in ("unparse", "dump"):
        monkeypatch.setattr(ast, write, counted(getattr(ast, write)))
    found = diff(before, after)
    assert pairs <= MOST_PAIRS
    assert written <= 4 * (len(before) + len(after)), "nothing is written out once for each pair, or for each level"
    if name.startswith("a change"):
        assert [(one.kind, one.before, one.after, one.times) for one in found] == [("changed", "1", "2", 1)]


def test_what_is_too_long_to_align_is_told_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    before = FIRST.replace("    return", "    total = total.sign()\n    total = total.abs()\n    return")
    after = FIRST.replace("    return", "    total = total.abs().sign()\n    return").replace("list(", "tuple(")
    assert [one.kind for one in diff(before, after)] == ["renamed", "changed", "removed"]
    monkeypatch.setattr(syntax_diff, "MOST_PAIRS", 20)  # one pair of functions, which leaves less than 5 × 4
    removed, added = diff(before, after)
    assert (removed.kind, removed.before_line, removed.after, removed.after_line) == ("removed", 5, "", None)
    assert removed.before.startswith("vectors = list(model_dict.values())\ntotal = ")
    assert removed.before.endswith("total = total.sign()\ntotal = total.abs()"), "the end that both have is left out"
    assert (added.kind, added.before, added.before_line, added.after_line) == ("added", "", None, 5)
    assert added.after.endswith("total = total.abs().sign()")


def test_numbers_that_python_calls_equal_are_told_apart() -> None:
    assert [(one.before, one.after) for one in diff(FIRST.replace("0.4", "1"), FIRST.replace("0.4", "1.0"))] == [
        ("1", "1.0")
    ]
    assert diff(FIRST.replace("0.4", "True"), FIRST.replace("0.4", "1"))


def test_what_does_not_parse_is_told() -> None:
    with pytest.raises(ProgramError, match="expected Python source, got SyntaxError"):
        diff(FIRST, "def merge_models(:\n")
