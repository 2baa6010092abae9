"""What people read of two programs held against each other. Text only; no decisions are made here."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks.problems import Problem
from engine.comparing import Comparison, by_family, called
from engine.syntax_diff import Change
from engine.tables import printable

MOST_PROBLEMS = 20
"""That one alone solved, by id."""

_STYLES = {"added": "green", "removed": "red", "changed": "yellow", "renamed": "cyan"}


def diff_table(changes: Sequence[Change]) -> RenderableType:
    """One row a change, with the lines in both programs."""
    if not changes:
        return Text("The same program: nothing but comments and formatting differs, if that.")
    table = Table(title="By syntax", title_justify="left", show_lines=True)
    for name in ("change", "lines"):
        table.add_column(name, no_wrap=True)
    table.add_column("first", ratio=1)
    table.add_column("second", ratio=1)
    for one in changes:
        kind = one.kind + (f", {one.times} times" if one.times > 1 else "")
        lines = f"{one.before_line or '–'} → {one.after_line or '–'}"
        after = Text(printable(one.after, keep="\n"))
        if one.inside:
            after.append(f"\nin {printable(one.inside)}", style="dim")
        table.add_row(Text(kind, style=_STYLES[one.kind]), lines, Text(printable(one.before, keep="\n")), after)
    return table


def comparison_table(found: Comparison, problems: Sequence[Problem]) -> RenderableType:
    """Who solved what the other did not, and what that says.

    Args:
        problems: of the suite; none where they are not known any more.
    """
    interval, d = found.difference.interval, found.difference
    table = Table(title=f"Problem by problem: {d.n} dev problems that both were asked", title_justify="left")
    table.add_column("family")
    for name in ("first alone", "second alone"):
        table.add_column(name, justify="right")
    for family, (one, other) in by_family(found, problems).items():
        table.add_row(Text(printable(family or "–")), str(one), str(other))
    table.add_row("all", str(d.only_a), str(d.only_b), style="bold")
    points = f"{100 * interval.estimate:+.1f} points [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"
    note = f"first less second {points}, exact McNemar p = {d.p_value:.2g}; dev is what both were picked by: it flatters the better one"
    sides = (("first", found.only_first), ("second", found.only_second))
    return Group(table, Text(note), *(Text(_alone(who, places, problems)) for who, places in sides if places))


def _alone(who: str, places: Sequence[int], problems: Sequence[Problem]) -> str:
    kind = "" if problems else ", by place in the suite, as the problems are not at hand"
    listed = ", ".join(printable(str(one)) for one in called(places[:MOST_PROBLEMS], problems))
    more = len(places) - MOST_PROBLEMS
    return f"solved by the {who} alone{kind}: {listed}" + (f" and {more} more (--json lists all)" if more > 0 else "")
