"""Questions in addresses are read strictly."""

from __future__ import annotations

import pytest

from engine.config import ExploreSection
from engine.errors import ConfigError
from engine.pages.asking import MOST_CELLS, PAGE, Asked, axes
from engine.search import Query, condition


def test_a_form_becomes_a_question() -> None:
    asked = Asked.of(
        {
            "verdict": "ok",
            "operation": " svd, topk ",
            "where": "rest>0.1,score>=60%",
            "sort": "-score",
            "page": "3",
            "evil": "x",
        }
    )
    assert asked.query() == Query(
        verdict="ok", operations=["svd", "topk"], conditions=[condition("rest>0.1"), condition("score>=60%")],
        sort="score", falling=True, limit=PAGE, offset=2 * PAGE,
    )  # fmt: skip
    assert set(asked.filters) == {"verdict", "operation", "where", "sort"}
    assert Asked.of({}).query() == Query(operations=[], conditions=[], limit=PAGE)


@pytest.mark.parametrize(
    "number",
    ["0", "00", "-1", "1.0", "x", "٣", "9" * 30, "0" * 8 + "11" + "0" * 9, "0" * 8 + "1" + "9" * 20, "0" * 5000],
)
def test_what_is_counted_is_a_number_in_its_range(number: str) -> None:
    section = ExploreSection(axes=("rest", "depth"))
    for what, ask in (
        ("page", lambda: Asked(page=number).query()),
        ("iteration", lambda: Asked(iteration=number).query()),
        ("columns", lambda: axes({"columns": number}, section)),
        ("rows", lambda: axes({"rows": number}, section)),
    ):
        with pytest.raises(ConfigError, match=f"{what}: expected a whole number of 1 to"):
            ask()


def test_a_number_may_begin_with_zeros() -> None:
    assert Asked(page="002").query().offset == PAGE
    assert axes({"columns": "07"}, ExploreSection(axes=("rest", "depth")))[0].cells == 7


def test_no_page_is_none_of_them() -> None:
    with pytest.raises(ConfigError, match="page: expected a whole number of 1 to"):
        Asked(page="").query()


def test_a_map_has_the_campaigns_axes_unless_others_are_asked_for() -> None:
    section = ExploreSection(axes=("rest", "depth"), cells=(5, 7))
    assert [(a.name, a.cells) for a in axes({}, section)] == [("rest", 5), ("depth", 7)]
    assert [(a.name, a.cells) for a in axes({"across": "nodes", "columns": "3"}, section)] == [
        ("nodes", 3),
        ("depth", 7),
    ]
    one = ExploreSection(axes=("rest",), cells=(5,))
    assert axes({}, one)[0].name == "rest"
    assert axes({}, ExploreSection(axes=("rest", "depth"), cells=(900, 900)))[0].cells == MOST_CELLS
    assert axes({}, ExploreSection(axes=("rest", "depth"), layout="cvt"))[0].cells == 10
    for wrong in ({"across": "nobody"}, {"columns": "0"}, {"rows": str(MOST_CELLS + 1)}):
        with pytest.raises(ConfigError, match="expected"):
            axes(wrong, section)
