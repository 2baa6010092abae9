"""The runs that pages show: each opened once, by a name that stands in addresses."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.problems import Problem
from benchmarks.scores import Score
from engine import archive_place, locations, rundir
from engine.comparing import Comparison, compare_scores
from engine.config import CampaignConfig
from engine.errors import EngineError, UnknownNameError
from engine.finale import Row
from engine.overview import Overview, overview
from engine.programs import choose, run_folders
from engine.records import Candidate
from engine.search import Query
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
        mark: of the archive, as in `archive_place.mark_in`.
    """

    name: str
    folder: Path
    config: CampaignConfig
    store: Store
    mark: str | None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _problems: tuple[Problem, ...] | None = None
    _finals: tuple[int, list[Row]] = (0, [])

    @property
    def imported(self) -> bool:
        """Whether an import made it, and no campaign."""
        return rundir.imported(self.folder)

    def overview(self) -> Overview:
        """It at a glance, as it is now."""
        return overview(self.config, self.store, imported=self.imported)

    def problems(self) -> tuple[Problem, ...]:
        """The dev problems, see `suites.problems_at_hand`; read once, when the first program has been asked them."""
        with self._lock:
            if self._problems is None:
                self._problems = problems_at_hand(self.config, rundir.dev_hash(self.folder))
            return self._problems

    def candidate(self, reference: str) -> Candidate:
        """A candidate by its program's id, the beginning of it, or its number.

        Raises:
            UnknownNameError: nobody has it, or several do.
        """
        return choose(self.store, reference, self.name)

    def within_families(self, query: Query) -> Query:
        """A question whose families are given by what a visitor calls their programs, with whole ids instead.

        Raises:
            UnknownNameError: nobody has such a name, or several do.
        """
        before, after = (
            self.candidate(name).program.id if name else None for name in (query.ancestors_of, query.descendants_of)
        )
        return replace(query, ancestors_of=before, descendants_of=after)

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


def at_a_glance(runs: Iterable[Run]) -> tuple[list[tuple[Run, Overview]], list[Broken]]:
    """Every run with its overview; those whose archive cannot be read any more are told apart."""
    seen: list[tuple[Run, Overview]] = []
    broken: list[Broken] = []
    for run in runs:
        try:
            seen.append((run, run.overview()))
        except EngineError as error:
            broken.append(Broken(run.folder, str(error)))
    return seen, broken


class Runs:
    """The runs of a server. One that is begun again in its folder, after the one before was deleted, is opened anew under the same name.

    Args:
        references: folders of runs, or names below runs/; none: all there are below runs/, those included that begin later.

    Raises:
        UnknownNameError, RunError: one of `references` is none, or cannot be opened.
    """

    def __init__(self, references: Sequence[str] = ()) -> None:
        self._chosen = tuple(map(locations.run_folder, references))
        self._lock = threading.Lock()
        self._open: dict[Path, Run] = {}
        # of every run that was opened: its name, and its folder as it was called
        self._known: dict[Path, tuple[str, Path]] = {}
        self.broken: tuple[Broken, ...] = ()
        for folder in self._chosen:
            self._current(folder)
        self.refresh()

    def refresh(self) -> None:
        """Look for runs that began since, and let go of those that are gone; those that cannot be opened are told apart."""
        folders, broken = self._chosen or run_folders(), []
        for folder in folders:
            try:
                self._current(folder)
            except EngineError as error:
                broken.append(Broken(folder, str(error)))
        with self._lock:
            for place in self._known.keys() - {folder.resolve() for folder in folders}:
                del self._known[place]
                self._open.pop(place, None)
        self.broken = tuple(broken)

    def _current(self, folder: Path) -> Run:
        """The run in a folder as it lies there now, opened where it is not yet.

        One that another has taken the place of is dropped, not closed: who is reading it reads on, and its store closes when nobody does.
        """
        place = folder.resolve()
        if found := self._as_it_lies(place):  # without the lock: nobody waits for another run that takes long to open
            return found
        with self._lock:
            if found := self._as_it_lies(place):
                return found
            self._open.pop(place, None)
            mark = archive_place.mark_in(place)
            store, config = Store.in_folder(folder), rundir.read_config(folder)
            name, _ = self._known.setdefault(place, (self._name(place), folder))
            self._open[place] = found = Run(name, folder, config, store, mark)
            return found

    def _as_it_lies(self, place: Path) -> Run | None:
        found = self._open.get(place)
        return found if found and found.mark and found.mark == archive_place.mark_in(place) else None

    def _name(self, place: Path) -> str:
        wanted = name = _UNSAFE.sub("-", place.name).strip(".-") or "run"
        taken, at = {name for name, _ in self._known.values()}, 2
        while name in taken:
            name, at = f"{wanted}~{at}", at + 1
        return name

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)

    def named(self, name: str) -> Run:
        """The run of a name, as it is now.

        Raises:
            UnknownNameError: there is none.
            RunError, HostError: its archive is gone, or another that cannot be opened has taken its place.
        """
        for known, folder in list(self._known.values()):
            if known == name:
                return self._current(folder)
        shown = ", ".join(run.name for run in self) or "none"
        raise UnknownNameError(f"run '{name}': expected one of those that are shown ({shown}); choose one")

    def close(self) -> None:
        """Close every archive."""
        for run in self:
            run.store.close()
