"""The runs that pages show: each opened once, by a name that stands in addresses."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.problems import Problem
from benchmarks.scores import Score
from engine import locations, rundir
from engine.comparing import Comparison, compare_scores
from engine.config import CampaignConfig
from engine.errors import EngineError, UnknownNameError
from engine.finale import Row
from engine.overview import Overview, overview
from engine.programs import choose, run_folders
from engine.records import Candidate
from engine.store import Store
from engine.suites import problems_at_hand, weights_of
from engine.tables import final_rows

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass
class Run:
    """One run, open for reading. Several threads may ask it at once.

    Attributes:
        name: in addresses: letters, digits, dots, hyphens and underscores.
        folder: where it lies.
        config: as it was started.
        store: its archive.
    """

    name: str
    folder: Path
    config: CampaignConfig
    store: Store
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _problems: dict[int, tuple[Problem, ...]] = field(default_factory=dict)
    _finals: tuple[int, list[Row]] = (0, [])

    @property
    def imported(self) -> bool:
        """Whether an import made it, and no campaign."""
        return rundir.imported(self.folder)

    def overview(self) -> Overview:
        """It at a glance, as it is now."""
        return overview(self.config, self.store, imported=self.imported)

    def problems(self, count: int) -> tuple[Problem, ...]:
        """The dev problems, see `suites.problems_at_hand`; read once."""
        with self._lock:
            if count not in self._problems:
                self._problems[count] = problems_at_hand(self.config, count)
            return self._problems[count]

    def candidate(self, reference: str) -> Candidate:
        """A candidate by its program's id, the beginning of it, or its number.

        Raises:
            UnknownNameError: nobody has it, or several do.
        """
        return choose(self.store, reference, self.name)

    def compared(self, first: Score | None, second: Score | None) -> Comparison | None:
        """Two dev scores, problem by problem."""
        suites = self.store.meta("suites")
        weights = weights_of(suites["dev"]) if suites else None
        return compare_scores(first, second, weights=weights, seed=self.config.campaign.seed)

    def finals(self) -> list[Row]:
        """The final's rows; drawn from the archive again only where it has more of them."""
        finals = self.store.finals()
        with self._lock:
            if self._finals[0] != len(finals):
                self._finals = (len(finals), final_rows(self.config, self.store))
            return self._finals[1]


@dataclass(frozen=True)
class Broken:
    """A folder that looks like a run and cannot be shown.

    Attributes:
        folder: where it lies.
        reason: one line.
    """

    folder: Path
    reason: str


class Runs:
    """The runs of a server.

    Args:
        references: folders of runs, or names below runs/; none: all there are below runs/, those included that begin later.

    Raises:
        UnknownNameError, RunError: one of `references` is none, or cannot be opened.
    """

    def __init__(self, references: Sequence[str] = ()) -> None:
        self._follows = not references
        self._lock = threading.Lock()
        self._open: dict[Path, Run] = {}
        self.broken: tuple[Broken, ...] = ()
        for reference in references:
            self._add(locations.run_folder(reference))
        self.refresh()

    def refresh(self) -> None:
        """Look for runs that began since; those that cannot be opened are told apart."""
        if not self._follows:
            return
        broken = []
        for folder in run_folders():
            try:
                self._add(folder)
            except EngineError as error:
                broken.append(Broken(folder, str(error)))
        self.broken = tuple(broken)

    def _add(self, folder: Path) -> None:
        place = folder.resolve()
        with self._lock:
            if place in self._open:
                return
            config = rundir.read_config(folder)
            store = Store.in_folder(folder)
            self._open[place] = Run(self._name(folder), folder, config, store)

    def _name(self, folder: Path) -> str:
        wanted = name = _UNSAFE.sub("-", folder.resolve().name).strip(".-") or "run"
        taken, at = {run.name for run in self._open.values()}, 2
        while name in taken:
            name, at = f"{wanted}~{at}", at + 1
        return name

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)

    def named(self, name: str) -> Run:
        """The run of a name.

        Raises:
            UnknownNameError: there is none.
        """
        for run in self:
            if run.name == name:
                return run
        known = ", ".join(run.name for run in self) or "none"
        raise UnknownNameError(f"run '{name}': expected one of those that are shown ({known}); choose one")

    def close(self) -> None:
        """Close every archive."""
        for run in self:
            run.store.close()
