"""What people read of one program: source, outcome, scores, cost, lineage. Text only; no decisions are made here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from benchmarks.scores import Score
from engine.descriptors import DEPENDENCES, Descriptors
from engine.finale import Row
from engine.records import IMPORTED, Assessment, Candidate, Effect, Outcome, Program
from engine.tables import asked, final_cells, percent, printable

Fact = tuple[str, object]
_MOVED = 0.005  # below, it is the rounding of two decimals
_LAYER = re.compile(r"(?<=\.)\d+(?=\.)")


def candidate_page(
    candidate: Candidate, related: Mapping[str, Sequence[str]], final: Row | None = None
) -> RenderableType:
    """All there is to know of one candidate.

    Args:
        related: see `engine.lineage.related`.
        final: its test score, if it was a finalist.
    """
    assessment = candidate.assessment
    facts = [*_written(candidate), *_fate(assessment)]
    facts += _scored(assessment.score) if assessment.score else []
    facts += _tested(final) if final else []
    facts += _described(assessment.descriptors) if assessment.descriptors else []
    facts += [*_cost(assessment), *((key, ", ".join(values)) for key, values in related.items())]
    grid = Table.grid(padding=(0, 2))
    for key, value in facts:
        if value not in (None, "", ()):
            grid.add_row(Text(key, style="dim"), Text(printable(str(value))))
    source = printable(candidate.program.source, keep="\n\t")
    return Group(grid, Text(), Syntax(source, "python", line_numbers=True, word_wrap=True))


def effect_table(found: Sequence[Effect]) -> RenderableType:
    """What a program makes of each kind of tensor: lowest and highest over its layers."""
    table = Table(title="Effect: the nearest weighted sum of the task vectors", title_justify="left")
    table.add_column("tensors")
    experts = list(found[0].weights) if found else []
    for name in (*experts, "rest %", "size", "density %"):
        table.add_column(printable(name), justify="right")
    for kind, members in _by_kind(found).items():
        weights = [_span([one.weights[expert] for one in members], ".2f") for expert in experts]
        rest = _span([100 * one.rest for one in members], ".1f")
        size = _span([one.size for one in members], ".2f")
        table.add_row(Text(kind), *weights, rest, size, _span([100 * one.density for one in members], ".0f"))
    note = (
        "rest: share of the merged vector's squared norm that no weighted sum explains; size: its norm over the mean norm of the experts' vectors; "
        "density: entries that are not 0"
    )
    return Group(table, Text(note, style="dim"))


def _by_kind(found: Sequence[Effect]) -> Mapping[str, list[Effect]]:
    """Tensors of one kind together, layer by layer: `model.layers.*.mlp.up_proj.weight` and its like."""
    kinds: dict[str, list[Effect]] = {}
    for one in found:
        kinds.setdefault(_LAYER.sub("*", one.tensor), []).append(one)
    return kinds


def _span(values: Sequence[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} … {high}"


def _written(candidate: Candidate) -> Iterator[Fact]:
    program: Program = candidate.program
    yield "program", program.id
    if program.origin == IMPORTED:
        yield (
            "candidate",
            f"{candidate.number}, imported; everything here was measured here, its claims are in the archive (--json: text)",
        )
        return
    writer = f"{program.origin} version {program.generator}, asked for: {program.task}"
    yield "candidate", f"{candidate.number}, iteration {candidate.iteration}, written by {writer}"
    yield "judged by its writer", None if program.judged is None else f"{program.judged:.2f} of 5"
    s = program.sampling
    limits = f"temperature {s.temperature:.3g}, top-p {s.top_p:g}, top-k {s.top_k or 'all'}"
    yield "sampling", f"{limits}, seed {s.seed}, batch {s.batch}, row {s.row}"


def _fate(a: Assessment) -> Iterator[Fact]:
    yield "verdict", a.outcome.value
    yield "reason", f"{a.reason}: {a.detail}" + (f" (line {a.line})" if a.line else "") if a.reason else None
    yield "left out", a.detail if a.outcome is Outcome.SKIPPED else None
    yield "same behaviour as", a.duplicate_of


def _scored(s: Score) -> Iterator[Fact]:
    readings = f"strict {percent(s.strict)} %, lenient {percent(s.lenient)} %"
    interval = f"{percent(s.value)} % [{percent(s.low)}, {percent(s.high)}]"
    yield "dev", f"{interval}, {readings}, n = {asked(s)}, scorer {s.scorer_version}"
    if not s.complete:
        yield "", "stopped in the race: it could not be among the best any more; the interval holds for such a stop"
    yield "by family", ", ".join(f"{k} {percent(v)}" for k, v in s.families.items())


def _tested(final: Row) -> Iterator[Fact]:
    _, _, share, interval, _, against, chance = final_cells(final)
    star = "; *: simultaneous, as in the run's table" if final.simultaneous else ""
    human = f"against the best human-made merge {against}, p = {chance}{star}"
    yield "test", f"{share} % [{interval}], n = {final.final.score.n}; {human}"


def _described(d: Descriptors) -> Iterator[Fact]:
    n = d.numbers
    weights = ", ".join(f"{weight:.2f}" for weight in d.weights)
    yield (
        "weighs the experts",
        f"{weights}; no weighted sum explains {100 * n['rest']:.1f} % of the result (on the probe tensors)",
    )
    shape = f"size {n['size']:.2f}, sparsity {n['sparsity']:.2f}, agreement in sign {n['agreement']:.2f}"
    yield "its result", f"{shape}, weights vary by {n['variation']:.2f} from tensor to tensor"
    moved = ", ".join(f"{name} {n[name]:.2f}" for name in DEPENDENCES if n[name] >= _MOVED)
    yield "depends on", moved or "nothing but the task vectors, each entry in its place"
    yield "operations", ", ".join(d.operations)


def _cost(a: Assessment) -> Iterator[Fact]:
    if a.isolation:
        seconds = f"sandbox {1000 * a.execute_seconds:.0f} ms, scoring {a.score_seconds:.2f} s"
        yield "cost", f"{seconds}, peak {a.peak_memory_bytes / 2**20:.0f} MiB, isolation {a.isolation}"
    yield "behaviour", a.behaviour
    yield "tensors sha256", a.sha256
