"""The command that runs studies."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer


def study(
    file: Annotated[
        str,
        typer.Argument(
            metavar="STUDY",
            help="A study's file, or a shipped one: pocket-study, pocket-explore-study, pocket-breeding-study.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the study; the same one goes on. Default runs/study-NAME.")
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(min=1, max=64, help="Campaigns at a time; give each its share of the cores with models.threads."),
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json at the end.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which campaigns it would run.")] = False,
) -> None:
    """Run methods × seeds at equal budgets, then report: curves, histograms, held-out scores, paired tests.

    Killed or stopped, the same command goes on where it was; no finished run is repeated.

    Example: mergewright study pocket-study --jobs 2
    """
    from engine import locations
    from engine.quiet import quiet_libraries
    from engine.study.plan import read_study
    from engine.study.report import lines, write_report
    from engine.study.results import collect
    from engine.study.runner import PlannedRun, planned_runs, prepare, run_all

    path = locations.campaign_file(file)
    plan = read_study(path)
    folder = out or locations.RUNS / f"study-{plan.study.name}"
    if dry_run:
        for run in planned_runs(plan, folder):
            config = plan.config(run.method, run.seed)
            print(
                f"{run.name}: {config.campaign.iterations} × {config.campaign.programs} programs, learn {config.learn.method if config.learns else 'not at all'}, {run.folder}"
            )
        return
    quiet_libraries()
    runs = prepare(plan, path.read_text(encoding="utf-8"), folder)
    done = sum(run.finished() for run in runs)

    def told(run: PlannedRun, what: str) -> None:
        _say(f"{run.name}: {what}; log {run.log}")

    def working(what: str) -> None:
        _say(f"held-out problems: {what}")

    _say(f"study {plan.study.name}: {len(runs)} runs, {done} finished, {jobs} at a time; folder {folder}")
    run_all(plan, runs, jobs=jobs, told=told)
    results = collect(plan, runs, folder, told=working)
    report = write_report(results, folder)
    print(json.dumps(results) if as_json else "\n".join(lines(results)))
    _say(f"report: {report}")


def _say(line: str) -> None:
    """Progress, on standard error: standard output is for the results."""
    typer.echo(f"{datetime.now(UTC):%H:%M:%S} {line}", err=True)
