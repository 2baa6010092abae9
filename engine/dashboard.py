"""What a campaign looks like while it runs: one screen, drawn from a frozen snapshot. Text only; nothing is asked or decided here.

All text is data: control characters become visible escapes, markup is none, and a terminal without Unicode gets ASCII.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Literal

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.layout import Layout
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from engine.records import Outcome
from engine.tables import percent, printable

LEAST_WIDTH, LEAST_HEIGHT = 80, 24
"""Of a terminal, in characters: on a smaller one the dashboard is a few lines."""

_HEADER, _LEARNING = 3, 4
_HISTOGRAM = (6, 14)  # lines, borders included: at least, at most
_LABEL = 14  # characters before a histogram
_MOST_BINS = 80
_STEP = 0.05  # an axis ends at multiples of it
_BLOCKS, _ASCII_BLOCKS = " ▁▂▃▄▅▆▇█", " ...:::##"
_ASCII = str.maketrans({"–": "-", "−": "-", "×": "x", "·": "|", "→": "->", "…": "..."})
_STYLES = {
    Outcome.OK: "green",
    Outcome.FAILED: "red",
    Outcome.REJECTED: "red",
    Outcome.DUPLICATE: "yellow",
    Outcome.SKIPPED: "yellow",
}


@dataclass(frozen=True)
class Mark:
    """A dev score to be measured against: whose, share 0..1, 95 % interval."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Event:
    """One of the last things that happened.

    Attributes:
        name: a program's id, or the name of a model or human-made merge.
        verdict: value of `Outcome`, or "dev", "test" for what is no candidate.
        text: its reason, in its own words too; "" where it has a score.
        score: share 0..1, or None; where it is not `complete`, of what it was asked.
    """

    name: str
    verdict: str
    text: str = ""
    score: float | None = None
    complete: bool = True


@dataclass(frozen=True)
class Counts:
    """Candidates of one iteration: all that were assessed; of them valid ones, and those that were new besides and have a score. Reasons: the most frequent first."""

    assessed: int = 0
    valid: int = 0
    new: int = 0
    reasons: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """A campaign at one moment. Shares are 0..1, times seconds; None: not known yet.

    Attributes:
        where: phase and iteration, in words.
        note: where the archive is, or what the user must know now.
        urgent: the note is of the second kind.
        elapsed, left: since this start, and about how long to go.
        assessed, planned: programs of the whole run.
        here, here_planned, written: programs of this iteration: assessed, planned, written.
        per_minute: candidates, in this phase.
        iteration: the one that is searched or was last; 0 before the first.
        scores, scores_before: dev shares of this iteration and of the one before it.
        counts, counts_before: of the same.
        best: the best program so far that was asked everything.
        human: the human-made merge that is best on dev: the one to beat.
        busy: (stage, busy share of this phase's clock), the busiest first; stages overlap.
        last: what happened last, the latest first.
        learning: what the last update of the generator came to.
    """

    where: str
    note: str
    urgent: bool
    elapsed: float
    left: float | None
    assessed: int
    planned: int
    here: int
    here_planned: int
    written: int
    per_minute: float | None
    iteration: int
    scores: tuple[float, ...]
    scores_before: tuple[float, ...]
    counts: Counts
    counts_before: Counts
    best: Mark | None
    human: Mark | None
    busy: tuple[tuple[str, float], ...]
    last: tuple[Event, ...]
    learning: tuple[str, ...]


def dashboard(snapshot: Snapshot) -> RenderableType:
    """A screen of whatever size the console has."""
    return _Screen(snapshot)


def clock_text(seconds: float) -> str:
    """Minutes and seconds; hours from the first on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes_rest = divmod(minutes, 60)
    return f"{hours}:{minutes_rest:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@dataclass(frozen=True)
class _Screen:
    snapshot: Snapshot

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        s, say = self.snapshot, _Words(options.ascii_only)
        width, height = options.max_width, options.height or options.size.height
        if width < LEAST_WIDTH or height < LEAST_HEIGHT:
            lines = [f"{s.where}  {_times(s)}", f"{s.assessed}/{s.planned} programs", f"best {_mark(s.best)}", s.note]
            yield from (say(line) for line in lines[:height])
            return
        rest = height - _HEADER - _LEARNING
        histogram = min(max(_HISTOGRAM[0], rest // 2 - 1), _HISTOGRAM[1])
        root = Layout()
        root.split_column(
            Layout(_header(s, say), size=_HEADER),
            Layout(name="middle", size=rest - histogram),
            Layout(_panel("dev scores", _Histogram(s, say), say), size=histogram),
            Layout(_panel("learning", say("\n".join(s.learning)), say), size=_LEARNING),
        )
        lines_inside = rest - histogram - 2
        root["middle"].split_row(
            Layout(_panel("so far", _facts(s, say, lines_inside), say)),
            Layout(_panel("last", _events(s.last[:lines_inside], say), say)),
        )
        yield root


@dataclass(frozen=True)
class _Words:
    """Text of any kind as what a terminal shows and does nothing for."""

    ascii_only: bool

    def __call__(self, text: str, style: str = "", *, wrap: bool = True) -> Text:
        shown = printable(text, keep="\n")
        if self.ascii_only:
            shown = shown.translate(_ASCII).encode("ascii", "backslashreplace").decode()
        overflow: Literal["crop", "ellipsis"] = "crop" if self.ascii_only else "ellipsis"  # whose sign is not ASCII
        return Text(shown, style=style) if wrap else Text(shown, style=style, no_wrap=True, overflow=overflow)


def _panel(title: str, content: RenderableType, say: _Words) -> Panel:
    return Panel(content, title=say(title), title_align="left", padding=(0, 1), border_style="dim")


def _times(s: Snapshot) -> str:
    left = "" if s.left is None else f", about {clock_text(s.left)} left"
    return f"{clock_text(s.elapsed)}{left}"


def _header(s: Snapshot, say: _Words) -> RenderableType:
    first = Table.grid(expand=True)
    first.add_column(ratio=1)
    first.add_column(justify="right")
    first.add_row(say(s.where, "bold", wrap=False), say(_times(s), wrap=False))
    second = Table.grid(expand=True, padding=(0, 1))
    second.add_column(no_wrap=True)
    second.add_column(ratio=1)
    second.add_column(no_wrap=True)
    counts = f"{s.assessed}/{s.planned}"
    if s.iteration:
        written = f", {s.written} written" if s.written < s.here_planned else ""
        counts += f" · this iteration {s.here}/{s.here_planned}{written}"
    if s.per_minute is not None:
        counts += f" · {s.per_minute:.0f}/min"
    bar = ProgressBar(total=max(1, s.planned), completed=s.assessed)
    second.add_row(say("programs"), bar, say(counts))
    grid = Table.grid(expand=True)
    grid.add_row(first)
    grid.add_row(second)
    grid.add_row(say(s.note, "bold yellow" if s.urgent else "dim", wrap=False))
    return grid


def _mark(mark: Mark | None) -> str:
    return "–" if mark is None else f"{percent(mark.value)} % [{percent(mark.low)}, {percent(mark.high)}]"


def _facts(s: Snapshot, say: _Words, lines: int) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    for key, mark, style in (("best", s.best, "bold green"), ("to beat", s.human, "")):
        grid.add_row(say(key, "dim"), say(_mark(mark), style, wrap=False))
        if mark is not None:
            grid.add_row("", say(mark.name, wrap=False))
    faults = ", ".join(f"{reason} {count}" for reason, count in s.counts.reasons) or "none"
    busy = ", ".join(f"{stage} {100 * share:.0f} %" for stage, share in s.busy) or "–"
    grid.add_row(say("now %", "dim"), say(_shares(s.counts), wrap=False))
    if s.counts_before.assessed:
        grid.add_row(say("before %", "dim"), say(_shares(s.counts_before), wrap=False))
    roomy = lines > 10
    grid.add_row(say("faults", "dim"), say(faults, wrap=roomy))
    grid.add_row(say("busy", "dim"), say(busy, wrap=roomy))
    return grid


def _shares(counts: Counts) -> str:
    if not counts.assessed:
        return "–"
    valid, new, failed = (
        100 * part / counts.assessed for part in (counts.valid, counts.new, counts.assessed - counts.valid)
    )
    return f"valid {valid:.0f}, new {new:.0f}, failed {failed:.0f}"


def _events(events: Sequence[Event], say: _Words) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    styles = {outcome.value: style for outcome, style in _STYLES.items()}
    for one in events:
        style = styles.get(one.verdict, "")
        if one.score is not None:
            star = "" if one.complete else " *"
            what = f"{percent(one.score)} %{star}" + (f" {one.verdict}" if one.verdict != Outcome.OK else "")
        else:
            what = f"{one.verdict} {one.text}".strip()
        grid.add_row(say(one.name, wrap=False), say(what.replace("\n", " "), style, wrap=False))
    return grid


@dataclass(frozen=True)
class _Histogram:
    """How the dev shares of this iteration and of the one before lie over one axis, each by its own peak; under it the merge to beat."""

    s: Snapshot
    say: _Words

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        s = self.s
        if not s.scores and not s.scores_before:
            yield self.say("No program has a score yet.", "dim")
            return
        points = [*s.scores, *s.scores_before, *(mark.value for mark in (s.best, s.human) if mark is not None)]
        low, high = floor(min(points) / _STEP) * _STEP, ceil(max(points) / _STEP) * _STEP
        high = max(high, low + _STEP)
        cell = 1 + (options.max_width - _LABEL) // _MOST_BINS  # characters a bin
        bins = max(10, (options.max_width - _LABEL) // cell)
        both = [(s.iteration, s.scores, "green")]
        if s.scores_before:
            both.append((s.iteration - 1, s.scores_before, "blue"))
        lines = max(len(both), (options.height or 2 * len(both) + 1) - 1)
        for place, (iteration, scores, style) in enumerate(both):
            its_lines = (lines + len(both) - 1 - place) // len(both)
            yield from self._bars(iteration, counted(scores, low, high, bins), len(scores), its_lines, cell, style)
        yield self._axis(low, high, bins * cell)

    def _bars(
        self, iteration: int, bins: Sequence[int], count: int, lines: int, cell: int, style: str
    ) -> Iterator[Text]:
        labels = [f"iteration {iteration}", f"{count} scores"]
        blocks = _ASCII_BLOCKS if self.say.ascii_only else _BLOCKS
        peak = max(1, *bins)
        heights = [ceil(8 * lines * number / peak) for number in bins]
        for line in range(lines):
            below = 8 * (lines - 1 - line)
            bar = "".join(cell * blocks[min(8, max(0, height - below))] for height in heights)
            label = labels[line] if line < len(labels) else ""
            yield Text.assemble((f"{label:<{_LABEL}}", "dim"), (bar, style), no_wrap=True, overflow="crop")

    def _axis(self, low: float, high: float, width: int) -> Text:
        left, right = f"{100 * low:.0f} %", f"{100 * high:.0f} %"
        axis = Text(" " * _LABEL + left + " " * (width - len(left) - len(right)) + right, no_wrap=True, overflow="crop")
        if self.s.human is None:
            return axis
        place = _LABEL + min(width - 1, int((self.s.human.value - low) / (high - low) * width))
        sign = "^" if self.say.ascii_only else "▲"
        text = f"{sign} to beat"
        start = place if place + len(text) <= _LABEL + width - len(right) else place - len(text) + 1
        shown = text if start == place else f"to beat {sign}"
        plain = axis.plain[:start] + shown + axis.plain[start + len(shown) :]
        return Text(plain, no_wrap=True, overflow="crop")


def counted(scores: Sequence[float], low: float, high: float, bins: int) -> list[int]:
    """How many scores lie in each of `bins` equal parts of low..high; what lies at the upper end is in the last."""
    found = [0] * bins
    for score in scores:
        found[min(bins - 1, max(0, int((score - low) / (high - low) * bins)))] += 1
    return found
