"""Figures as SVG, drawn by the server: no script, no request, sharp at any size; colours come from the style sheet, so that they follow light and dark.

Every figure has a title and a sentence for those who do not see it; its main numbers, medians and bests, stand in a table of the page as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from xml.etree import ElementTree as Xml

from markupsafe import Markup

from engine.overview import Iteration, Mark, Overview

WIDTH = 720
LEFT, RIGHT = 52, 14
TOP, BOTTOM = 12, 34
CLIMB_HEIGHT = 300
ROW_HEIGHT = 64
BINS = 40
STYLES = 8
"""Styles of lines; the ninth run looks like the first."""
MOST_ROWS = 12
"""Iterations of which a histogram is drawn; of more, so many evenly chosen ones, the first and the last among them."""


def histograms(iterations: Sequence[Iteration], human: float | None) -> Markup:
    """Dev scores of all scored programs, a row an iteration.

    Args:
        human: dev share of the best human-made merge: a line through all rows.
    """
    rows = [one for one in evenly(iterations, MOST_ROWS) if one.scores]
    values = [score for one in rows for score in one.scores] + ([] if human is None else [human])
    low, high, step = _range(values)
    height = TOP + ROW_HEIGHT * max(1, len(rows)) + BOTTOM
    said = "; ".join(
        f"iteration {one.number}: {len(one.scores)} programs, median {_percent(one.median)}" for one in rows
    )
    svg = _figure(height, "Dev scores by iteration", said or "no program has a score yet")

    def x(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    bottom = height - BOTTOM
    for value in _ticks(low, high, step):
        _line(svg, "grid", (x(value), TOP), (x(value), bottom))
        _text(svg, "tick middle", x(value), bottom + 16, f"{100 * value:.4g}")
    _text(svg, "axis middle", (LEFT + WIDTH - RIGHT) / 2, height - 3, "dev score, per cent")
    for place, one in enumerate(rows):
        base = TOP + ROW_HEIGHT * (place + 1)
        counts = _binned(one.scores, low, high)
        for at, count in enumerate(counts):
            if count:
                left, right = (x(low + (high - low) * edge / BINS) for edge in (at, at + 1))
                tall = (ROW_HEIGHT - 14) * count / max(counts)
                _child(svg, "rect", "bar", x=left + 0.5, y=base - tall, width=right - left - 1, height=tall)
        _line(svg, "baseline", (LEFT, base), (WIDTH - RIGHT, base))
        _text(svg, "tick end", LEFT - 8, base - ROW_HEIGHT / 2 + 10, str(one.number))
        if one.median is not None:
            _line(svg, "median", (x(one.median), base - ROW_HEIGHT + 10), (x(one.median), base))
    if human is not None:
        _line(svg, "human", (x(human), TOP), (x(human), bottom))
    return _done(svg)


def climbs(runs: Mapping[str, Overview]) -> Markup:
    """Best dev score after so many programs, a line a run; of a single run with the 95 % interval of each best, and a line for the human-made merge."""
    drawn = {name: one for name, one in runs.items() if one.climb}
    alone = next(iter(drawn.values())) if len(drawn) == 1 else None
    values = [mark.value for one in drawn.values() for mark in one.climb]
    if alone:
        values += [bound for mark in alone.climb for bound in (mark.low, mark.high)]
        values += [alone.human.score.value] if alone.human else []
    low, high, step = _range(values)
    most = max((one.proposed for one in runs.values()), default=1) or 1
    said = "; ".join(
        f"{name}: {_percent(one.climb[-1].value)} after {one.climb[-1].number} programs" for name, one in drawn.items()
    )
    svg = _figure(CLIMB_HEIGHT, "Best dev score so far", said or "no program has a score yet")
    bottom = CLIMB_HEIGHT - BOTTOM

    def place(number: float, value: float) -> tuple[float, float]:
        return LEFT + number / most * (WIDTH - LEFT - RIGHT), bottom - (value - low) / (high - low) * (bottom - TOP)

    for value in _ticks(low, high, step):
        _line(svg, "grid", place(0, value), place(most, value))
        _text(svg, "tick end", LEFT - 8, place(0, value)[1] + 4, f"{100 * value:.4g}")
    for number in _ticks(0, most, _step(most)):
        _text(svg, "tick middle", place(number, low)[0], bottom + 16, f"{number:.6g}")
    _text(svg, "axis middle", (LEFT + WIDTH - RIGHT) / 2, CLIMB_HEIGHT - 3, "programs")
    if alone:
        edge = [*_steps([(m.number, m.high) for m in alone.climb], alone.proposed)]
        edge += reversed([*_steps([(m.number, m.low) for m in alone.climb], alone.proposed)])
        _child(svg, "polygon", "band", points=_points(place(*one) for one in edge))
        if alone.human:
            _line(svg, "human", place(0, alone.human.score.value), place(most, alone.human.score.value))
    for at, one in enumerate(drawn.values()):
        steps = _steps([(mark.number, mark.value) for mark in one.climb], one.proposed)
        _child(svg, "polyline", f"line s{at % STYLES}", points=_points(place(*step) for step in steps))
    for mark in alone.climb if alone else ():
        across, up = place(mark.number, mark.value)
        dot = _child(svg, "circle", "dot", cx=across, cy=up, r=3.5)
        Xml.SubElement(dot, "title").text = _told(mark)
    return _done(svg)


def evenly(iterations: Sequence[Iteration], most: int) -> Sequence[Iteration]:
    """So many of them, evenly chosen, first and last among them."""
    if len(iterations) <= most:
        return iterations
    return [iterations[round(at * (len(iterations) - 1) / (most - 1))] for at in range(most)]


def _told(mark: Mark) -> str:
    return f"{mark.program}: {_percent(mark.value)} % [{_percent(mark.low)}, {_percent(mark.high)}], candidate {mark.number}, iteration {mark.iteration}"


def _steps(marks: Sequence[tuple[int, float]], last: int) -> Iterator[tuple[float, float]]:
    """The corners of a line that holds each value until the next."""
    yield marks[0]
    for (_, before), (number, value) in pairwise(marks):
        yield number, before
        yield number, value
    yield max(last, marks[-1][0]), marks[-1][1]


def _binned(scores: Sequence[float], low: float, high: float) -> list[int]:
    counts = [0] * BINS
    for score in scores:
        counts[min(BINS - 1, max(0, int((score - low) / (high - low) * BINS)))] += 1
    return counts


def _range(values: Sequence[float]) -> tuple[float, float, float]:
    """Bounds at round numbers around the values, and the step between ticks."""
    least, most = (min(values), max(values)) if values else (0.0, 1.0)
    step = _step(max(most - least, 0.05))
    low = math.floor(least / step) * step
    return low, max(math.ceil(most / step) * step, low + step), step


def _step(span: float) -> float:
    """1, 2 or 5 times a power of ten: between four and ten of them in the span."""
    power = 10.0 ** math.floor(math.log10(span / 4))
    return next(factor * power for factor in (5, 2, 1) if span / (factor * power) >= 4 or factor == 1)


def _ticks(low: float, high: float, step: float) -> Iterator[float]:
    for at in range(round(low / step), math.floor(high / step + 1e-9) + 1):
        yield at * step


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _figure(height: float, title: str, said: str) -> Xml.Element:
    svg = Xml.Element("svg", {"class": "chart", "viewBox": f"0 0 {WIDTH} {height:g}", "role": "img"})
    svg.set("xmlns", "http://www.w3.org/2000/svg")
    svg.set("aria-label", f"{title}: {said}")
    return svg


def _child(parent: Xml.Element, kind: str, style: str, **attributes: float | str) -> Xml.Element:
    values = {name: value if isinstance(value, str) else f"{value:.2f}" for name, value in attributes.items()}
    return Xml.SubElement(parent, kind, {"class": style, **values})


def _line(svg: Xml.Element, style: str, start: tuple[float, float], end: tuple[float, float]) -> None:
    _child(svg, "line", style, x1=start[0], y1=start[1], x2=end[0], y2=end[1])


def _text(svg: Xml.Element, style: str, x: float, y: float, text: str) -> None:
    _child(svg, "text", style, x=x, y=y).text = text


def _points(places: Iterator[tuple[float, float]]) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in places)


def _done(svg: Xml.Element) -> Markup:
    return Markup(Xml.tostring(svg, encoding="unicode"))
