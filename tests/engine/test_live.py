"""The dashboard on a real terminal: a pseudo-terminal, and what is written to it, byte by byte."""

from __future__ import annotations

import fcntl
import io
import os
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from engine.live import is_screen

ROOT = Path(__file__).parents[2]
ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"
HINT = b"mergewright resume runs/x"

SCRIPT = """
import os, sys, threading
from pathlib import Path
from rich.console import Console
from engine.config import CampaignConfig
from engine.progress import Progress
from engine.stages import Stages
from engine.stopping import stopping_in_order
from engine.store import Store

progress = Progress(CampaignConfig(), Console(), resume_hint="mergewright resume runs/x", plain={plain})
store = Store.in_folder(Path(sys.argv[1]), create=True)
progress.plan(3, 3.0, store)
stopping = stopping_in_order(progress.request_stop, "mergewright resume runs/x", tell=progress.tell, farewell=progress.farewell)
with stopping, progress, progress.phase("search", 1, store, Stages()):
    {work}
print("the tables")
"""


class Terminal:
    """A pseudo-terminal with a process in it.

    Args:
        size: lines and columns.
    """

    def __init__(
        self, folder: Path, work: str, *, size: tuple[int, int] = (30, 100), plain: bool = False, **environment: str
    ) -> None:
        self._ours, self._its = os.openpty()
        self.resize(*size)
        unset = {"CI", "TERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"}
        kept = {name: value for name, value in os.environ.items() if name not in unset}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT.format(work=work, plain=plain), str(folder)],
            stdin=self._its,
            stdout=self._its,
            stderr=self._its,
            cwd=ROOT,
            env={**kept, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **environment},
            start_new_session=True,
        )
        os.close(self._its)
        self.written = b""
        self._watchdog = threading.Timer(120, self.process.kill)
        self._watchdog.start()

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def until(self, *wanted: bytes, of: int = 0) -> int:
        """Read until all of it has been written after byte `of`; answers with how much was written by then."""
        while not all(one in self.written[of:] for one in wanted):
            more = self._read()
            assert more, self.written[-3000:].decode(errors="replace")
        return len(self.written)

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        return self.process.wait()

    def give_up(self) -> None:
        self._watchdog.cancel()
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def _read(self) -> bytes:
        try:
            some = os.read(self._ours, 65536)
        except OSError:  # a terminal whose last process has gone
            some = b""
        self.written += some
        return some

    def left(self) -> bytes:
        """What was written after the dashboard; asserts that the terminal is as it was before."""
        assert (self.written.count(ENTER), self.written.count(LEAVE)) == (1, 1)
        assert self.written.count(HIDE) == self.written.count(SHOW) == 1
        assert self.written.index(ENTER) < self.written.index(LEAVE)
        before, after = self.written.split(LEAVE)
        assert SHOW in after or before.rindex(SHOW) > before.rindex("╭".encode())
        assert "╭".encode() not in after, "no frame is drawn on the first screen"
        return after


Start = Callable[..., Terminal]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process in a pseudo-terminal: what it does while the dashboard is there, and the rest as in `Terminal`."""
    started: list[Terminal] = []

    def begin(work: str, **options: object) -> Terminal:
        started.append(Terminal(tmp_path, work, **options))  # type: ignore[arg-type]
        return started[-1]

    yield begin
    for one in started:
        one.give_up()


def test_the_terminal_is_as_before_and_has_what_was_printed_meanwhile(start: Start) -> None:
    terminal = start("print('meanwhile'); print('a warning', file=sys.stderr)", size=(24, 80))
    assert terminal.end() == 0
    after = terminal.left()
    assert b"iteration 1/3: search" in terminal.written
    for text in (b"meanwhile", b"a warning", b"0 programs assessed", b"the tables"):
        assert terminal.written.count(text) == after.count(text) == 1
    assert after.index(b"meanwhile") < after.index(b"0 programs assessed") < after.index(b"the tables")


def test_an_exception_is_seen_whole_after_the_dashboard(start: Start) -> None:
    terminal = start("raise RuntimeError('a defect')")
    assert terminal.end() == 1
    after = terminal.left()
    assert b"Traceback" in after
    assert b"RuntimeError: a defect" in after


def test_another_size_is_drawn_anew(start: Start) -> None:
    terminal = start("sys.stdin.readline()")

    def border(columns: int) -> bytes:
        return ("╰" + "─" * (columns - 2) + "╯").encode()

    drawn = terminal.until(border(100))
    for size in ((24, 80), (45, 133)):
        terminal.resize(*size)
        drawn = terminal.until(border(size[1]), of=drawn)
    terminal.resize(10, 40)
    terminal.until(b"0/600 programs", of=drawn)
    terminal.press(b"\n")
    assert terminal.end() == 0
    assert b"the tables" in terminal.left()


def test_ctrl_c_is_told_in_the_dashboard_and_a_second_one_leaves_it_first(start: Start) -> None:
    terminal = start("threading.Event().wait()")
    drawn = terminal.until(b"iteration 1/3: search", b"learning")
    terminal.process.send_signal(signal.SIGINT)
    terminal.until(b"stopping when the step in work is done; Ctrl-C again stops at once", of=drawn)
    assert LEAVE not in terminal.written
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert b"stopped at once; nothing finished is lost. Go on with: " + HINT in terminal.left()


def test_ctrl_c_once_ends_in_order(start: Start) -> None:
    work = "while True: progress.check(); threading.Event().wait(0.01)"
    terminal = start(work)
    terminal.until(b"iteration 1/3: search")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 1, "nobody turns the exception into a line here"
    assert b"stopped in order (Ctrl-C); nothing is lost. Go on with: " + HINT in terminal.left()


PLAIN: Sequence[tuple[str, dict[str, object]]] = [
    ("asked for", {"plain": True}),
    ("a build server", {"CI": "true"}),
    ("a terminal in name alone", {"TERM": "dumb"}),
]


@pytest.mark.parametrize("options", [options for _, options in PLAIN], ids=[name for name, _ in PLAIN])
def test_plain_lines_are_nothing_but_lines(start: Start, options: dict[str, object]) -> None:
    terminal = start("print('meanwhile')", **options)
    assert terminal.end() == 0
    assert b"\x1b" not in terminal.written
    assert b"iteration 1/3: search" in terminal.written
    assert terminal.written.index(b"meanwhile") < terminal.written.index(b"the tables")


def test_a_small_terminal_has_the_one_line(start: Start) -> None:
    terminal = start("print('meanwhile')", size=(23, 80))
    assert terminal.end() == 0
    assert ENTER not in terminal.written
    assert b"iteration 1/3: search" in terminal.written
    assert b"\x1b[" in terminal.written, "it is redrawn"


def test_a_terminal_without_unicode_or_colours_gets_the_dashboard_too(start: Start) -> None:
    terminal = start("pass", NO_COLOR="1", PYTHONIOENCODING="ascii")
    assert terminal.end() == 0, terminal.written.decode()
    assert terminal.written.isascii()
    assert b"+" + 98 * b"-" + b"+" in terminal.written
    assert terminal.written.count(LEAVE) == 1


def test_colours_forced_into_a_pipe_make_it_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    assert not is_screen(Console(file=io.StringIO(), force_terminal=True))
