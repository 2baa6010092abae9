"""What happened in a campaign so far, kept in memory as it happens: the dashboard asks the archive nothing while the run goes on."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.dashboard import Counts, Event, Mark
from engine.learning.account import verdict_lines
from engine.records import WORKS, Assessment, Candidate, Final, Outcome, Trial
from engine.stages import STAGES

KEPT = 60
"""Events: more than the highest terminal shows."""

_DETAIL = 200  # characters of a fault's own words; they may be a book
_REASONS = 5


@dataclass
class _Iteration:
    scores: list[float] = field(default_factory=list)
    assessed: int = 0
    valid: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def counts(self) -> Counts:
        return Counts(self.assessed, self.valid, len(self.scores), tuple(self.reasons.most_common(_REASONS)))


class Tally:
    """Counts, scores and the last events; written by the threads of a run and read by the one that draws."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._iterations: dict[int, _Iteration] = {}
        self._last: deque[Event] = deque(maxlen=KEPT)
        self._busy: dict[str, float] = {}
        self._best: Mark | None = None
        self._human: Mark | None = None
        self._learning: tuple[str, ...] = ()

    def recall(
        self, candidates: Sequence[Candidate], trials: Sequence[Trial], updates: Mapping[int, Mapping[str, Any]]
    ) -> None:
        """What a resumed run finds in its archive, once."""
        for trial in trials:
            self.trial(trial)
        for candidate in candidates:
            if candidate.assessment.outcome is not Outcome.PENDING:
                self.assessed(candidate, candidate.assessment)
        for iteration, report in updates.items():
            self.learnt(iteration, report)

    def phase(self) -> None:
        """A phase begins: what the stages were busy with is counted anew."""
        with self._lock:
            self._busy = {}

    def spent(self, seconds: Mapping[str, float]) -> None:
        """Stages were busy."""
        with self._lock:
            for stage, some in seconds.items():
                self._busy[stage] = self._busy.get(stage, 0.0) + some

    def assessed(self, candidate: Candidate, assessment: Assessment) -> None:
        """A candidate was completed."""
        score = assessment.score
        detail = (assessment.detail or "")[:_DETAIL]
        text = assessment.reason or (f"of {assessment.duplicate_of}" if assessment.duplicate_of else "")
        event = Event(
            candidate.program.id,
            assessment.outcome.value,
            f"{text}: {detail}" if assessment.reason and detail else text,
            score.value if score else None,
            score is None or score.complete,
        )
        with self._lock:
            here = self._iterations.setdefault(candidate.iteration, _Iteration())
            here.assessed += 1
            here.valid += assessment.outcome in WORKS
            if assessment.reason:
                here.reasons[assessment.reason] += 1
            if score:
                here.scores.append(score.value)
                if score.complete and (self._best is None or score.value > self._best.value):
                    self._best = Mark(candidate.program.id, score.value, score.low, score.high)
            self._last.appendleft(event)

    def trial(self, trial: Trial) -> None:
        """A model or human-made merge was scored on dev."""
        parameters = ", ".join(f"{name}={value:g}" for name, value in trial.parameters.items())
        mark = Mark(
            f"{trial.name} ({parameters})" if parameters else trial.name,
            trial.score.value,
            trial.score.low,
            trial.score.high,
        )
        with self._lock:
            if trial.kind == "human" and (self._human is None or mark.value > self._human.value):
                self._human = mark
            self._last.appendleft(Event(trial.name, "dev", score=trial.score.value))

    def final(self, final: Final) -> None:
        """A subject was scored on test."""
        with self._lock:
            self._last.appendleft(Event(final.name, "test", score=final.score.value))

    def learnt(self, iteration: int, report: Mapping[str, Any]) -> None:
        """The generator was updated, or stayed as it was."""
        lines = tuple(verdict_lines(iteration, report))
        with self._lock:
            self._learning = lines

    @property
    def best(self) -> Mark | None:
        """The best program so far that was asked everything."""
        return self._best

    def facts(self, iteration: int, seconds: float) -> dict[str, Any]:
        """What `dashboard.Snapshot` has of this, for an iteration.

        Args:
            seconds: since the phase began.
        """
        with self._lock:
            busy = sorted(self._busy.items(), key=lambda one: (-one[1], STAGES.index(one[0])))
            here, before = (self._iterations.get(i, _Iteration()) for i in (iteration, iteration - 1))
            return {
                "scores": tuple(here.scores),
                "scores_before": tuple(before.scores),
                "counts": here.counts(),
                "counts_before": before.counts(),
                "best": self._best,
                "human": self._human,
                "busy": tuple((stage, spent / max(seconds, 1e-9)) for stage, spent in busy),
                "last": tuple(self._last),
                "learning": self._learning,
            }
