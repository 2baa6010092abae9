"""The command that shows a family, and how `archive list` asks for one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli_options import Json
from engine.records import LARGEST_NUMBER

if TYPE_CHECKING:
    from engine.errors import UnknownNameError
    from engine.search import Query
    from engine.store import Store


def show_lineage(
    run: Annotated[str, typer.Argument(help="A run's folder, or its name below runs/.")],
    program: Annotated[
        str, typer.Argument(help="A program's id or the beginning of it, or a candidate's number (7, n7).")
    ],
    limit: Annotated[
        int, typer.Option(min=1, max=LARGEST_NUMBER, help="Show so many in each direction, the nearest first.")
    ] = 200,
    as_json: Json = False,
) -> None:
    """Show the family of a program: what its prompt showed, what that was written from, and so on; and what was written from it.

    Example: mergewright archive lineage runs/pocket-20260101-120000 3fa9c1d2
    """
    from engine import locations, tables
    from engine.lineage import family
    from engine.lineage_page import family_page
    from engine.programs import choose
    from engine.store import Store

    with closing(Store.in_folder(locations.run_folder(run))) as store:
        chosen = choose(store, program, run)
        found = family(store, chosen.program.id, limit=limit)
    assert found is not None, "it was found a moment ago, and nothing is ever taken out"
    if as_json:
        print(json.dumps(asdict(found)))
        return
    console = tables.wide_console()
    console.print(family_page(found, chosen.number))


def within_families(query: Query, store: Store, run: str) -> Query | None:
    """A query by what a user calls the programs of its families, with their ids instead; None where this archive lacks one of them.

    Raises:
        UnknownNameError: several programs fit.
    """
    from engine.programs import look_up

    before, after = (None if reference is None else look_up(store, reference, run) for reference in _members(query))
    if (before is None, after is None) != tuple(reference is None for reference in _members(query)):
        return None
    return replace(
        query, ancestors_of=before.program.id if before else None, descendants_of=after.program.id if after else None
    )


def nobody_of(query: Query, runs: Sequence[str]) -> UnknownNameError:
    """What to say where none of the runs has the programs."""
    from engine.errors import UnknownNameError

    named = " and ".join(f"'{reference}'" for reference in _members(query) if reference is not None)
    return UnknownNameError(
        f"program {named}: expected an id or number of {', '.join(runs)}, got none; `mergewright archive list RUN` shows them"
    )


def _members(query: Query) -> tuple[str | None, str | None]:
    return query.ancestors_of, query.descendants_of
