"""Adds a program to the archive that ships, from a finished run: `python -m engine.discovered`. For those who work on Mergewright, in a checkout."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from engine import bundle, discovered, rundir
from engine.bundle_claims import check_claims
from engine.bundling import entries_of, lines, make_bundle, read_notes
from engine.errors import KNOWN_ERRORS, UserError, exit_code
from engine.outcome import report_error
from engine.pocket.pages import files_table
from engine.programs import find_program
from engine.store import Store
from engine.study.held_out import HeldOut
from engine.transfer import Transfer, measure
from engine.whole_file import write_whole

PAGE = """\
# Discovered programs

Programs that our own campaigns found, chosen from their finished runs: the best, and those that do something else. Each is a bundle (`engine/bundle.py` is its format) with the
source, where it was found, its scores on dev, test and other experts with intervals, and an explanation. `mergewright archive shipped` lists them, `mergewright archive shipped ID`
shows one, `mergewright apply ID` applies it. Apache-2.0, as the whole project. The code was written by the pocket generator. Runs of the study were chosen by how their first on dev did on 1000 fresh problems; the
test problems were met after that. What was taken away was written by hand; `mergewright archive ablate` finds most of it by itself. This file and the bundles are written by
`python -m engine.discovered`; the tests recompute ids and behaviour hashes in the sandbox.
"""


def add(
    program: Annotated[str, typer.Argument(metavar="RUN#ID", help="A program of a finished run.")],
    title: Annotated[str, typer.Option(help="What it is, in a few words.")],
    explanation: Annotated[Path, typer.Option(help="A file with what it does and what is known of why, as Markdown.")],
    transfer: Annotated[
        str, typer.Option(metavar="EXPERT,EXPERT,…", help="Other experts to measure it on, as it is.")
    ] = "",
    split: Annotated[
        str,
        typer.Option(
            metavar="SPLIT,…", help="Held-out problems of the transfer: test, or fresh:SEED, or several of these."
        ),
    ] = "test",
    threads: Annotated[int, typer.Option(min=0, help="Of the transfer; 0: as in the run.")] = 0,
) -> None:
    """Add a program of a finished run to data/discovered, with title, explanation and, if wanted, its scores on other experts."""
    found = find_program(program)
    if found.run is None:
        raise UserError(
            f"program '{program}': expected one of a run (RUN#ID), got another; only what a run found ships"
        )
    (entry,) = entries_of([found], read_notes(None, title, explanation))
    if entry.test is None:
        raise UserError(f"program {entry.id}: expected a finalist of a finished run, got one without test score")
    if transfer:
        entry = entry.model_copy(update={"transfer": (_transferred(found.run, entry.id, transfer, split, threads),)})
    made = make_bundle([entry])
    path = discovered.folder() / f"{entry.id}.json"
    check_claims(path, made)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, made.to_json())
    discovered.entries.cache_clear()
    write_whole(path.with_name("README.md"), page(discovered.entries()))
    print(f"wrote {path} and {path.with_name('README.md')}")


def page(entries: Mapping[str, bundle.Entry]) -> str:
    """The folder's README.md."""
    told = [PAGE]
    for entry in entries.values():
        told += [
            f"## {entry.id}: {entry.title}\n",
            *(f"- {what}: {text}" for what, text in lines(entry)),
            "",
            f"{entry.explanation}\n",
        ]
    return "\n".join(told).rstrip() + "\n" + "\n".join(files_table({p.name: p for p in discovered.files()})) + "\n"


def _transferred(folder: Path, program: str, experts: str, splits: str, threads: int) -> bundle.Transfer:
    config = rundir.read_config(folder)
    if threads:
        config = config.model_copy(update={"models": config.models.model_copy(update={"threads": threads})})
    with closing(Store.in_folder(folder)) as store:
        one = next(c.program for c in store.candidates() if c.program.id == program)
    names, parts = ([one.strip() for one in text.split(",")] for text in (experts, splits))
    (found,) = measure(config, [one], names, parts, folder, lambda what: typer.echo(what, err=True))
    return _claimed(found)


def _claimed(found: Transfer) -> bundle.Transfer:
    met, first, against = found.met, found.humans[0], found.against
    return bundle.Transfer(
        base=found.base,
        experts=dict(found.experts),
        splits=found.splits,
        problems=found.problems,
        score=_held_out(met) if met.bits else None,
        fault=met.fault,
        humans=tuple(_human(one) for one in found.humans),
        evaluations=found.evaluations,
        against=bundle.Against(
            name=first.name,
            parameters=dict(first.parameters),
            human=_held_out(first),
            difference=against["difference"],
            interval=tuple(against["interval"]),
            p=against["p"],
        )
        if against
        else None,
    )


def _held_out(one: HeldOut) -> bundle.HeldOut:
    assert one.value is not None and one.low is not None and one.high is not None  # noqa: PT018
    return bundle.HeldOut(
        share=one.value, interval=(one.low, one.high), effective_n=float(len(one.bits)), bits=one.bits
    )


def _human(one: HeldOut) -> bundle.Human:
    score = _held_out(one)
    assert one.dev is not None
    return bundle.Human(
        name=one.name, parameters=dict(one.parameters), dev=one.dev, share=score.share, interval=score.interval
    )


def main() -> NoReturn:
    """Entry point of `python -m engine.discovered`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(add)
    try:
        raise SystemExit(app(standalone_mode=False) or 0)
    except typer.TyperException as error:
        raise SystemExit(report_error(error.format_message(), code=2)) from error
    except KNOWN_ERRORS as error:
        raise SystemExit(report_error(str(error), code=exit_code(error))) from error
