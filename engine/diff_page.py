"""What people read of two programs held against each other. Text only; no decisions are made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from engine.comparing import Comparison
from engine.syntax_diff import Change
from engine.tables import printable

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


def comparison_table(found: Comparison, families: Mapping[str, tuple[int, int]]) -> RenderableType:
    """Who solved what the other did not, and what that says."""
    interval, d = found.difference.interval, found.difference
    table = Table(title=f"Problem by problem: {d.n} dev problems that both were asked", title_justify="left")
    table.add_column("family")
    for name in ("first alone", "second alone"):
        table.add_column(name, justify="right")
    for family, (one, other) in families.items():
        table.add_row(Text(printable(family or "–")), str(one), str(other))
    table.add_row("all", str(d.only_a), str(d.only_b), style="bold")
    points = f"{100 * interval.estimate:+.1f} points [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"
    note = f"first less second {points}, exact McNemar p = {d.p_value:.2g}; dev is what both were picked by: it flatters the better one"
    return Group(table, Text(note))
