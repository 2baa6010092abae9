"""What people read of programs that ship. Text only; no decisions are made here."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markdown import Markdown
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from engine.bundle import Entry, HeldOut
from engine.bundling import lines
from engine.tables import percent, printable


def shipped_table(entries: Sequence[Entry]) -> Table:
    """One line each: id, title, where it was found, shares on dev, test and other experts, and the difference to the best human-made merge on test."""
    table = Table(title="Discovered programs that ship", title_justify="left")
    columns = ("id", "what it is", "campaign", "dev %", "test %", "against the best human-made", "transfer %")
    for name in columns:
        table.add_column(name, justify="right" if "%" in name else "left", no_wrap=name == "id")
    for entry in entries:
        against = entry.test.against if entry.test else None
        table.add_row(
            entry.id,
            escape(printable(entry.title or "")),
            escape(printable(entry.found.campaign)) if entry.found else "",
            percent(entry.dev.share if entry.dev else None),
            _interval(entry.test.score if entry.test else None),
            f"{100 * against.difference:+.1f} [{100 * against.interval[0]:+.1f}, {100 * against.interval[1]:+.1f}]"
            if against
            else "–",
            ", ".join(_interval(one.score) for one in entry.transfer) or "–",
        )
    return table


def entry_page(entry: Entry) -> RenderableType:
    """All there is to know of one: facts, explanation, source."""
    grid = Table.grid(padding=(0, 2))
    facts = [("program", entry.id), ("title", entry.title or ""), *lines(entry)]
    for key, value in facts:
        if value:
            grid.add_row(Text(key, style="dim"), Text(printable(value)))
    source = Syntax(printable(entry.source, keep="\n\t"), "python", line_numbers=True, word_wrap=True)
    told: list[RenderableType] = (
        [Markdown(printable(entry.explanation, keep="\n")), Text()] if entry.explanation else []
    )
    return Group(grid, Text(), *told, source)


def _interval(score: HeldOut | None) -> str:
    return f"{percent(score.share)} [{percent(score.interval[0])}, {percent(score.interval[1])}]" if score else "–"
