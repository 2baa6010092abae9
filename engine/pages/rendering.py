"""Templates, and the only place where text becomes HTML: jinja2 escapes all of it, and characters that do not show, or turn the writing round, are shown by number."""

from __future__ import annotations

import shlex
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from engine import ablation_page
from engine.tables import asked, benchmark_name, parameters_text, percent, printable

__all__ = ["render"]

LONGEST_LINE = 160
"""Characters of a first line that are shown."""


_FORMATTER = HtmlFormatter(nowrap=True, classprefix="c-")


def plain(text: object, *, lines: bool = False) -> str:
    """Text of anybody's, safe to show: control and direction characters as escapes; with `lines`, line ends and tabs stay."""
    return printable(str(text), keep="\n\t" if lines else "")


def source(text: str, line: int | None, name: str) -> Markup:
    """A program's text, coloured as Python, a span a line.

    Args:
        line: 1-based, of the fault; None where there is none.
        name: of the lines: apart from every other source's on the page.
    """
    shown = highlight(plain(text, lines=True).rstrip("\n"), PythonLexer(stripnl=False), _FORMATTER)
    rows = []
    for number, row in enumerate(
        shown.removesuffix("\n").split("\n"), start=1
    ):  # pygments closes its spans at line ends
        fault = ' class="fault"' if number == line else ""
        rows.append(f'<span id="{name}-{number}"{fault}>{row}\n</span>')
    return Markup("".join(rows))


def first_line(text: str) -> str:
    """The first line of a program that says something."""
    return plain(next((line for line in text.splitlines() if line.strip()), ""))[:LONGEST_LINE]


def points(interval: Any) -> str:
    """A difference of shares in points, with its interval."""
    return f"{100 * interval.estimate:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def seconds(value: float) -> str:
    """A duration for people."""
    if value < 100:
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("engine.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ablation_notes": ablation_page.notes,
        "asked": asked,
        "chance": lambda p: f"{p:.2g}",
        "first_line": first_line,
        "in_its_place": ablation_page.in_its_place,
        "merge": lambda one, other: {**one, **other},
        "parameters": parameters_text,
        "percent": percent,
        "plain": plain,
        "points": points,
        "seconds": seconds,
        "source": source,
        "word": shlex.quote,
        "worth": ablation_page.points,
    }
    environment.globals |= {"benchmark_name": benchmark_name}
    return environment


_ENVIRONMENT = _environment()


def render(template: str, **values: object) -> str:
    """One page, or a part of one."""
    return _ENVIRONMENT.get_template(template).render(**values)
