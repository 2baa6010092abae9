"""The command that finds out what carries a program's score."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.cli_options import Json


def ablate_program(
    run: Annotated[
        str, typer.Argument(help="A run's folder, or its name below runs/: its models and dev problems are used.")
    ],
    program: Annotated[
        str,
        typer.Argument(
            help="A program's id or the beginning of it, or a candidate's number (7, n7); or a shipped id, a library name (ties), a .py file."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Find out what carries a program's score: leave out each statement, keep one side of each operation, make the experts count alike, halve and double each number, and score that.

    Takes a second or two a change on the pocket world, of which a program has some thirty; dev problems only. Kept in the archive and shown by `archive show` and the pages.

    Example: mergewright archive ablate runs/pocket-20260101-120000 3fa9c1d2
    """
    from rich.console import Console

    from engine import locations, rundir, tables
    from engine.ablation import ablate_in
    from engine.ablation_page import ablation_page
    from engine.programs import source_for

    folder = locations.run_folder(run)
    config = rundir.read_config(folder)
    source = source_for(folder, program, run)
    with Console(stderr=True).status("opening models") as status:
        found = ablate_in(folder, config, source, lambda done, of: status.update(f"{done} of {of} changes"))
    if as_json:
        print(found.model_dump_json())
        return
    console = tables.wide_console()
    console.print(ablation_page(found))
