"""Commands that carry programs from machine to machine: export, import, and the archive that ships."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from engine.cli_options import Json, Merge, Param, Seed, numbers
from engine.cli_run import Setting, Unsafe

if TYPE_CHECKING:
    from engine.bundling import Notes
    from engine.importing import Compared
    from engine.programs import Found


def export_programs(
    programs: Annotated[
        list[str],
        typer.Argument(
            metavar="PROGRAM...",
            help="An archive id (RUN#ID: of that run), a library name (ties), or a .py file; several make one bundle.",
        ),
    ],
    form: Annotated[
        Literal["py", "bundle", "hub", "mergekit"],
        typer.Option(
            "--format",
            help="A .py file; a JSON bundle with scores and provenance; a folder for a model hub; a mergekit method.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The file or folder to make; it must not exist.")],
    licence: Annotated[
        str | None, typer.Option(help="Of the program, as SPDX names it. Default: as it came, else Apache-2.0.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="What it is, in a few words.")] = None,
    explanation: Annotated[Path | None, typer.Option(help="A text file that says what it does.")] = None,
    base: Annotated[
        str | None, typer.Option(help="mergekit: the seed model, folder or hub id. Default: a placeholder.")
    ] = None,
    expert: Annotated[
        list[str] | None, typer.Option(help="mergekit: an expert, folder or hub id. Repeatable. Default: placeholders.")
    ] = None,
    merge: Merge = None,
    param: Param = None,
    seed: Seed = 0,
) -> None:
    """Write programs for elsewhere. A bundle (and what has one in it) names no path of this machine; mergekit runs a program without the sandbox: read it first.

    Example: mergewright archive export 3fa9c1d2 77ab01c9 --format bundle --out best.json
    """
    from engine.bundling import read_notes
    from engine.errors import UserError
    from engine.programs import find_program
    from merges.target import check_absent

    check_absent(out)
    for option, given, of in (
        *(("--" + name, value, "mergekit") for name, value in (("base", base), ("expert", expert), ("merge", merge), ("param", param), ("seed", seed))),
        *(("--" + name, value, "bundle") for name, value in (("licence", licence), ("title", title), ("explanation", explanation))),
    ):  # fmt: skip
        if given and (form == "mergekit") != (of == "mergekit"):
            raise UserError(
                f"{option}: expected with --format {of if of == 'mergekit' else 'py, bundle or hub'}, got it with {form}; leave it out"
            )
    if len(programs) > 1 and form != "bundle":
        raise UserError(f"--format {form}: expected one program, got {len(programs)}; --format bundle takes several")
    if len(programs) > 1 and (title or explanation):
        raise UserError(
            "--title, --explanation: expected of one program, got several; export each by itself, or leave them out"
        )
    found = [find_program(program, scored_alike=form != "mergekit" or merge is None) for program in programs]
    if form == "mergekit":
        _to_mergekit(found[0], out, base, expert or [], merge, numbers(param), seed)
    else:
        _to_bundle(found, form, out, read_notes(licence, title, explanation))


def _to_mergekit(
    found: Found,
    out: Path,
    base: str | None,
    experts: list[str],
    merge: str | None,
    parameters: dict[str, float],
    seed: int,
) -> None:
    from engine import locations
    from merges.export_mergekit import export_mergekit

    files = export_mergekit(
        found.source,
        out,
        base=None if base is None else locations.model(base),
        experts=[locations.model(reference) for reference in experts],
        selection=found.merge or "all" if merge is None else merge,
        parameters=parameters,
        run_seed=seed,
        origin=Path(found.origin).name,  # where a file lies on this machine is nobody else's affair
    )
    print(f"wrote {out}: {', '.join(files)} for mergekit; {out / 'README.md'} says how to run it, unsandboxed")


def _to_bundle(found: list[Found], form: str, out: Path, notes: Notes) -> None:
    from engine.bundling import entries_of, make_bundle
    from engine.exporting import write_bundle, write_hub, write_program

    made = make_bundle(entries_of(found, notes))
    if form == "py":
        write_program(made.programs[0], out)
        print(f"wrote {out}: program {made.programs[0].id}; apply it with: mergewright apply {out} --base … --expert …")
    elif form == "bundle":
        write_bundle(made, out)
        print(
            f"wrote {out}: {len(made.programs)} programs; elsewhere: mergewright archive import {out} --into runs/imported"
        )
    else:
        print(f"wrote {out}: {', '.join(write_hub(made, out))}; publish it with: hf upload OWNER/NAME {out} .")


def import_programs(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Bundles, from `archive export --format bundle`.")
    ],
    into: Annotated[Path, typer.Option(help="Folder of the archive; a new one, or one that an import made.")],
    campaign: Annotated[
        str | None,
        typer.Option(
            help="Whose models and dev problems score the programs: a campaign file or a shipped name. Default: pocket."
        ),
    ] = None,
    settings: Setting = None,
    no_score: Annotated[
        bool,
        typer.Option(
            "--no-score", help="Only gate, probes, descriptors and duplicates: no model is read, nothing merged."
        ),
    ] = False,
    unsafe: Unsafe = False,
    as_json: Json = False,
) -> None:
    """Take programs from bundles and believe nothing: validate, probe, merge and score each in the sandbox here, and say what their claims come to.

    A bundle that contradicts itself is refused whole. Exit code 3 where a program's score is not as claimed on the same models and problems (another
    processor's arithmetic can change an answer or two: the table says how many). Killed or stopped, the same command goes on.

    Example: mergewright archive import best.json --into runs/imported
    """
    from engine import locations, tables
    from engine.config_file import load_config
    from engine.errors import Interrupted
    from engine.importing import import_bundles
    from engine.quiet import quiet_libraries
    from engine.stopping import stopping_in_order

    config = (
        load_config(locations.campaign_file(campaign or "pocket"), settings or []) if campaign or settings else None
    )
    if config is None and not (into / "campaign.json").exists():
        config = load_config(locations.campaign_file("pocket"))
    quiet_libraries()
    again = "give the same command again"
    stop: list[str] = []

    def check() -> None:
        if stop:
            raise Interrupted(f"stopped in order ({stop[0]}); nothing is lost; {again} to go on")

    def told(what: str) -> None:
        typer.echo(what, err=True)

    with stopping_in_order(stop.append, again):
        found = import_bundles(files, into, config, scored=not no_score, allow_none=unsafe, check=check, told=told)
    if as_json:
        print(json.dumps({"run": str(into), "programs": [_facts(one) for one in found]}))
    else:
        console = tables.wide_console()
        console.print(_table(found))
        print(f"Archive: {into}    look: mergewright archive list {into}")
    if any(one.verdict == "differs" for one in found):
        raise typer.Exit(3)


def _facts(one: Compared) -> dict[str, Any]:
    score = one.candidate.assessment.score
    return {
        "id": one.candidate.program.id,
        "number": one.candidate.number,
        "claimed": one.entry.dev.share if one.entry.dev else None,
        "measured": score.value if score else None,
        "interval": [score.low, score.high] if score else None,
        "verdict": one.verdict,
        "detail": one.detail,
    }


def _table(found: list[Compared]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    from engine.tables import percent, printable

    table = Table(title="Imported: what bundles claim, and what was measured here", title_justify="left")
    for name in ("id", "claimed dev %", "measured dev %", "95 % interval", "verdict"):
        table.add_column(name, justify="right" if "%" in name else "left", no_wrap=name == "id")
    for one in found:
        dev, score = one.entry.dev, one.candidate.assessment.score
        table.add_row(
            one.candidate.program.id,
            percent(dev.share) if dev else "",
            percent(score.value) if score else "",
            f"{percent(score.low)} – {percent(score.high)}" if score else "",
            escape(printable(one.verdict + (f": {one.detail}" if one.detail else ""))),
        )
    return table


def show_shipped(
    program: Annotated[
        str | None,
        typer.Argument(
            metavar="[PROGRAM]", help="An id, or the beginning of one: show source and explanation. Default: list all."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """The discovered programs that ship with Mergewright: list them, or show one. `apply`, `try`, `archive diff` and `archive export` take their ids.

    Example: mergewright archive shipped 2cacd0fd
    """
    from engine import discovered, tables
    from engine.errors import UnknownNameError
    from engine.shipped_page import entry_page, shipped_table

    console = tables.wide_console()
    if program is None:
        everyone = list(discovered.entries().values())
        if as_json:
            print(json.dumps([entry.model_dump(mode="json", exclude={"source", "explanation"}) for entry in everyone]))
        else:
            console.print(shipped_table(everyone))
        return
    found = discovered.matching(program)
    if len(found) != 1:
        listed = ", ".join(discovered.entries()) if not found else ", ".join(entry.id for entry in found)
        raise UnknownNameError(
            f"program '{program}': expected the beginning of one shipped id, got that of {len(found) or 'none'}: {listed}; give one of these"
        )
    if as_json:
        print(json.dumps(found[0].model_dump(mode="json")))
    else:
        console.print(entry_page(found[0]))
