"""Commands that browse the archive."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from engine.cli_options import Merge, Param, Seed, numbers

if TYPE_CHECKING:
    from engine.records import Candidate

archive_app = typer.Typer(no_args_is_help=True, help="Browse the archive of a run.")

Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


@archive_app.command("list")
def list_candidates(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders of runs, or names below runs/.")],
    as_json: Json = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Show the first so many only.")] = None,
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
    iteration: Annotated[int | None, typer.Option(min=1, help="Only of this iteration.")] = None,
    generator: Annotated[str | None, typer.Option(help="Only by this version of the generator; 0: untrained.")] = None,
    operation: Annotated[
        list[str] | None, typer.Option(help="Only programs that call it, such as svd or kthvalue. Repeatable.")
    ] = None,
    text: Annotated[str, typer.Option(help="Only programs with this in their text, whatever the case.")] = "",
) -> None:
    """List and search candidates, failures included; best first, those that a race stopped after all that were asked everything.

    What can be sorted by and asked for: score, number, iteration, seconds, memory, and the descriptors that `archive show` prints.

    Example: mergewright archive list runs/pocket-20260101-120000 --verdict ok --where 'rest>0.1' --operation topk --limit 15
    """
    from engine import locations, tables
    from engine.search import Query, condition, in_order
    from engine.store import Store
    from engine.summary import candidate_row

    query = Query(
        verdict=verdict,
        iteration=iteration,
        generator=generator,
        operations=operation or (),
        text=text,
        conditions=[condition(one) for one in where or ()],
        sort=sort.removeprefix("-") if sort else None,
        falling=bool(sort) and str(sort).startswith("-"),
        limit=limit,
    )
    found: list[Candidate] = []
    run_of: dict[int, str] = {}
    count = 0
    for run in runs:
        with closing(Store.in_folder(locations.run_folder(run))) as store:
            some, there = store.find(query)
        found += some
        run_of |= {id(c): run for c in some}
        count += there
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
    program: Annotated[str, typer.Argument(help="A program's id or the beginning of it, or a candidate's number.")],
    effect: Annotated[
        bool, typer.Option("--effect", help="Also run it over the run's models and say what it makes of their tensors.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show one program: source, verdict, scores, lineage, and what it does to the models' tensors.

    Example: mergewright archive show runs/pocket-20260101-120000 3fa9c1d2
    """
    from engine import locations, rundir, tables
    from engine.candidate_page import candidate_page, effect_table
    from engine.store import Store
    from engine.summary import candidate_facts, final_facts, lineage

    folder = locations.run_folder(run)
    store = Store.in_folder(folder)
    config = rundir.read_config(folder)
    try:
        candidates, updates = store.candidates(), store.updates()
        rows = tables.final_rows(config, store)
    finally:
        store.close()
    chosen = _choose(candidates, program, run)
    related = lineage(candidates, updates, chosen)
    final = next((r for r in rows if (r.final.kind, r.final.name) == ("discovered", chosen.program.id)), None)
    if not effect:
        found = None
    else:
        from engine.model_effects import known_effects

        found = known_effects(folder, config, chosen.program)
    if as_json:
        facts = {**candidate_facts(chosen, related), "test": final_facts(final) if final else None}
        print(json.dumps(facts | ({} if found is None else {"effect": [asdict(one) for one in found]})))
        return
    console = tables.wide_console()
    console.print(candidate_page(chosen, related, final))
    if found is not None:
        console.print(effect_table(found))


@archive_app.command("diff")
def diff_programs(
    run: Annotated[str, typer.Argument(help="A run's folder, or its name below runs/.")],
    first: Annotated[str, typer.Argument(help="A program's id or the beginning of it, or a candidate's number.")],
    second: Annotated[
        str, typer.Argument(help="Another one of the run; or a library name (ties), a .py file, RUN#ID.")
    ],
    as_json: Json = False,
) -> None:
    """Hold two programs against each other: by syntax, and problem by problem where both were scored in the run.

    Example: mergewright archive diff runs/pocket-20260101-120000 3fa9c1d2 77ab01c9
    """
    from engine import locations, rundir, tables
    from engine.comparing import by_family, compare
    from engine.diff_page import comparison_table, diff_table
    from engine.errors import UnknownNameError
    from engine.programs import find_program
    from engine.store import Store
    from engine.suites import open_suite, problems_of, weights_of
    from engine.summary import comparison_facts
    from engine.syntax_diff import diff

    folder = locations.run_folder(run)
    with closing(Store.in_folder(folder)) as store:
        candidates, suites = store.candidates(), store.meta("suites")
    one = _choose(candidates, first, run)
    try:
        other: Candidate | None = _choose(candidates, second, run)
        source = other.program.source if other else ""
    except UnknownNameError:
        other, source = None, find_program(second).source
    changes = diff(one.program.source, source)
    weights = weights_of(suites["dev"]) if suites else None
    config = rundir.read_config(folder)
    found = compare(one, other, weights=weights, seed=config.campaign.seed) if other else None
    problems = problems_of(open_suite(config, "dev")) if found else ()
    if (
        found and len(problems) != found.of
    ):  # the problem files are others now: what was solved is known by its place alone
        problems = ()
    if as_json:
        facts = comparison_facts(found, problems) if found else None
        print(json.dumps({"changes": [asdict(change) for change in changes], "problems": facts}))
        return
    console = tables.wide_console()
    console.print(diff_table(changes))
    if found:
        console.print(comparison_table(found, by_family(found, problems)))


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


@archive_app.command()
def export(
    program: Annotated[
        str, typer.Argument(metavar="PROGRAM", help="An archive id, a library name (ties), or a .py file.")
    ],
    form: Annotated[Literal["mergekit"], typer.Option("--format", help="What shall be able to run it.")],
    out: Annotated[Path, typer.Option(help="The folder to make; it must not exist.")],
    base: Annotated[str | None, typer.Option(help="The seed model: folder or hub id. Default: a placeholder.")] = None,
    expert: Annotated[
        list[str] | None, typer.Option(help="An expert: folder or hub id. Repeatable. Default: placeholders.")
    ] = None,
    merge: Merge = None,
    param: Param = None,
    seed: Seed = 0,
) -> None:
    """Write a program as something that another tool runs, without the sandbox: read it before you run it there.

    Example: mergewright archive export 3fa9c1d2 --format mergekit --out exported --base seed --expert a --expert b
    """
    from engine import locations
    from engine.programs import find_program
    from merges.export_mergekit import export_mergekit

    found = find_program(program)
    files = export_mergekit(
        found.source,
        out,
        base=None if base is None else locations.model(base),
        experts=[locations.model(reference) for reference in expert or ()],
        selection=found.merge or "all" if merge is None else merge,
        parameters=numbers(param),
        run_seed=seed,
        origin=Path(found.origin).name,  # where a file lies on this machine is nobody else's affair
    )
    print(f"wrote {out}: {', '.join(files)} for {form}; {out / 'README.md'} says how to run it, unsandboxed")


def _candidates(run: str) -> list[Candidate]:
    from engine import locations
    from engine.store import Store

    store = Store.in_folder(locations.run_folder(run))
    try:
        return list(store.candidates())
    finally:
        store.close()


def _choose(candidates: Sequence[Candidate], reference: str, run: str) -> Candidate:
    from engine.errors import UnknownNameError

    by_id = [c for c in candidates if c.program.id.startswith(reference)] if len(reference) >= 4 else []
    by_number = [c for c in candidates if reference.isdecimal() and c.number == int(reference)] if not by_id else []
    ids = {c.program.id for c in by_id}
    if len(ids) > 1:
        raise UnknownNameError(
            f"program '{reference}': expected the beginning of one id, got that of {len(ids)}: {', '.join(sorted(ids)[:4])}; give more of it"
        )
    found = by_id or by_number
    if not found:
        raise UnknownNameError(
            f"program '{reference}': expected an id or number of '{run}', got none; `mergewright archive list {run}` shows them"
        )
    return found[0]
