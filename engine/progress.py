"""Live progress: phase, candidates per minute, valid rate, best so far, time left; and the points where a run may stop in order.

On a terminal of enough size there is a dashboard, on a smaller one a live line is redrawn, elsewhere (CI, a log) a plain line is printed every few seconds. What is
shown is what was told here: the archive is asked once, for what an earlier start left in it. Clock and console are passed in.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from rich.console import Console, RenderableType
from rich.status import Status

from engine.baselines import planned_evaluations
from engine.config import CampaignConfig
from engine.dashboard import LEAST_HEIGHT, LEAST_WIDTH, Snapshot, clock_text, dashboard
from engine.errors import Interrupted
from engine.live import LiveScreen, is_screen
from engine.records import WORKS, Assessment, Candidate, Final, Outcome, Trial
from engine.stages import Stages
from engine.stopping import say
from engine.store import Store
from engine.tally import Tally

PLAIN_LINE_SECONDS = 10.0


class Progress:
    """Shows a campaign's progress and says when it shall stop. Without a console it is silent. The dashboard is there while it is open, as a context manager.

    Args:
        config: for totals and the time limit.
        console: where to write; None for silence.
        clock: monotonic seconds.
        resume_hint: the command that goes on with this run.
        plain: lines and nothing else, whatever the console is.
        folder: of the run, to be shown.
    """

    def __init__(
        self,
        config: CampaignConfig,
        console: Console | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        resume_hint: str = "mergewright resume RUN",
        plain: bool = False,
        folder: str = "",
    ) -> None:
        self._config, self._console, self._clock, self._hint = config, console, clock, resume_hint
        self._redraws = console is not None and not plain and is_screen(console)
        self._screen: LiveScreen | None = None
        self._tally, self._folder, self._notice = Tally(), folder, ""
        self._start = clock()
        self._stop: str | None = None
        self._status: Status | None = None
        self._phase, self._iteration, self._phase_start = "", 0, self._start
        self._printed = float("-inf")
        self._count = self._assessed = self._valid = self._proposed = 0
        self._account: Callable[[], None] = lambda: None
        self._planned: Mapping[str, int] = {}
        self._test_factor = 1.0
        self._finished: Counter[str] = Counter()  # units, those of earlier starts included
        self._paced: Counter[str] = Counter()  # units of the phases that ended since the start, and their seconds
        self._spent: dict[str, float] = {}

    def __enter__(self) -> Progress:
        """Show the dashboard, where there is room for it."""
        if self._redraws and self._console and _has_room(self._console):
            self._screen = LiveScreen(self._console, self.frame)
            self._screen.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave it, with a line that stays."""
        screen, self._screen = self._screen, None
        if screen is not None and self._console:
            screen.close()
            self._console.print(self._line(), highlight=False, markup=False)

    def tell(self, line: str) -> None:
        """Show what the user must know now; may be called in any thread."""
        self._notice = line
        if self._screen is None:
            say(line)

    def farewell(self, line: str) -> None:
        """Show the last line of a process that is about to end; may be called in any thread."""
        if self._screen is not None:
            self._screen.leave_at_once()
        say(line)

    def frame(self) -> RenderableType:
        """The dashboard as it is now."""
        return dashboard(self.snapshot())

    def snapshot(self) -> Snapshot:
        """What the dashboard shows; may be called in any thread."""
        campaign, now = self._config.campaign, self._clock()
        iteration = min(self._iteration, campaign.iterations)
        searching = self._phase == "search"
        seconds = now - self._phase_start
        facts = self._tally.facts(iteration, seconds)
        here = facts["counts"].assessed
        return Snapshot(
            where=f"{campaign.name} · {self._where()}",
            note=self._notice or f"archive {self._folder} · Ctrl-C stops in order",
            urgent=bool(self._notice),
            elapsed=now - self._start,
            left=self._time_left(),
            assessed=self._finished["search"],
            planned=campaign.iterations * campaign.programs,
            here=here,
            here_planned=campaign.programs,
            written=self._proposed if searching else here,
            per_minute=60 * self._count / max(seconds, 1e-9) if searching and self._count else None,
            iteration=iteration,
            **{**facts, "learning": facts["learning"] or (self._before_learning(),)},
        )

    def _before_learning(self) -> str:
        return "no update yet" if self._config.learns else "this campaign does not learn"

    def request_stop(self, reason: str) -> None:
        """Ask the run to stop at the next safe point; may be called in any thread."""
        self._stop = reason

    def check(self) -> None:
        """A safe point.

        Raises:
            Interrupted: a stop was asked for, or the time limit is over.
        """
        limit = self._config.campaign.max_hours
        if self._stop is None and limit is not None and self._clock() - self._start > limit * 3600:
            self._stop = f"the limit of {limit:g} hours is over"
        if self._stop is not None:
            raise Interrupted(f"stopped in order ({self._stop}); nothing is lost. Go on with: {self._hint}")

    def plan(self, experts: int, test_factor: float, store: Store) -> None:
        """Count the units of every phase, so that the time left can be shown; what the archive holds is done.

        Args:
            experts: number of experts.
            test_factor: test problems for each dev problem: as many times longer a score of the final takes.
            store: the archive.
        """
        campaign, baselines, self._test_factor = self._config.campaign, self._config.baselines, test_factor
        models = 1 + experts
        self._planned = {
            "tune": models + planned_evaluations(baselines, experts),
            "search": campaign.iterations * campaign.programs,
            "learn": campaign.iterations - 1,
            "final": models + len(baselines.names) + campaign.finalists if campaign.final else 0,
        }
        earlier = store.candidates()
        trials, updates = store.trials(), store.updates()
        self._tally.recall(earlier, trials, updates)
        self._finished = Counter(
            tune=len(trials),
            search=sum(c.assessment.outcome is not Outcome.PENDING for c in earlier),
            learn=len(updates),
            final=len(store.finals()),
        )

    @contextmanager
    def phase(self, name: str, iteration: int, store: Store, stages: Stages) -> Iterator[None]:
        """Show a phase, and add its wall-clock seconds, its count, and what its stages took to the archive however it ends."""
        self.check()
        self._phase, self._iteration, self._phase_start, self._count = name, iteration, self._clock(), 0
        self._proposed = len(store.candidates(iteration)) if name == "search" else 0
        self._account = lambda: self._spend(store, iteration, stages)
        self._tally.phase()
        try:
            if self._screen is not None:
                self._screen.refresh()
                yield
            elif self._console and self._redraws:
                with self._console.status(self._line()) as self._status:
                    yield
            else:
                self._show(force=True)
                yield
        finally:
            self._status = None
            seconds = self._clock() - self._phase_start
            self._spent[name] = self._spent.get(name, 0.0) + seconds
            self._paced[name] += self._count
            self._phase = ""
            if self._count or seconds > 0.05:  # a phase that a resumed run only passes through is no work
                store.spend(iteration, name, seconds, self._count)
                self._account()
            self._account = lambda: None

    def trial(self, trial: Trial) -> None:
        """A model or human-made merge was scored on dev."""
        self._count += 1
        self._finished["tune"] += 1
        self._tally.trial(trial)
        self._account()
        self._show()
        self.check()

    def learnt(self, iteration: int, report: Mapping[str, Any]) -> None:
        """The generator was trained, or stayed as it was; the report is `Update.run`'s, with its method."""
        self._count += 1
        self._finished["learn"] += 1
        self._tally.learnt(iteration, report)
        self._account()
        self._show()

    def proposed(self, count: int) -> None:
        """A batch of programs was written; called from the thread that writes."""
        self._proposed += count

    def assessed(self, candidate: Candidate, assessment: Assessment) -> None:
        """A candidate was completed."""
        self._count += 1
        self._assessed += 1
        self._finished["search"] += 1
        self._account()
        self._valid += assessment.outcome in WORKS
        self._tally.assessed(candidate, assessment)
        self._show()

    def final(self, final: Final) -> None:
        """A subject was scored on test."""
        self._count += 1
        self._finished["final"] += 1
        self._tally.final(final)
        self._account()
        self._show()
        self.check()

    def _show(self, *, force: bool = False) -> None:
        if self._console is None or self._screen is not None:
            return
        if self._status is not None:
            self._status.update(self._line())
        elif force or self._clock() - self._printed >= PLAIN_LINE_SECONDS:
            self._printed = self._clock()
            self._console.print(self._line(), highlight=False)

    def _line(self) -> str:
        campaign = self._config.campaign
        elapsed = self._clock() - self._start
        parts = [f"{clock_text(elapsed)}  {self._where()} {(self._phase and self._count) or ''}".rstrip()]
        if self._phase == "search" and self._count:
            seconds = max(self._clock() - self._phase_start, 1e-9)
            parts.append(f"{60 * self._count / seconds:.0f} candidates/min")
            if self._proposed < campaign.programs:
                parts.append(f"{self._proposed} of {campaign.programs} written")
        if self._assessed:
            parts.append(f"valid {100 * self._valid / self._assessed:.0f} %")
        if self._tally.best is not None:
            parts.append(f"best dev {100 * self._tally.best.value:.1f} %")
        left = self._time_left()
        if left is not None:
            parts.append(f"about {clock_text(left)} left")
        return " · ".join(parts)

    def _where(self) -> str:
        names = {"tune": "tuning human-made merges", "final": "final on test problems"}
        if not self._phase:
            return f"{self._finished['search']} programs assessed" if self._spent else "starting"
        return (
            names.get(self._phase) or f"iteration {self._iteration}/{self._config.campaign.iterations}: {self._phase}"
        )

    def _time_left(self) -> float | None:
        """Seconds of work ahead, each phase at its own pace since the start; of a phase not yet met, at the pace of the scores before it."""
        left = 0.0
        for phase, total in self._planned.items():
            pace = self._pace(phase)
            if pace is None:
                pace = self._guess(phase)
            if pace is None:
                return None
            left += pace * max(0, total - self._finished[phase])
        return left if self._planned else None

    def _pace(self, phase: str) -> float | None:
        """Seconds a unit of a phase since the start of this process; None before its first."""
        here = phase == self._phase
        spent = self._spent.get(phase, 0.0) + (self._clock() - self._phase_start if here else 0.0)
        count = self._paced[phase] + (self._count if here else 0)
        return spent / count if count else None

    def _guess(self, phase: str) -> float | None:
        """Seconds a unit of a phase that has not begun: a program costs a score, and in the final one of all test problems."""
        factor = {"search": 1.0, "final": self._test_factor}.get(phase)
        if factor is None:
            return 0.0  # of learning only having met it tells
        score = self._pace("tune") or self._pace("search")
        return None if score is None else factor * score

    def _spend(self, store: Store, iteration: int, stages: Stages) -> None:
        if spent := stages.take():
            store.spend_on_stages(iteration, spent)
            self._tally.spent({stage: seconds for stage, (seconds, _) in spent.items()})


def _has_room(console: Console) -> bool:
    width, height = console.size
    return width >= LEAST_WIDTH and height >= LEAST_HEIGHT
