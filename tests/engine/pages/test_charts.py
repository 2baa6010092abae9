"""Figures: their marks stand where the numbers say."""

from __future__ import annotations

import re
from importlib.resources import files
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.overview import Iteration, Mark, Overview
from engine.pages.charts import LEFT, RIGHT, ROW_HEIGHT, STYLES, WIDTH, climbs, evenly, histograms

SVG = "{http://www.w3.org/2000/svg}"


def iteration(number: int, *scores: float) -> Iteration:
    middle = sorted(scores)[len(scores) // 2] if scores else None
    return Iteration(
        number, len(scores), len(scores), len(scores), len(scores), {}, scores, middle, max(scores, default=None)
    )


def overview(*climb: tuple[int, float]) -> Overview:
    marks = tuple(Mark(n, 1, f"{n:012x}", v, v - 0.1, v + 0.1) for n, v in climb)
    return Overview(False, 100, 100, 100, 90, (), {}, marks, None, None, 0, 0, {}, {}, ())


def drawn(svg: str, style: str) -> list[Xml.Element]:
    return [one for one in Xml.fromstring(svg).iter() if one.get("class") == style]


def test_bars_are_as_tall_as_their_counts() -> None:
    bars = drawn(histograms([iteration(1, 0.5, 0.5, 0.5, 0.7)], None), "bar")
    tall = sorted(float(one.get("height", "0")) for one in bars)
    assert len(tall) == 2
    assert tall[1] == pytest.approx(ROW_HEIGHT - 14)
    assert tall[0] == pytest.approx(tall[1] / 3, abs=0.01)
    assert float(bars[0].get("x", "0")) < float(bars[1].get("x", "0"))


def test_the_human_made_merge_and_the_medians_stand_on_the_same_scale() -> None:
    svg = histograms([iteration(1, 0.2, 0.4, 0.6), iteration(2, 0.4, 0.6, 0.8)], 0.6)
    (human,), medians = drawn(svg, "human"), drawn(svg, "median")
    assert human.get("x1") == medians[1].get("x1"), "0.6 is 0.6"
    assert float(medians[0].get("x1", "0")) < float(human.get("x1", "0"))
    assert "iteration 2: 3 programs, median 60.0" in Xml.fromstring(svg).get("aria-label", "")


def test_a_climb_holds_each_best_until_the_next() -> None:
    (line,) = drawn(climbs({"r": overview((10, 0.5), (50, 0.7))}), "line s0")
    corners = [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]
    (x1, y1), (x2, y2), (x3, y3), (x4, y4) = corners
    assert (x2, y2) == (x3, y1)
    assert (y3, y4) == (y4, y3)
    assert x1 == pytest.approx(LEFT + 0.1 * (WIDTH - LEFT - RIGHT), abs=0.01)
    assert x4 == pytest.approx(WIDTH - RIGHT, abs=0.01)
    assert y3 < y1, "better is higher"


def test_only_one_run_has_a_band() -> None:
    one, two = overview((1, 0.5)), overview((2, 0.6))
    assert len(drawn(climbs({"a": one}), "band")) == 1
    both = climbs({"a": one, "b": two})
    assert drawn(both, "band") == []
    assert len(drawn(both, "line s0")) == len(drawn(both, "line s1")) == 1


def test_lines_are_told_apart_without_their_colours() -> None:
    pages = files("engine.pages")
    style, legend = (pages.joinpath(*at).read_text() for at in (("static", "style.css"), ("templates", "beside.html")))
    dashes = {}
    for at in range(STYLES):
        found = re.search(rf"\.line\.s{at} {{ stroke: var\(--s{at}\);(?: stroke-dasharray: ([\d ]+);)? }}", style)
        assert found
        dashes[at] = tuple(map(int, (found[1] or "").split()))
    assert dashes[0] == ()
    assert len(set(dashes.values())) == STYLES
    (long,) = re.findall(r'class="key" viewBox="0 0 (\d+) 8"', legend)
    assert f'x2="{long}"' in legend
    assert all(2 * sum(one) <= int(long) for one in dashes.values()), "the legend shows them"


def test_nothing_is_a_figure_too() -> None:
    for svg in (histograms([], None), histograms([iteration(1)], None), climbs({}), climbs({"r": overview()})):
        assert "no program has a score yet" in svg


def test_names_of_runs_are_text() -> None:
    svg = climbs({"<script>&": overview((1, 0.5))})
    assert "<script>" not in svg
    assert Xml.fromstring(svg).get("aria-label") == "Best dev score so far: <script>&: 50.0 after 1 programs"


def test_of_many_iterations_some_are_drawn_first_and_last_among_them() -> None:
    many = [iteration(n, 0.5) for n in range(1, 101)]
    chosen = [one.number for one in evenly(many, 12)]
    assert (len(chosen), chosen[0], chosen[-1]) == (12, 1, 100)
    assert chosen == sorted(set(chosen))
    assert evenly(many[:5], 12) == many[:5]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.none() | st.floats(0, 1))
def test_whatever_the_scores_every_mark_lies_in_the_figure(scores: list[float], human: float | None) -> None:
    ordered = sorted(set(scores))
    for svg in (histograms([iteration(1, *scores)], human), climbs({"r": overview(*enumerate(ordered, start=1))})):
        root = Xml.fromstring(svg)
        _, _, width, height = map(float, root.get("viewBox", "").split())
        for one in root:
            across = [float(one.get(name, "0")) for name in ("x", "x1", "x2", "cx")]
            up = [float(one.get(name, "0")) for name in ("y", "y1", "y2", "cy")]
            assert 0 <= min(across) <= max(across) <= width
            assert 0 <= min(up) <= max(up) <= height
        assert drawn(svg, "grid")
