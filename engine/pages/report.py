"""The report of a run: one HTML file with everything in it, no script, no request; the same figures and parts as the pages."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from engine.cells import cells
from engine.errors import HostError, UserError
from engine.pages.asking import axes
from engine.pages.parts import glance_part, map_part, program_part
from engine.pages.rendering import render
from engine.pages.runs import Run
from engine.records import Candidate
from engine.rundir import package_version
from engine.search import Query
from engine.whole_file import write_whole

MOST_PROGRAMS = 15
"""Programs that a report shows whole: the first on dev."""


def write_report(run: Run, out: Path) -> None:
    """Write the report of a run as it is now.

    Raises:
        UserError: no file can be written there.
        HostError: the disk is full, or fails.
    """
    found, _ = run.store.find(Query(verdict="ok", limit=MOST_PROGRAMS))
    try:
        write_whole(out, report(run, found))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise HostError(
                f"report '{out}': it could not be written ({error.strerror}); free space, then try again"
            ) from error
        raise UserError(
            f"report '{out}': expected a file in a folder that is there, got {error.strerror}; give another --out"
        ) from error


def report(run: Run, shown: Sequence[Candidate]) -> str:
    """The page.

    Args:
        shown: programs that it shows whole.
    """
    there = {candidate.program.id for candidate in shown}

    def href(program: str) -> str:
        return f"#{program}" if program in there else ""

    style = (files("engine.pages") / "static" / "style.css").read_text(encoding="utf-8")
    return render(
        "report.html",
        **glance_part(run),
        **map_part(cells(run.store, *axes({}, run.config.explore))),
        href=href,
        parts=[program_part(run, candidate) for candidate in shown],
        style=Markup(style),
        version=package_version("mergewright"),
    )
