"""Commands that run campaigns: run, resume, status, init."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engine.config import CampaignConfig

Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key of the campaign, as campaign.programs=50. Repeatable."
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change, from now on, how many iterations the run has (campaign.iterations=6: more, before its final), or how its endpoint is reached: generator.base_url, api_key_env, retries, timeout_seconds, parallel, price_read, price_written. Repeatable. All else is part of the run.",
    ),
]
Unsafe = Annotated[
    bool,
    typer.Option(
        "--unsafe-no-isolation", help="Run programs even where the machine isolates nothing (see mergewright doctor)."
    ),
]
Plain = Annotated[bool, typer.Option("--plain", help="Plain lines instead of the dashboard, as into a file or a pipe.")]
MaxHours = Annotated[float | None, typer.Option(help="Stop in order after so many hours; `resume` goes on.")]


def run(
    campaign: Annotated[
        str, typer.Argument(help="A campaign file, or a shipped name: pocket, smollm2, smollm2-self, openchat-7b.")
    ] = "pocket",
    settings: Setting = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default runs/NAME-DATE.")] = None,
    max_hours: MaxHours = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would do, what is there and what is missing.")
    ] = False,
    unsafe: Unsafe = False,
    plain: Plain = False,
) -> None:
    """Run a discovery campaign; without arguments the pocket campaign.

    Example: mergewright run campaigns/smollm2.toml --set campaign.programs=50 --out runs/try
    """
    from engine import locations, rundir
    from engine.config_file import load_config

    extra = [*(settings or []), *([f"campaign.max_hours={max_hours}"] if max_hours is not None else [])]
    config = load_config(locations.campaign_file(campaign), extra)
    if dry_run:
        _rehearse(config)
        return
    folder = rundir.new_folder(config, out, datetime.now(UTC).strftime("%Y%m%d-%H%M%S"))
    try:
        _go(folder, config, allow_none=unsafe, plain=plain)
    finally:
        rundir.discard_if_unborn(folder)


def resume(
    run: Annotated[str, typer.Argument(help="A run's folder, or its name below runs/.")],
    settings: Changes = None,
    max_hours: MaxHours = None,
    unsafe: Unsafe = False,
    plain: Plain = False,
) -> None:
    """Go on with a run that was stopped or killed; it ends as if it had never been.

    Example: mergewright resume runs/pocket-20260101-120000
    """
    from engine import going_on, rundir
    from engine.config_file import build_config

    folder = _resumable(run)
    if settings:
        going_on.change(folder, settings)
    config = rundir.read_config(folder)
    if max_hours is not None:
        config = build_config(config.model_dump(mode="json"), [f"campaign.max_hours={max_hours}"])
    _go(folder, config, allow_none=unsafe, plain=plain)


def status(
    run: Annotated[str, typer.Argument(help="A run's folder, or its name below runs/.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """How far a run is, and what it has found.

    Example: mergewright status runs/pocket-20260101-120000 --json
    """
    from engine import locations, rundir, tables
    from engine.store import Store
    from engine.summary import summary
    from engine.tables import wide_console

    folder = locations.run_folder(run)
    config = rundir.read_config(folder)
    store = Store.in_folder(folder)
    try:
        facts = summary(config, store, folder)
        if as_json:
            print(json.dumps(facts))
            return
        console = wide_console()
        again = "the command that imported it" if rundir.imported(folder) else f"mergewright resume {folder}"
        state = "finished" if facts["finished"] else f"not finished; go on with: {again}"
        console.print(f"{folder}: {state}; {facts['assessed']} of {facts['planned']} programs assessed", markup=False)
        tables.print_to(console, tables.search_report(config, store))
        if facts["finished"]:
            tables.print_to(console, tables.final_report(config, store))
            print(tables.next_steps(config, store, folder))
    finally:
        store.close()


def init(path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("campaign.toml")) -> None:
    """Write a commented campaign file for your own models.

    Example: mergewright init my-campaign.toml
    """
    from engine import locations
    from engine.errors import UserError

    template = locations.shipped("campaigns") / "template.toml"
    try:
        with path.open("x", encoding="utf-8") as handle:
            handle.write(template.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"campaign file '{path}': expected a name that can be written and is free, got {error.strerror}; give another"
        ) from error
    print(f"wrote {path}: name your models in it, then: mergewright run {path}")


def _rehearse(config: CampaignConfig) -> None:
    """Print the findings; exit code 2 where something is wrong."""
    from engine.quiet import quiet_libraries
    from engine.rehearsal import rehearse

    quiet_libraries()
    marks = {"ok": "ok", "wrong": "WRONG", "open": "not known"}
    count = dict.fromkeys(marks, 0)
    for finding in rehearse(config):
        count[finding.state] += 1
        print(f"{marks[finding.state]:9s} {finding.about}: {finding.text}", flush=True)
    if count["wrong"]:
        print(
            f"dry run of {config.campaign.name}: {count['wrong']} wrong, {count['open']} not known; mend what is wrong"
        )
        raise typer.Exit(2)
    print(f"dry run of {config.campaign.name}: nothing wrong, {count['open']} not known without the weights or the hub")


def _resumable(reference: str) -> Path:
    """A run's folder even if it was killed before its archive was made."""
    from engine import locations, rundir

    for folder in (Path(reference), locations.RUNS / reference):
        rundir.refuse_import(folder)
        if (folder / "campaign.json").is_file():
            return folder
    return locations.run_folder(reference)


def _go(folder: Path, config: CampaignConfig, *, allow_none: bool, plain: bool) -> None:
    """Run the campaign in `folder` with live progress, then print what it found."""
    from engine import tables
    from engine.campaign import run_campaign
    from engine.progress import Progress
    from engine.quiet import quiet_libraries
    from engine.stopping import stopping_in_order
    from engine.store import Store
    from engine.tables import wide_console

    console = wide_console()
    quiet_libraries()
    go_on_by = f"mergewright resume {folder}"
    progress = Progress(config, console, resume_hint=go_on_by, plain=plain, folder=str(folder))
    console.print(
        f"Campaign {config.campaign.name}: {config.campaign.iterations} × {config.campaign.programs} programs; archive {folder}",
        highlight=False,
        markup=False,
    )
    stopping = stopping_in_order(progress.request_stop, go_on_by, tell=progress.tell, farewell=progress.farewell)
    with stopping, progress:
        run_campaign(folder, progress, allow_none=allow_none)
    store = Store.in_folder(folder)
    try:
        console.print()
        tables.print_to(console, tables.search_report(config, store), tables.final_report(config, store))
        print(tables.next_steps(config, store, folder))
    finally:
        store.close()
