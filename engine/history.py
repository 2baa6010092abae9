"""Assessed candidates, for the thread that writes programs while they are assessed in another one."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from engine.errors import Interrupted
from engine.records import Candidate


class History:
    """All candidates up to the last one assessed, in order of their numbers, which leave no gap.

    Args:
        assessed: those there are.
    """

    def __init__(self, assessed: Iterable[Candidate] = ()) -> None:
        self._assessed = sorted(assessed, key=lambda candidate: candidate.number)
        self._changed = threading.Condition()
        self._closed = False
        assert [c.number for c in self._assessed] == list(range(1, len(self._assessed) + 1))

    def add(self, candidate: Candidate) -> None:
        """The next one was assessed."""
        with self._changed:
            assert candidate.number == len(self._assessed) + 1
            self._assessed.append(candidate)
            self._changed.notify_all()

    def first(self, count: int) -> tuple[Candidate, ...]:
        """The first `count`; waits until they are assessed.

        Raises:
            Interrupted: nobody assesses any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._assessed) >= count)
            if len(self._assessed) < count:
                raise Interrupted("writing programs: the run was stopped")
            return tuple(self._assessed[:count])

    def close(self) -> None:
        """Nobody assesses any more: who waits is told."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
