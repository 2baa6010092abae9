"""Two programs held against each other, as the terminal shows them."""

from __future__ import annotations

from rich.console import Console

from benchmarks.problems import Problem
from engine.comparing import compare_scores
from engine.diff_page import MOST_PROBLEMS, comparison_table
from tests.engine.conftest import dev_score


def page(one: str, other: str, *, known: bool = True) -> str:
    """What is shown of two programs with these bits, in one line."""
    found = compare_scores(dev_score(one), dev_score(other), weights=None, seed=0)
    assert found
    problems = [Problem(f"own\x1b[31m-{at}", "How many?", "#### 1", "1", "sums") for at in range(len(one))]
    console = Console(width=100)
    with console.capture() as shown:
        console.print(comparison_table(found, problems if known else []))
    return " ".join(shown.get().split())


def test_the_problems_that_one_alone_solved_are_named_up_to_a_number() -> None:
    many, more = "1" * MOST_PROBLEMS, page("1" * (MOST_PROBLEMS + 3) + "0", "0" * (MOST_PROBLEMS + 3) + "1")
    assert f"-{MOST_PROBLEMS - 1} and 3 more (--json lists all) solved by the second alone: own" in more
    assert f"-{MOST_PROBLEMS + 3}" in more, "the one of the second"
    assert "\x1b" not in more
    assert " more" not in page(many, "0" * MOST_PROBLEMS)
    assert "solved by the second" not in page(many, "0" * MOST_PROBLEMS)


def test_problems_that_are_not_at_hand_are_named_by_their_place() -> None:
    shown = page("0110", "0001", known=False)
    assert "solved by the first alone, by place in the suite, as the problems are not at hand: 1, 2 solved" in shown
