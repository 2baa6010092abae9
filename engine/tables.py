"""What people read on the terminal: the final table, the archive's list, a program's page. Text only; no decisions are made here."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from benchmarks.scores import Score
from engine import locations
from engine.baselines import best_by_method
from engine.config import CampaignConfig
from engine.finale import Row, final_table
from engine.judging.judge import agreement
from engine.learning.account import update_lines
from engine.records import WORKS, Candidate, Outcome
from engine.stages import STAGES
from engine.store import Store
from engine.suites import weights_of
from engine.triage import screened

PLAIN_WIDTH = 132
LIST_WIDE = 110  # from here on a list has room for intervals and a line of each program


def wide_console() -> Console:
    """A console as wide as its terminal; into a file or pipe, wide enough for every table."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def percent(share: float | None) -> str:
    """A share in per cent with one decimal; "–" for None."""
    return "–" if share is None else f"{100 * share:.1f}"


def benchmark_name(config: CampaignConfig) -> str:
    """What the campaign scores on; the parts of a suite with their weights."""
    parts = config.benchmark.parts
    if not parts:
        return config.benchmark.name
    return " + ".join(f"{part.label or part.name} × {part.weight:g}" for part in parts)


def parameters_text(parameters: Mapping[str, float]) -> str:
    """`scale=0.4, density=0.5`."""
    return ", ".join(f"{k}={v:g}" for k, v in parameters.items())


def final_report(config: CampaignConfig, store: Store) -> RenderableType:
    """The table on test problems and the headline under it."""
    if not config.campaign.final:
        return Text("No test problem was touched (campaign.final = false).")
    rows = final_rows(config, store)
    n = rows[0].final.score.n if rows else 0
    table = Table(title=f"Held-out test problems ({escape(benchmark_name(config))}, n = {n})", title_justify="left")
    for name, justify in (
        ("", "left"),
        ("dev %", "right"),
        ("test %", "right"),
        ("95 % interval", "right"),
        ("dev − test", "right"),
        ("vs best human, test", "right"),
        ("p", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    previous = ""
    for row in rows:
        if previous and row.final.kind != previous:
            table.add_section()
        previous = row.final.kind
        table.add_row(
            *final_cells(row),
            style="bold" if row.final.rank == 1 and row.final.kind in ("human", "discovered") else "",
        )
    lines: list[RenderableType] = [table, *(_text(line) for line in _footnotes(store))]
    lines += [_text(line) for line in _headline(rows)]
    return Group(*lines)


def final_rows(config: CampaignConfig, store: Store) -> list[Row]:
    """The rows of the final that are in the archive."""
    suites = store.meta("suites")
    weights = weights_of(suites["test"]) if suites else None
    return final_table(store.finals(), seed=config.campaign.seed, weights=weights)


def next_steps(config: CampaignConfig, store: Store, folder: Path) -> str:
    """Where the archive is and how to apply the winner; to be printed as it is: a wrapped command cannot be copied."""
    best = next((f for f in store.finals() if f.kind == "discovered" and f.rank == 1), None)
    if best is None:
        return ""
    show = shlex.join(["mergewright", "archive", "show", str(folder), best.name])
    why = shlex.join(["mergewright", "archive", "ablate", str(folder), best.name])
    return f"Archive: {folder}    look: {show}\nWhat carries its score: {why}\nApply the winner:\n  {apply_command(config, best.name, folder)}"


def apply_command(config: CampaignConfig, program: str, folder: Path) -> str:
    """The command that merges this campaign's models with a program, ready to be copied into a shell; it names the run, since others may have the id too."""
    below = folder.resolve().parent == locations.RUNS.resolve()  # then no more of its path is told than that
    run = locations.RUNS / folder.resolve().name if below else folder
    words = ["mergewright", "apply", f"{run}#{program}", "--base", config.models.base]
    words += [word for expert in config.models.experts for word in ("--expert", expert)]
    words += ["--merge", config.models.merge] if config.models.merge != "all" else []
    words += ["--seed", str(config.campaign.seed)] if config.campaign.seed else []
    return shlex.join([*words, "--out", "merged"])


def _text(line: str) -> Text:
    return Text(line)


def final_cells(row: Row) -> tuple[str, ...]:
    final = row.final
    label = {
        "seed": "seed",
        "expert": final.name,
        "human": final.name,
        "discovered": f"program {final.name}",
    }[final.kind]
    if final.parameters:
        label += f" ({parameters_text(final.parameters)})"
    interval = f"{percent(row.interval.low)} – {percent(row.interval.high)}" + (" *" if row.simultaneous else "")
    against, p = "–", "–"
    if row.against_human:
        d = row.against_human.interval
        star = " *" if row.simultaneous else ""
        against = f"{100 * d.estimate:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]{star}"
        p = f"{row.against_human.p_value:.2g}{star}"
    return (
        escape(label),
        percent(final.dev),
        percent(final.score.value),
        interval,
        f"{100 * (final.dev - final.score.value):+.1f}",
        against,
        p,
    )


def _footnotes(store: Store) -> list[str]:
    tuned = best_by_method(store.trials())
    spent = ", ".join(f"{t.trial.name} {t.evaluations}" for t in tuned)
    scored = sum(c.assessment.outcome is Outcome.OK for c in store.candidates())
    return [
        "* simultaneous over the programs not first on dev (Bonferroni). Differences: paired bootstrap, 95 %; p: exact McNemar.",
        f"Dev evaluations spent: human-made {spent} (in all {sum(t.evaluations for t in tuned)}); programs {scored}.",
    ]


def _headline(rows: Sequence[Row]) -> list[str]:
    best = next((r for r in rows if r.final.kind == "discovered" and r.final.rank == 1), None)
    human = next((r for r in rows if r.final.kind == "human" and r.final.rank == 1), None)
    if best is None:
        return ["No program ran: there is nothing to compare."]
    if human is None or best.against_human is None:
        return ["No human-made merge was tuned (baselines.names): there is nothing to compare with."]
    d = best.against_human.interval
    verdict = "better than" if d.low > 0 else "worse than" if d.high < 0 else "not told apart from"
    return [
        f"Headline: {best.final.name} {percent(best.final.score.value)} % against {human.final.name} {percent(human.final.score.value)} %: {100 * d.estimate:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}], {verdict} the best human-made merge."
    ]


def search_report(config: CampaignConfig, store: Store) -> RenderableType:
    """How the search went, by iteration: valid, new, length, dev scores, reasons of failure; how the judge did; and where the time went."""
    table = Table(title="The search", title_justify="left")
    for name in (
        "iteration",
        "generator",
        "programs",
        "valid %",
        "new %",
        "characters",
        "dev median % *",
        "dev best %",
        "most frequent faults",
    ):
        table.add_column(name, justify="left" if name.startswith("most") else "right")
    candidates = store.candidates()
    for iteration in sorted({c.iteration for c in candidates}):
        table.add_row(*_iteration_cells(iteration, [c for c in candidates if c.iteration == iteration]))
    incidents = store.meta("incidents") or {}
    mended = ", ".join(f"{kind} {count} ×" for kind, count in incidents.items())
    median = "* of all scored programs, those that the race stopped with the share of what they were asked"
    learning = update_lines(store.updates())
    lines = [
        median,
        *learning,
        *_expected_lines(config, candidates),
        _race_text(candidates),
        _time_text(store),
        *_paid(store.replies()),
        *([f"Mended on the way: {mended}"] if mended else []),
    ]
    return Group(table, *map(Text, lines))


def _expected_lines(config: CampaignConfig, candidates: Sequence[Candidate]) -> list[str]:
    """How well programs were judged by their generator, and foretold by programs that do alike, before they were scored; an iteration a line."""
    lines = []
    for iteration in sorted({c.iteration for c in candidates}):
        if said := agreement([c for c in candidates if c.iteration == iteration]).said:
            lines.append(f"Judge, iteration {iteration}: {said}")
    for iteration, (skill, skipped) in screened(candidates).items() if config.explore.screen < 1.0 else ():
        lines.append(
            f"Screen, iteration {iteration}: {skipped} left out; of the others {skill.said or 'too few to say'}"
        )
    return lines


def _paid(replies: Sequence[Mapping[str, Any]]) -> list[str]:
    """What an endpoint cost, if there was one."""
    if not replies:
        return []
    read, written, cost = (sum(r[name] for r in replies) for name in ("prompt_tokens", "completion_tokens", "cost"))
    return [f"Endpoint: {len(replies)} requests, {read} tokens read, {written} written, cost {cost:.2f}"]


def _iteration_cells(iteration: int, candidates: Sequence[Candidate]) -> tuple[str, ...]:
    done = [c for c in candidates if c.assessment.outcome is not Outcome.PENDING]
    valid = [c for c in done if c.assessment.outcome in WORKS]
    scored = sorted((c for c in done if c.score is not None), key=lambda c: c.score or 0.0)
    scores, complete = [c.score for c in scored], [c.score for c in scored if c.complete]
    faults = Counter(c.assessment.reason for c in done if c.assessment.reason).most_common(3)

    def share(part: Sequence[object]) -> str:
        return f"{100 * len(part) / len(done):.0f}" if done else "–"

    return (
        str(iteration),
        candidates[0].program.generator,
        str(len(done)),
        share(valid),
        share(scores),
        f"{fmean(len(c.program.source) for c in done):.0f}" if done else "–",
        percent(scores[len(scores) // 2] if scores else None),
        percent(complete[-1] if complete else None),
        ", ".join(f"{reason} {count}" for reason, count in faults) or "none",
    )


def _time_text(store: Store) -> str:
    """Where the time went: the clock's by phase, and what each stage was busy with."""
    phases: dict[str, float] = {}
    for _, phase, spent, _ in store.phases():
        phases[phase] = phases.get(phase, 0.0) + spent
    total = sum(phases.values())
    if not total:
        return "Time: nothing yet"
    stages: dict[str, tuple[float, int]] = {}
    for _, stage, spent, count in store.stages():
        before = stages.get(stage, (0.0, 0))
        stages[stage] = (before[0] + spent, before[1] + count)
    clock = ", ".join(f"{phase} {spent:.0f} s" for phase, spent in phases.items())
    busy = ", ".join(
        f"{stage} {stages[stage][0]:.0f} s ({100 * stages[stage][0] / total:.0f} %, {stages[stage][1]})"
        for stage in STAGES
        if stage in stages
    )
    return f"Time: {total:.0f} s by the clock: {clock}\nBusy (stages overlap; share of the clock, count): {busy}"


def _race_text(candidates: Sequence[Candidate]) -> str:
    """What racing saved."""
    scores = [c.assessment.score for c in candidates if c.assessment.score]
    asked, whole = sum(s.n for s in scores), sum(s.of for s in scores)
    stopped = sum(not s.complete for s in scores)
    if not stopped:
        return f"Dev problems asked: {asked}; every scored program was asked all"
    return f"Dev problems asked: {asked} of {whole} ({100 * asked / whole:.0f} %); {stopped} of {len(scores)} scored programs were stopped in the race"


def score_text(facts: Mapping[str, Any]) -> str:
    """What `score` found, in plain lines."""
    lines = [_scored_line(f"{facts['model']} on {facts['benchmark']}/{_split(facts, 'dev')}", facts)]
    lines += [f"  {family:24s} {percent(share):>5s} %" for family, share in facts["families"].items()]
    if "test" in facts:
        lines.append(_scored_line(f"{facts['model']} on {facts['benchmark']}/test", facts["test"]))
        lines.append(f"dev − test: {_points(facts['gap']['difference'], facts['gap']['interval'])}")
    if "against" in facts:
        other = facts["against"]
        lines.append(_scored_line(f"{other['model']} on {facts['benchmark']}/{_split(facts, 'dev')}", other))
        lines.append(_paired_line(other, facts["n"]))
        if "test" in facts:
            lines.append(_scored_line(f"{other['model']} on {facts['benchmark']}/test", other["test"]))
            lines.append(_paired_line(other["test"], facts["test"]["n"]))
    return "\n".join(lines)


def _split(facts: Mapping[str, Any], first: str) -> str:
    return first if "test" in facts else str(facts["split"])


def _scored_line(what: str, facts: Mapping[str, Any]) -> str:
    low, high = facts["interval"]
    readings = f"strict {percent(facts['strict'])} %, lenient {percent(facts['lenient'])} %"
    return f"{what}: {percent(facts['score'])} % [{percent(low)}, {percent(high)}], {readings}, n = {facts['n']}, {facts['seconds']:.2f} s"


def _paired_line(other: Mapping[str, Any], n: int) -> str:
    difference = _points(other["difference"], other["difference_interval"])
    return f"difference, paired: {difference}; only the first right {other['only_this']}, only the second {other['only_other']} of {n}; McNemar p = {other['p']:.2g}"


def _points(difference: float, interval: Sequence[float]) -> str:
    low, high = interval
    return f"{100 * difference:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"


def candidate_list(rows: Sequence[tuple[str, Candidate]], width: int) -> Table:
    """One line per (run, candidate), `width` characters wide: what tells programs apart is whole, the rest gives way."""
    wide, several = width >= LIST_WIDE, len({run for run, _ in rows}) > 1
    columns: dict[str, list[str]] = {"run": [run for run, _ in rows]} if several else {}
    found = [c for _, c in rows]
    scores = [c.assessment.score for c in found]
    columns["id"] = [c.program.id for c in found]
    columns["iter."] = [str(c.iteration) for c in found]
    columns["verdict"] = [c.assessment.outcome.value for c in found]
    columns["reason"] = [c.assessment.reason or "" for c in found]
    columns["dev %"] = [percent(c.score) for c in found]
    if wide:
        columns["95 % interval"] = [f"{percent(s.low)} – {percent(s.high)}" if s else "" for s in scores]
    columns["n"] = [asked(s) if s else "" for s in scores]
    table = Table(width=width if wide else None)
    for name, cells in columns.items():
        justify: Literal["left", "right"] = "right" if name in ("iter.", "dev %", "95 % interval", "n") else "left"
        table.add_column(name, justify=justify, no_wrap=True, min_width=max(map(len, (name, *cells))))
    if wide:
        table.add_column("first line", no_wrap=True, overflow="ellipsis", ratio=1)
        firsts = (next((line for line in c.program.source.splitlines() if line.strip()), "") for c in found)
        columns["first line"] = [printable(first) for first in firsts]
    for cells_of_one in zip(*columns.values(), strict=True):
        table.add_row(*map(escape, cells_of_one))
    return table


def asked(score: Score) -> str:
    """Problems asked; of how many, where the race stopped it."""
    return str(score.n) if score.complete else f"{score.n}/{score.of}"


def printable(text: str, *, keep: str = "") -> str:
    """Text of a candidate made safe to show: control characters, and those that do not show or turn the writing round, become Python's escapes."""
    plain = "".join(ch if ch.isprintable() or ch in keep else _escape(ord(ch)) for ch in text)
    return plain if plain.isascii() else _UNSEEN.sub(lambda found: _escape(ord(found[0])), plain)


_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U00016fe4\U0001d159\U000e0000-\U000e0fff]"
)
"""What Python calls printable and nobody sees: Unicode's Default_Ignorable_Code_Point (fillers, which may be names in a program, and variation selectors), and three blanks
that are none of these by name, of Braille, Khitan and music."""


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def print_to(console: Console, *parts: RenderableType) -> None:
    """Print parts with a blank line between them."""
    for part in parts:
        console.print(part)
        console.print()
