"""Where a campaign's time goes: busy seconds and counts of every stage.

Stages overlap, so their seconds may sum to more than the clock's. `idle` is the time in which the evaluator, the stage that the others work for, waits for the
next candidate.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
_NOTHING = object()

STAGES = ("propose", "validate", "describe", "execute", "swap", "generate", "check", "learn", "idle")
"""In the order of a candidate's way: writing programs; gate and probes; what new ones do; the merge in the sandbox; weights into the resident model; its answers;
judging them; training the generator; the evaluator waiting. Counts: programs, programs, programs, merges, models, answers, answers, updates, waits."""


class Stages:
    """A stopwatch for each stage; several threads may count at once.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def waiting(self, source: Iterator[T]) -> Iterator[T]:
        """The items of `source`; the time until each of them comes is `idle`."""
        while True:
            with self.watch("idle", 1):
                item = next(source, _NOTHING)
            if item is _NOTHING:
                return
            yield item  # type: ignore[misc]

    @contextmanager
    def watch(self, stage: str, count: int = 0) -> Iterator[None]:
        """Adds the time of the block, however it ends, and `count` where it ends well."""
        assert stage in STAGES, stage
        start, done = self._clock(), 0
        try:
            yield
            done = count
        finally:
            self.add(stage, self._clock() - start, done)

    def add(self, stage: str, seconds: float, count: int) -> None:
        """Adds to a stage."""
        with self._lock:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds
            self._counts[stage] = self._counts.get(stage, 0) + count

    def take(self) -> Mapping[str, tuple[float, int]]:
        """(seconds, count) of each stage since the last time, in the order of STAGES."""
        with self._lock:
            seconds, counts = self._seconds, self._counts
            self._seconds, self._counts = {}, {}
        return {stage: (seconds[stage], counts[stage]) for stage in STAGES if stage in seconds}
