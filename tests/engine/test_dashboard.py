"""The dashboard as text, at the widths of real terminals; whatever stands in the snapshot, the terminal is safe."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from engine.dashboard import Counts, Event, Mark, Snapshot, clock_text, counted, dashboard

SNAPSHOT = Snapshot(
    where="pocket · iteration 2/3: search",
    note="archive runs/x · Ctrl-C stops in order",
    urgent=False,
    elapsed=431.0,
    left=512.0,
    assessed=312,
    planned=600,
    here=112,
    here_planned=200,
    written=150,
    per_minute=44.4,
    iteration=2,
    scores=(0.5, 0.6, 0.6, 0.7),
    scores_before=(0.4, 0.5),
    counts=Counts(112, 93, 70, (("exception", 12), ("policy", 5))),
    counts_before=Counts(200, 142, 120),
    best=Mark("2cacd0fdbed4", 0.73, 0.693, 0.764),
    human=Mark("ties (scale=0.9)", 0.65, 0.61, 0.69),
    busy=(("generate", 0.77), ("propose", 0.22)),
    last=(
        Event("aaaaaaaaaaaa", "ok", score=0.612),
        Event("bbbbbbbbbbbb", "ok", score=0.45, complete=False),
        Event("cccccccccccc", "failed", "timeout: 20 s"),
        Event("seed", "dev", score=0.5),
    ),
    learning=("after iteration 1, dpo: taken back: KL 0.900 nats a token, above 0.5", "of 64 programs 80 % valid"),
)


def drawn(snapshot: Snapshot, width: int, height: int, encoding: str = "utf-8", **options: object) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    Console(file=file, width=width, height=height, **options).print(dashboard(snapshot))  # type: ignore[arg-type]
    file.flush()
    assert isinstance(file.buffer, io.BytesIO)
    return file.buffer.getvalue().decode(encoding)


AT_80 = """\
pocket · iteration 2/3: search                             7:11, about 8:32 left
programs ━━━━━━━━         312/600 · this iteration 112/200, 150 written · 44/min
archive runs/x · Ctrl-C stops in order
╭─ so far ─────────────────────────────╮╭─ last ───────────────────────────────╮
│ best     73.0 % [69.3, 76.4]         ││ aaaaaaaaaaaa 61.2 %                  │
│          2cacd0fdbed4                ││ bbbbbbbbbbbb 45.0 % *                │
│ to beat  65.0 % [61.0, 69.0]         ││ cccccccccccc failed timeout: 20 s    │
│          ties (scale=0.9)            ││ seed         50.0 % dev              │
│ now %    valid 83, new 62, failed 17 ││                                      │
│ before % valid 71, new 60, failed 29 ││                                      │
│ faults   exception 12, policy 5      ││                                      │
│ busy     generate 77 %, propose 22 % ││                                      │
╰──────────────────────────────────────╯╰──────────────────────────────────────╯
╭─ dev scores ─────────────────────────────────────────────────────────────────╮
│ iteration 2                                      █                           │
│ 4 scores                       █                 █                 █         │
│ iteration 1   █                █                                             │
│ 2 scores      █                █                                             │
│               40 %                                        ▲ to beat     75 % │
╰──────────────────────────────────────────────────────────────────────────────╯
╭─ learning ───────────────────────────────────────────────────────────────────╮
│ after iteration 1, dpo: taken back: KL 0.900 nats a token, above 0.5         │
│ of 64 programs 80 % valid                                                    │
╰──────────────────────────────────────────────────────────────────────────────╯
"""


def test_the_smallest_dashboard_is_this() -> None:
    text = "\n".join(line.rstrip() for line in drawn(SNAPSHOT, 80, 24).splitlines()) + "\n"
    assert text.rstrip() == AT_80.rstrip()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (160, 50), (250, 24), (80, 100)])
def test_it_fills_the_terminal_and_no_more(width: int, height: int) -> None:
    lines = drawn(SNAPSHOT, width, height).rstrip("\n").splitlines()
    assert len(lines) == height
    assert {cell_len(line) for line in lines[3:]} == {width}
    text = "\n".join(lines)
    for part in (
        "2cacd0fdbed4",
        "73.0 % [69.3, 76.4]",
        "timeout",
        "exception 12",
        "to beat",
        "KL 0.900",
        "312/600",
        "8:32 left",
    ):
        assert part in text


@pytest.mark.parametrize(("width", "height"), [(79, 24), (80, 23), (20, 4), (1, 1)])
def test_a_terminal_that_was_made_too_small_still_says_where_the_run_is(width: int, height: int) -> None:
    text = drawn(SNAPSHOT, width, height)
    assert "╭" not in text
    assert max(map(cell_len, text.splitlines())) <= width
    assert "pocket" in text.replace("\n", "")


NOTHING = replace(
    SNAPSHOT, left=None, assessed=0, here=0, written=0, per_minute=None, iteration=0, scores=(), scores_before=(),
    counts=Counts(), counts_before=Counts(), best=None, human=None, busy=(), last=(), learning=("no update yet",),
)  # fmt: skip


def test_before_anything_has_happened_it_says_so() -> None:
    text = drawn(NOTHING, 80, 24)
    assert "No program has a score yet." in text
    assert "no update yet" in text
    assert "this iteration" not in text
    assert "left" not in text


def test_one_score_is_a_histogram_too() -> None:
    text = drawn(replace(NOTHING, iteration=1, scores=(0.5,)), 100, 30)
    assert "1 scores" in text
    assert "█" in text


def test_what_the_user_must_know_now_stands_out() -> None:
    text = drawn(replace(SNAPSHOT, note="stopping", urgent=True), 80, 24, force_terminal=True, color_system="standard")
    assert "\x1b[1;33mstopping" in text


def test_without_colours_there_are_none() -> None:
    text = drawn(SNAPSHOT, 80, 24, force_terminal=True, color_system="standard", no_color=True)
    assert not {f"\x1b[{code}m" for code in (31, 32, 33, 34)} & {part + "m" for part in text.split("m")}
    assert "\x1b[3" not in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "iso8859-15"])
@pytest.mark.parametrize("size", [(80, 24), (160, 50), (30, 5)])
def test_a_terminal_without_unicode_gets_ascii(encoding: str, size: tuple[int, int]) -> None:
    hostile = replace(SNAPSHOT, where="ünïcode – ☃", last=(Event("☃" * 60, "ok", "…"),), learning=("→ – … ×",))
    for snapshot in (SNAPSHOT, hostile):
        text = drawn(snapshot, *size, encoding=encoding)
        assert text.isascii()
        assert "to beat ^" in text or "^ to beat" in text or size[0] == 30


HOSTILE = "\x1b]0;title\x07\x1b[2J[bold red]x[/] \x9b31m\r\n\t\x00[link=http://x]y\u202e\u2028"


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50), (40, 10)])
def test_hostile_text_is_shown_and_does_nothing(width: int, height: int) -> None:
    snapshot = replace(
        SNAPSHOT,
        where=HOSTILE,
        note=HOSTILE,
        best=replace(SNAPSHOT.best, name=HOSTILE),  # type: ignore[type-var]
        human=replace(SNAPSHOT.human, name=HOSTILE),  # type: ignore[type-var]
        last=tuple(Event(HOSTILE, verdict, HOSTILE) for verdict in ("failed", HOSTILE)),
        counts=Counts(1, 0, 0, ((HOSTILE, 1),)),
        busy=((HOSTILE, 0.5),),
        learning=(HOSTILE, HOSTILE),
    )
    text = drawn(snapshot, width, height)
    assert not set(text) & set("\x1b\x07\x9b\r\t\x00\u202e\u2028")
    assert len(text.rstrip("\n").splitlines()) <= height
    assert "[bold red]" in text or width == 40


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=80), width=st.integers(80, 170), height=st.integers(24, 60))
def test_no_text_breaks_the_frame(text: str, width: int, height: int) -> None:
    snapshot = replace(SNAPSHOT, where=text, note=text, last=(Event(text, "failed", text),), learning=(text,))
    lines = drawn(snapshot, width, height).split("\n")[:-1]
    assert len(lines) == height
    assert max(map(cell_len, lines)) <= width


@given(
    scores=st.lists(st.floats(0, 1), max_size=40),
    ends=st.tuples(st.floats(0, 0.5), st.floats(0.51, 1)),
    bins=st.integers(1, 90),
)
def test_a_histogram_counts_everybody_once_and_in_order(
    scores: list[float], ends: tuple[float, float], bins: int
) -> None:
    found = counted(scores, *ends, bins)
    assert len(found) == bins
    assert sum(found) == len(scores)
    low, high = ends
    if bins > 1:
        assert counted([low], low, high, bins)[0] == counted([high], low, high, bins)[-1] == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (600, "10:00"), (3600, "1:00:00"), (36125, "10:02:05")]
)
def test_times_have_hours_where_there_are_any(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text
