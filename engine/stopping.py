"""Ctrl-C: the first one stops a run in order, the second one at once.

A thread of its own waits for the signals, by the pipe that C code writes to where a signal arrives (`signal.set_wakeup_fd`). A handler in Python would be run by
the main thread alone, once it is back from whatever it does: from a long step in C late, and where the system gave the signal to another thread maybe never.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def say(line: str) -> None:
    """A line on standard error, past Python's own streams."""
    with suppress(OSError):  # the terminal may be gone
        os.write(2, f"\n{line}\n".encode())


@contextmanager
def stopping_in_order(
    request_stop: Callable[[str], None],
    go_on_by: str,
    *,
    tell: Callable[[str], None] = say,
    farewell: Callable[[str], None] = say,
) -> Iterator[None]:
    """While it is open, Ctrl-C (or TERM) asks for a stop; a second one ends the process, as a kill would: the archive is made for that, and the processes
    that serve this one end when it is gone. Main thread only.

    Args:
        request_stop: given the reason; called in another thread.
        go_on_by: the command that goes on.
        tell, farewell: show a line, while the run goes on and as the last thing that the process does; called in another thread.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    watcher = threading.Thread(
        target=_watch, args=(read, request_stop, go_on_by, tell, farewell), name="signals", daemon=True
    )
    handlers = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(write)
        watcher.join()
        os.close(read)


def _watch(
    read: int,
    request_stop: Callable[[str], None],
    go_on_by: str,
    tell: Callable[[str], None],
    farewell: Callable[[str], None],
) -> None:
    """Act on every byte, a signal's number, until the pipe is closed."""
    asked = False
    while numbers := os.read(read, 1):
        if numbers[0] not in SIGNALS:
            continue
        if asked:
            farewell(f"stopped at once; nothing finished is lost. Go on with: {go_on_by}")
            os._exit(130)
        asked = True
        request_stop("Ctrl-C" if numbers[0] == signal.SIGINT else "asked to end")
        tell("stopping when the step in work is done; Ctrl-C again stops at once")
