"""Working ahead: the stages of a campaign as iterators, each in a thread of its own.

The threads share the work of one process; what a stage does is in torch, in the sandbox's children or in vLLM, which let go of the interpreter.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


def ahead(source: Iterator[T], *, by: int | None = None, name: str) -> Generator[T, None, None]:
    """The items of `source`, which runs in a thread of its own from the first item on.

    Order and items are those of `source`. What it raises is raised here, after the items before it. Closing this generator ends the thread as soon as the
    item in work is done, and closes `source` in it.

    Args:
        by: items that may be begun before this one is asked for again; None: as many as there are. They are all in memory.
        name: of the thread.
    """
    assert by is None or by >= 1
    ready: SimpleQueue[tuple[bool, T | None, BaseException | None]] = SimpleQueue()
    room = threading.Semaphore(by) if by is not None else None
    stopped = threading.Event()

    def work() -> None:
        try:
            while not stopped.is_set():
                if room is not None:
                    room.acquire()
                    if stopped.is_set():
                        return
                try:
                    ready.put((True, next(source), None))
                except StopIteration:
                    ready.put((False, None, None))
                    return
        except BaseException as error:  # carried over to the thread that reads
            ready.put((False, None, error))
        finally:
            if isinstance(source, Generator):
                source.close()

    thread = threading.Thread(target=work, name=name)
    thread.start()
    try:
        while True:
            more, item, error = ready.get()
            if error is not None:
                raise error
            if not more:
                return
            if room is not None:
                room.release()
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        if room is not None:
            room.release()
        thread.join()
