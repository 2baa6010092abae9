"""What people read of a program's ablation. Text only; no decisions are made here."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from engine.ablation import Ablation, Effective
from engine.tables import percent, printable

MOST_IDLE = 12
"""Changes without any effect that are listed; the rest are counted."""


def ablation_page(found: Ablation) -> RenderableType:
    """What carries the score."""
    table = Table(title="What carries its score: one thing changed at a time", title_justify="left")
    table.add_column("line", justify="right")
    table.add_column("what stands there", ratio=3, overflow="fold")
    table.add_column("in its place", ratio=2, overflow="fold")
    for name in ("dev %", "points, 95 %"):
        table.add_column(name, justify="right", no_wrap=True)
    for group, changes in found.groups.items():
        table.add_section()
        table.add_row("", Text(group, style="bold"))
        for one in changes:
            before, after = (Text(printable(text, keep="\n")) for text in (one.before, in_its_place(one)))
            table.add_row(str(one.line), before, after, percent(one.score), points(one))
    return Group(table, *(Text(line, style="dim") for line in notes(found)))


def in_its_place(one: Effective) -> str:
    """What stands there after a change, in words where nothing does."""
    return f"always: {one.after}" if one.kind == "always" else one.after or "nothing"


def points(one: Effective) -> str:
    """What a change costs (less than 0) or gives, with its interval."""
    low, high = (100 * end for end in one.interval)
    return f"{100 * one.difference:+.1f} [{low:+.1f}, {high:+.1f}]"


def notes(found: Ablation) -> Iterator[str]:
    """What a reader of the changes has to know, one line each."""
    yield f"As it is: {percent(found.score)} % of {found.n} dev problems. Intervals are paired by problem and each for itself: of twenty, one excludes 0 by chance."
    if found.cut:
        yield "The largest changes only: the program is long, and not all were tried."
    if found.failed:
        yield f"{found.failed} other changes cannot run: what they touch is needed."
    if found.idle:
        listed = (f"line {one.line}: {one.before} → {in_its_place(one)}" for one in found.idle[:MOST_IDLE])
        more = len(found.idle) - MOST_IDLE
        told = printable("; ".join(listed)) + (f"; and {more} more" if more > 0 else "")
        yield f"No difference to the last bit: {told}."
