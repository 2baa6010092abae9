"""What pages show of one program, as plain values: no HTML here, and nothing is run."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.problems import Problem
from benchmarks.scores import Score
from engine.ablation import Ablation, known_ablation
from engine.cells import Cells
from engine.comparing import Comparison, by_family
from engine.descriptors import NUMBERS
from engine.finale import Row
from engine.pages.charts import STYLES, climbs, histograms
from engine.pages.runs import Run, at_a_glance
from engine.records import Candidate, Effect
from engine.syntax_diff import Change, diff
from engine.tables import apply_command

_LAYER = re.compile(r"(.*?)\.(\d+)\.(.*)")
LEVELS = 4
"""Shades of a heat map on either side of 0."""
SHADES = 8
"""Shades of a map above the lightest."""

Values = dict[str, object]
"""What a template is given."""


def glance_part(run: Run) -> Values:
    """A run at a glance."""
    seen = run.overview()
    return {
        "run": run,
        "seen": seen,
        "finals": run.finals(),
        "climb": climbs({run.name: seen}),
        "histogram": histograms(seen.iterations, seen.human.score.value if seen.human else None),
    }


def beside_part(runs: Sequence[Run]) -> Values:
    """Several runs side by side."""
    seen, broken = at_a_glance(runs)
    drawn = [run.name for run, facts in seen if facts.climb]
    firsts = {
        run.name: [r for r in run.finals() if (r.final.kind, r.final.rank) == ("discovered", 1)] for run, _ in seen
    }
    return {
        "seen": seen,
        "broken": broken,
        "climb": climbs({run.name: facts for run, facts in seen}),
        "places": {name: at % STYLES for at, name in enumerate(drawn)},
        "finals": {name: rows[0] if rows else None for name, rows in firsts.items()},
    }


def map_part(found: Cells) -> Values:
    """A map, shaded by rank from the lowest score in it to the highest: most scores lie close together, and a few near 0."""
    values = sorted({cell.value for cell in found.held})
    last = max(len(values) - 1, 1)
    return {
        "found": found,
        "held": {(cell.column, cell.row): cell for cell in found.held},
        "shade": lambda value: round(SHADES * bisect_left(values, value) / last),
        "numbers": NUMBERS,
    }


@dataclass(frozen=True)
class Contest:
    """A program against a merge or model that was asked the same problems.

    Attributes:
        name: of the other.
        score: the other's.
        found: the comparison, the program first.
        won, lost: problems that it alone solved, and the other alone; empty where the problem files are not at hand.
    """

    name: str
    score: Score
    found: Comparison
    won: tuple[Problem, ...]
    lost: tuple[Problem, ...]


@dataclass(frozen=True)
class Heat:
    """Mixing weights by layer: a table for each expert, and one for what no weighted sum explains.

    Attributes:
        layers: heads of the columns; "–" stands for tensors outside the layers.
        kinds: heads of the rows: parameter names with their layer left out.
        tables: title → row → column → (value, shade −4..4); None where there is no such tensor.
    """

    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    tables: Mapping[str, tuple[tuple[tuple[float, int] | None, ...], ...]]


@dataclass(frozen=True)
class Descriptor:
    """One number of what a program does.

    Attributes:
        name, meaning, low, high: as in `descriptors.NUMBERS`.
        value: of the program.
        share: where it lies between low and high, 0..1.
    """

    name: str
    meaning: str
    low: float
    high: float
    value: float
    share: float


@dataclass(frozen=True)
class ProgramPart:
    """Everything a program's page shows beside its text.

    Attributes:
        candidate: the program and its fate.
        final: its line of the final, if it was a finalist.
        contests: against the human-made merge first on dev, and the seed.
        families: kinds of problems that its score tells apart.
        heat: None where the effect was never taken.
        descriptors: empty where they were never taken.
        ablation: what each part of it is worth; None where nobody asked.
        apply: the command that applies it to the campaign's models.
    """

    candidate: Candidate
    final: Row | None
    contests: tuple[Contest, ...]
    families: tuple[str, ...]
    heat: Heat | None
    descriptors: tuple[Descriptor, ...]
    ablation: Ablation | None
    apply: str


def program_part(run: Run, candidate: Candidate) -> ProgramPart:
    """The page of a run's candidate."""
    assessment, program = candidate.assessment, candidate.program
    final = next((r for r in run.finals() if (r.final.kind, r.final.name) == ("discovered", program.id)), None)
    effects = run.store.effects(program.id)
    return ProgramPart(
        candidate=candidate,
        final=final,
        contests=tuple(contests(run, assessment.score)),
        families=tuple(assessment.score.families) if assessment.score else (),
        heat=heat(effects) if effects else None,
        descriptors=tuple(_descriptors(assessment.descriptors.numbers)) if assessment.descriptors else (),
        ablation=known_ablation(run.store, program.id),
        apply=apply_command(run.config, program.id, run.folder),
    )


@dataclass(frozen=True)
class Pair:
    """Two programs of a run held against each other.

    Attributes:
        first, second: they.
        changes: by syntax, what makes the second out of the first.
        found: problem by problem; None where no problem was asked of both.
        families: kind of problem → how many the first alone solved, and the second alone.
        won, lost: the problems themselves, where they are at hand.
    """

    first: Candidate
    second: Candidate
    changes: tuple[Change, ...]
    found: Comparison | None
    families: Mapping[str, tuple[int, int]]
    won: tuple[Problem, ...]
    lost: tuple[Problem, ...]


def pair_part(run: Run, first: Candidate, second: Candidate) -> Pair:
    """The page of two candidates.

    Raises:
        ProgramError: one of them does not parse.
    """
    found = run.compared(first.assessment.score, second.assessment.score)
    problems = run.problems() if found else ()
    won, lost = _apart(found, problems) if found else ((), ())
    changes = tuple(diff(first.program.source, second.program.source))
    return Pair(first, second, changes, found, by_family(found, problems) if found else {}, won, lost)


def _apart(found: Comparison, problems: Sequence[Problem]) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """The problems that the first alone solved, and the second alone."""
    won, lost = (tuple(problems[at] for at in places if problems) for places in (found.only_first, found.only_second))
    return won, lost


def contests(run: Run, score: Score | None) -> Iterator[Contest]:
    """A score against the run's human-made merge first on dev, and against its seed."""
    if score is None:
        return
    trials = run.store.trials()
    human = max((t for t in trials if t.kind == "human"), key=lambda t: t.score.value, default=None)
    seed = next((t for t in trials if t.kind == "seed"), None)
    for other in (human, seed):
        found = other and run.compared(score, other.score)
        if other and found:
            won, lost = _apart(found, run.problems())
            yield Contest(other.name, other.score, found, won, lost)


def heat(effects: Sequence[Effect]) -> Heat:
    """Effects laid out by kind and layer."""
    placed = {_place(one.tensor): one for one in effects}
    kinds = tuple(dict.fromkeys(kind for kind, _ in placed))
    layers = tuple(sorted({layer for _, layer in placed}, key=lambda layer: (layer == "–", layer.zfill(6))))
    most = max((abs(w) for one in effects for w in one.weights.values()), default=0.0) or 1.0

    def table(value: Mapping[tuple[str, str], float], top: float) -> tuple[tuple[tuple[float, int] | None, ...], ...]:
        def cell(place: tuple[str, str]) -> tuple[float, int] | None:
            return (value[place], round(LEVELS * value[place] / top)) if place in value else None

        return tuple(tuple(cell((kind, layer)) for layer in layers) for kind in kinds)

    tables = {
        f"weight of {expert}": table({place: one.weights[expert] for place, one in placed.items()}, most)
        for expert in effects[0].weights
    }
    tables["not explained by any weighted sum"] = table({place: one.rest for place, one in placed.items()}, 1.0)
    return Heat(layers, kinds, tables)


def _place(tensor: str) -> tuple[str, str]:
    """(kind, layer) of a parameter: its first number is the layer, as in `model.layers.3.mlp.up_proj.weight`."""
    parts = _LAYER.fullmatch(tensor)
    return (f"{parts[1]}.*.{parts[3]}", parts[2]) if parts else (tensor, "–")


def _descriptors(numbers: Mapping[str, float]) -> Iterator[Descriptor]:
    for name, about in NUMBERS.items():
        share = (numbers[name] - about.low) / (about.high - about.low)
        yield Descriptor(name, about.meaning, about.low, about.high, numbers[name], min(1.0, max(0.0, share)))
