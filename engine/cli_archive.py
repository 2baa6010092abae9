"""Commands that browse the archive."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli_ablate import ablate_program
from engine.cli_lineage import nobody_of, show_lineage, within_families
from engine.cli_portable import export_programs, import_programs, show_shipped
from engine.records import LARGEST_NUMBER

if TYPE_CHECKING:
    from engine.records import Candidate

archive_app = typer.Typer(no_args_is_help=True, help="Browse the archive of a run.")

archive_app.command("lineage")(show_lineage)
archive_app.command("ablate")(ablate_program)

Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


@archive_app.command("list")
def list_candidates(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders of runs, or names below runs/.")],
    as_json: Json = False,
    limit: Annotated[int | None, typer.Option(min=1, max=LARGEST_NUMBER, help="Show the first so many only.")] = None,
    verdict: Annotated[
        str | None, typer.Option(help="Only this verdict: ok, rejected, failed, duplicate, skipped, pending.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help="A fact or descriptor to sort by, smallest first; -NAME: largest first. Default: best first."
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME>NUMBER", help="Only what meets this, such as rest>0.1 or score>=70%. Repeatable."),
    ] = None,
    iteration: Annotated[int | None, typer.Option(min=1, max=LARGEST_NUMBER, help="Only of this iteration.")] = None,
    generator: Annotated[str | None, typer.Option(help="Only by this version of the generator; 0: untrained.")] = None,
    operation: Annotated[
        list[str] | None, typer.Option(help="Only programs that call it, such as svd or kthvalue. Repeatable.")
    ] = None,
    text: Annotated[str, typer.Option(help="Only programs with this in their text, whatever the case.")] = "",
    ancestors_of: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Only what this program comes from: shown in its prompt, or before."),
    ] = None,
    descendants_of: Annotated[str | None, typer.Option(metavar="ID", help="Only what comes from this program.")] = None,
) -> None:
    """List and search candidates, failures included; best first, those that a race stopped after all that were asked everything.

    What can be sorted by and asked for: score, number, iteration, seconds, memory, and the descriptors that `archive show` prints.

    Example: mergewright archive list runs/pocket-20260101-120000 --verdict ok --where 'rest>0.1' --operation topk --limit 15
    """
    from engine import locations, tables
    from engine.search import in_order, question
    from engine.store import Store
    from engine.summary import candidate_row

    query = question(
        where=where,
        sort=sort,
        verdict=verdict,
        iteration=iteration,
        generator=generator,
        operations=operation or (),
        text=text,
        limit=limit,
        ancestors_of=ancestors_of,
        descendants_of=descendants_of,
    )
    found: list[Candidate] = []
    run_of: dict[int, str] = {}
    count = 0
    missed = []
    for run in runs:
        with closing(Store.in_folder(locations.run_folder(run))) as store:
            asked = within_families(query, store, run)
            some, there = store.find(asked) if asked else ((), 0)
        missed += [run] if asked is None else []
        found += some
        run_of |= {id(c): run for c in some}
        count += there
    if missed == runs:
        raise nobody_of(query, runs)
    rows = [(run_of[id(c)], c) for c in in_order(found, query)]
    if as_json:
        print(json.dumps([{"run": run, **candidate_row(c)} for run, c in rows]))
        return
    console = tables.wide_console()
    console.print(tables.candidate_list(rows, console.width))
    if len(rows) < count:
        console.print(f"{len(rows)} of {count}")


@archive_app.command()
def show(
    run: Annotated[str, typer.Argument(help="A run's folder, or its name below runs/.")],
    program: Annotated[
        str, typer.Argument(help="A program's id or the beginning of it, or a candidate's number (7, n7).")
    ],
    effect: Annotated[
        bool, typer.Option("--effect", help="Also run it over the run's models and say what it makes of their tensors.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show one program: source, verdict, scores, lineage, and what it does to the models' tensors.

    Example: mergewright archive show runs/pocket-20260101-120000 3fa9c1d2
    """
    from engine import locations, rundir, tables
    from engine.ablation import known_ablation
    from engine.ablation_page import ablation_page
    from engine.candidate_page import candidate_page, effect_table
    from engine.lineage import related
    from engine.programs import choose
    from engine.store import Store
    from engine.summary import candidate_facts, final_facts

    folder = locations.run_folder(run)
    config = rundir.read_config(folder)
    with closing(Store.in_folder(folder)) as store:
        chosen = choose(store, program, run)
        kin, rows = related(store, chosen), tables.final_rows(config, store)
        ablation = known_ablation(store, chosen.program.id)
    final = next((r for r in rows if (r.final.kind, r.final.name) == ("discovered", chosen.program.id)), None)
    if not effect:
        found = None
    else:
        from engine.model_effects import known_effects

        found = known_effects(folder, config, chosen.program)
    if as_json:
        facts = {**candidate_facts(chosen, kin), "test": final_facts(final) if final else None}
        facts["ablation"] = ablation.model_dump(mode="json") if ablation else None
        print(json.dumps(facts | ({} if found is None else {"effect": [asdict(one) for one in found]})))
        return
    console = tables.wide_console()
    console.print(candidate_page(chosen, kin, final))
    if found is not None:
        console.print(effect_table(found))
    if ablation is not None:
        console.print(ablation_page(ablation))


@archive_app.command("diff")
def diff_programs(
    run: Annotated[str, typer.Argument(help="A run's folder, or its name below runs/.")],
    first: Annotated[
        str, typer.Argument(help="A program's id or the beginning of it, or a candidate's number (7, n7).")
    ],
    second: Annotated[
        str, typer.Argument(help="Another one of the run; or a library name (ties), a .py file, RUN#ID.")
    ],
    as_json: Json = False,
) -> None:
    """Hold two programs against each other: by syntax, and problem by problem where both were scored in the run.

    Example: mergewright archive diff runs/pocket-20260101-120000 3fa9c1d2 77ab01c9
    """
    from engine import locations, rundir, tables
    from engine.comparing import compare
    from engine.diff_page import comparison_table, diff_table
    from engine.programs import choose, find_program, look_up
    from engine.store import Store
    from engine.suites import problems_at_hand, weights_of
    from engine.summary import comparison_facts
    from engine.syntax_diff import diff

    folder = locations.run_folder(run)
    with closing(Store.in_folder(folder)) as store:
        one, other, suites = choose(store, first, run), look_up(store, second, run), store.meta("suites")
    source = other.program.source if other else find_program(second).source
    changes = diff(one.program.source, source)
    weights = weights_of(suites["dev"]) if suites else None
    config = rundir.read_config(folder)
    found = compare(one, other, weights=weights, seed=config.campaign.seed) if other else None
    problems = problems_at_hand(config, rundir.dev_hash(folder)) if found else ()
    if as_json:
        facts = comparison_facts(found, problems) if found else None
        print(json.dumps({"changes": [asdict(change) for change in changes], "problems": facts}))
        return
    console = tables.wide_console()
    console.print(diff_table(changes))
    if found:
        console.print(comparison_table(found, problems))


@archive_app.command("stats")
def show_stats(
    run: Annotated[str, typer.Argument(help="A run's folder, or its name below runs/.")], as_json: Json = False
) -> None:
    """Show a run's archive as a whole: why programs fail, which operations they use, what they do, and how that goes with their scores.

    Example: mergewright archive stats runs/pocket-20260101-120000
    """
    from engine import locations, rundir, tables
    from engine.exploring import growth
    from engine.stats import stats
    from engine.stats_page import map_table, stats_page

    candidates, config = _candidates(run), rundir.read_config(locations.run_folder(run))
    found = stats(candidates)
    grown = growth(config.explore, candidates, config.campaign.seed) if found.spreads else {}
    if as_json:
        kinds = {iteration: asdict(one) for iteration, one in grown.items()}
        print(json.dumps({**asdict(found), "axes": list(config.explore.axes), "map": kinds}))
        return
    console = tables.wide_console()
    console.print(stats_page(found))
    if grown:
        console.print(map_table(config.explore.axes, grown))


@archive_app.command("describe")
def describe_programs(run: Annotated[str, typer.Argument(help="A run's folder, or its name below runs/.")]) -> None:
    """Take the descriptors of programs that have none: of an archive made before there were any.

    Example: mergewright archive describe runs/pocket-20260101-120000
    """
    from engine import locations, rundir
    from engine.describing import describe_all
    from engine.store import Store

    folder = locations.run_folder(run)
    with rundir.locked(folder), closing(Store.in_folder(folder)) as store:
        taken, strange = describe_all(rundir.read_config(folder), store)
    print(f"{folder}: {taken} described")
    if strange:
        print(
            f"{len(strange)} behave otherwise here than when they were found and were left as they are: {', '.join(strange[:8])}"
        )


archive_app.command("export")(export_programs)
archive_app.command("import")(import_programs)
archive_app.command("shipped")(show_shipped)


def _candidates(run: str) -> list[Candidate]:
    from engine import locations
    from engine.store import Store

    store = Store.in_folder(locations.run_folder(run))
    try:
        return list(store.candidates())
    finally:
        store.close()
