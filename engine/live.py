"""A terminal's second screen, redrawn from a function until it is left: the first screen and what scrolled off it stay as they were.

The second screen, and not lines that are rewritten in place: those are torn apart when the terminal is made narrower, as it wraps them anew.
"""

from __future__ import annotations

import io
import os
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from rich.console import Console, RenderableType
from rich.live import Live

FRAMES_A_SECOND = 1.0
"""A frame takes some ten milliseconds of a core, and the clock is all that changes faster."""

_LEAVE = b"\x1b[?1049l\x1b[?25h"  # the first screen, and the cursor
_KEPT_LINES = 200


def is_screen(console: Console) -> bool:
    """Whether lines can be redrawn: a terminal that a person looks at, and not one in name alone (a build server's, TERM=dumb, colours forced into a pipe)."""
    return console.is_terminal and not console.is_dumb_terminal and console.file.isatty() and not os.environ.get("CI")


class LiveScreen:
    """The second screen, while it is open.

    What is printed meanwhile is kept and printed once it is left: on this screen it would be overwritten.

    Args:
        console: of a terminal (`is_screen`).
        frame: what to show now; called in a thread of its own, and seldom.
    """

    def __init__(self, console: Console, frame: Callable[[], RenderableType]) -> None:
        self._console = console
        self._live = Live(
            console=console,
            screen=True,
            get_renderable=frame,
            refresh_per_second=FRAMES_A_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._kept: list[_Kept] = []
        self._terminal: int | None = None

    def open(self) -> None:
        """Show it."""
        self._terminal = self._console.file.fileno()
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream.isatty():
                self._kept.append(_Kept(name, stream))
                setattr(sys, name, self._kept[-1])
        self._live.start(refresh=True)

    def refresh(self) -> None:
        """Draw a frame now."""
        with suppress(OSError):
            self._live.refresh()

    def close(self) -> None:
        """Leave it, and print what was kept."""
        self._terminal = None
        try:
            with suppress(OSError):  # the terminal may be gone
                self._live.stop()
        finally:
            for kept in self._kept:
                setattr(sys, kept.name, kept.rich_proxied_file)
                with suppress(OSError):
                    kept.give()
            self._kept = []

    def leave_at_once(self) -> None:
        """Leave it in a process that is about to end, from any thread: no lock is waited for, nothing else is done."""
        if self._terminal is not None:
            with suppress(OSError):
                os.write(self._terminal, _LEAVE)


class _Kept(io.TextIOBase):
    """A stream that keeps what is written; the last lines of it."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self.name = name
        self.rich_proxied_file = stream  # rich's own consoles write to it
        self._text: deque[str] = deque(maxlen=_KEPT_LINES)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.rich_proxied_file.encoding

    def write(self, text: str) -> int:
        self._text.append(text)
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.rich_proxied_file.fileno()

    def give(self) -> None:
        """Print it."""
        self.rich_proxied_file.write("".join(self._text))
        self.rich_proxied_file.flush()
