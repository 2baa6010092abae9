"""What people read of an archive as a whole. Text only; no decisions are made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from engine.descriptors import NUMBERS
from engine.exploring import MapStats
from engine.stats import Stats
from engine.tables import percent, printable

MOST_OPERATIONS = 20


def stats_page(found: Stats) -> RenderableType:
    """Outcomes and reasons in a line each, then operations and descriptors."""
    parts: list[RenderableType] = [Text("Outcomes: " + _counts(found.outcomes))]
    if found.reasons:
        parts.append(Text("Reasons: " + _counts(found.reasons)))
    if not found.spreads:
        return Group(
            *parts,
            Text(
                "No program has a score and descriptors; `mergewright archive describe RUN` takes those of an older archive."
            ),
        )
    uses = Table(title="Operations of programs with a score", title_justify="left")
    for name in ("operation", "programs", "dev median %", "dev best %"):
        uses.add_column(name, justify="left" if name == "operation" else "right")
    for use in found.uses[:MOST_OPERATIONS]:
        uses.add_row(Text(printable(use.operation)), str(use.programs), percent(use.median), percent(use.best))
    spreads = Table(title="What they do", title_justify="left")
    for name in ("descriptor", "5 %", "median", "95 %", "with dev"):
        spreads.add_column(name, justify="left" if name == "descriptor" else "right", no_wrap=True)
    spreads.add_column("meaning", style="dim")
    for one in found.spreads:
        with_score = "–" if one.with_score is None else f"{one.with_score:+.2f}"
        numbers = (f"{value:.3g}" for value in (one.low, one.median, one.high))
        spreads.add_row(one.name, *numbers, with_score, NUMBERS[one.name].meaning)
    note = "with dev: Spearman's correlation with the dev share; those that a race stopped count with the share of what they were asked"
    more = len(found.uses) - MOST_OPERATIONS
    rest = [Text(f"{more} operations more", style="dim")] if more > 0 else []
    return Group(*parts, uses, *rest, spreads, Text(note, style="dim"))


def map_table(axes: Sequence[str], grown: Mapping[int, MapStats]) -> RenderableType:
    """How much of the map over some axes is held after each iteration."""
    table = Table(title=f"Kinds of programs: cells over {' × '.join(axes)}", title_justify="left")
    for name in ("iteration", "held", "cells", "coverage %", "QD score"):
        table.add_column(name, justify="right")
    for iteration, one in grown.items():
        table.add_row(str(iteration), str(one.held), str(one.cells), percent(one.coverage), f"{one.qd_score:.2f}")
    return Group(table, Text("QD score: sum of the dev shares of the best program of every cell", style="dim"))


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{printable(name)} {count}" for name, count in counts.items())
