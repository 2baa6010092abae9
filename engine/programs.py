"""Finding a program by what a user calls it: an archive id, that of one that ships, a library name, or a `.py` file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from engine import archive_place, locations
from engine.config import SandboxSection
from engine.errors import EngineError, UnknownNameError
from engine.records import Candidate, ProgramId
from merges import library

if TYPE_CHECKING:
    from engine.bundle import Entry
    from engine.store import Store

MIN_ID_CHARACTERS = 4
"""Shorter beginnings of an id are not looked up: they would fit too many programs."""

SHIPPED = "shipped"
"""RUN of `RUN#ID` for a program that ships; a run of that name comes first."""

_MOST_LISTED = 4  # programs that one beginning fits
_NUMBER = re.compile("n?([1-9][0-9]{0,9})")
"""What means a candidate's number. With the n, which is in no id, it means nothing else; a `#` would begin a comment in a shell, and a fragment in an address."""


@dataclass(frozen=True)
class Found:
    """A program and where it came from.

    Attributes:
        source: its text.
        origin: for the provenance: "library:ties", "archive:x#id", "shipped:id", or the file's path.
        merge: which parameters its run merges; None outside archives.
        limits: the sandbox's when it was scored; the defaults outside archives.
        run: folder of the run whose archive it is from; None elsewhere.
        shipped: whether it is from `data/discovered`.
    """

    source: str
    origin: str
    merge: str | None = None
    limits: SandboxSection = field(default_factory=SandboxSection)
    run: Path | None = None
    shipped: bool = False


def find_program(reference: str, *, scored_alike: bool = False) -> Found:
    """Find a program: a `.py` file, a library name, an id in any archive below runs/ or of one that ships, or RUN#ID for that of one run.

    An id that lies in several places means the one where most is known of it: what ships, then a run with a test score of it, one with a dev score, a campaign's
    before an import's, and of equals the one written to last.

    Args:
        scored_alike: refuse an id that runs have scored with different parameters merged, since the caller takes more of it than its text.

    Raises:
        UnknownNameError: nobody has it, several do, or they differ (`scored_alike`); says which places were searched, or who has which.
    """
    if reference.endswith(".py"):
        return _from_file(Path(reference))
    if reference in library.names():
        return Found(library.source(reference), f"library:{reference}")
    run, named, beginning = reference.rpartition("#")
    folders = _folders(run) if named else run_folders()
    shipped = [] if named and folders else _shipped(beginning)
    places: dict[ProgramId, list[Path | None]] = {entry.id: [None] for entry in shipped}  # None: among those that ship
    unread: list[str] = []
    for folder in folders:
        for program_id in _ids(folder, beginning, unread):
            places.setdefault(program_id, []).append(folder)
    if len(places) > 1:
        raise _several(reference, places)
    for program_id, where in places.items():
        return _of_all(program_id, where, shipped, scored_alike)
    raise UnknownNameError(
        f"program '{reference}': expected a .py file, a library name ({', '.join(library.names())}) or an id from an archive below "
        f"{locations.RUNS}/ (RUN#ID for another place) or of one that ships, got none of these{_also(unread)}; "
        "`mergewright archive list RUN` and `mergewright archive shipped` show ids"
    )


@dataclass(frozen=True)
class _Held:
    """A program in one place.

    Attributes:
        found: it.
        named: the place's own name for it, RUN#ID.
        scored: whether it has a dev score there.
        known: whether it ships, has a test score, and was written there: of those scored alike the greatest is meant.
    """

    found: Found
    named: str
    scored: bool
    known: tuple[bool, bool, bool]


def _of_all(
    program_id: ProgramId, places: Sequence[Path | None], shipped: Sequence[Entry], scored_alike: bool
) -> Found:
    """The program of an id, out of the places that hold it, the newest run first."""
    held: list[_Held] = []
    for place in places:
        try:
            held.append(_in_run(place, program_id) if place else _that_ships(shipped[0]))
        except EngineError:  # as in `_ids`
            if len(places) == 1:
                raise
    if not held:
        raise UnknownNameError(
            f"program '{program_id}': expected a run that can be read, got none of {', '.join(map(str, places))}; `mergewright status RUN` says why"
        )
    held = [one for one in held if one.scored] or held
    if scored_alike and len({one.found.merge for one in held}) > 1:
        listed = ", ".join(f"{one.named} (merge {one.found.merge})" for one in held)
        raise UnknownNameError(
            f"program '{program_id}': expected one run's, got that of runs that merged different parameters: {listed}; give one of these"
        )
    return max(held, key=lambda one: one.known).found  # of equals the first


def _in_run(folder: Path, program_id: ProgramId) -> _Held:
    from engine.rundir import imported, read_config
    from engine.store import Store

    config = read_config(folder)
    with closing(Store.in_folder(folder)) as store:
        candidate = store.program(program_id)
        tested = any((final.kind, final.name) == ("discovered", program_id) for final in store.finals())
    assert candidate is not None, "it was found a moment ago, and nothing is ever taken out"
    scored = candidate.assessment.score is not None
    origin = f"archive:{folder.name}#{program_id}"
    found = Found(candidate.program.source, origin, config.models.merge, config.sandbox, folder)
    return _Held(found, f"{folder}#{program_id}", scored, (False, tested, not imported(folder)))


def _that_ships(entry: Entry) -> _Held:
    merge = entry.measured.merge if entry.measured else None
    found = Found(entry.source, f"shipped:{entry.id}", merge, shipped=True)
    return _Held(found, f"{SHIPPED}#{entry.id}", True, (True, True, True))


def _folders(run: str) -> list[Path]:
    """The folder of a run; none for `SHIPPED`, where no run is called so."""
    try:
        return [locations.run_folder(run)]
    except UnknownNameError:
        if run == SHIPPED:
            return []
        raise


def _shipped(beginning: str) -> list[Entry]:
    if len(beginning) < MIN_ID_CHARACTERS:
        return []
    from engine import discovered

    return discovered.matching(beginning)


def run_folders() -> list[Path]:
    """Folders of all runs below `runs/`, newest first."""
    return archive_place.folders_in(locations.RUNS)


def _from_file(path: Path) -> Found:
    try:
        return Found(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = "text that is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise UnknownNameError(
            f"program '{path}': expected a readable Python file, got {reason}; check the path"
        ) from error


def choose(store: Store, reference: str, run: str) -> Candidate:
    """The candidate of an archive that a user means, see `look_up`.

    Raises:
        UnknownNameError: there is none, or several programs fit.
    """
    found = look_up(store, reference, run)
    if found is None:
        raise UnknownNameError(
            f"program '{reference}': expected an id or number of '{run}', got none; `mergewright archive list {run}` shows them"
        )
    return found


def look_up(store: Store, reference: str, run: str) -> Candidate | None:
    """The candidate that stands for the program whose id begins so, or the one of that number; None where there is neither.

    Args:
        run: what the user calls the archive.

    Raises:
        UnknownNameError: several programs are called so: by their ids, or one of them by its number.
    """
    ids = store.ids(reference) if len(reference) >= MIN_ID_CHARACTERS else []
    number = _NUMBER.fullmatch(reference)
    numbered = store.candidate(int(number[1])) if number else None
    if len({*ids, numbered.program.id} if numbered else ids) > 1:
        others = [one for one in ids if not numbered or one != numbered.program.id]
        found = [numbered, *(store.program(one) for one in others[:_MOST_LISTED])]
        listed = {c.program.id: [f"candidate {c.number} of {run}"] for c in found if c}
        raise _ambiguous(reference, len(others) + bool(numbered), listed, numbered)
    return store.program(ids[0]) if ids else numbered


def source_for(folder: Path, reference: str, run: str) -> str:
    """Text of a program to look at beside a run's: one of the run itself, or any other as `find_program` finds it.

    Raises:
        UnknownNameError: nobody has it, or several do.
    """
    from engine.store import Store

    with closing(Store.in_folder(folder)) as store:
        own = look_up(store, reference, run)
    return own.program.source if own else find_program(reference).source


def _several(reference: str, places: Mapping[ProgramId, Sequence[Path | None]]) -> UnknownNameError:
    listed = {}
    for one in sorted(places)[:_MOST_LISTED]:
        listed[one] = [
            "shipped" if folder is None else f"candidate {_program(folder, one).number} of {folder}"
            for folder in places[one]
        ]
    return _ambiguous(reference, len(places), listed)


def _ambiguous(
    reference: str, count: int, listed: Mapping[ProgramId, Sequence[str]], numbered: Candidate | None = None
) -> UnknownNameError:
    """A reference that fits several programs, with a few of them and where each lies; `numbered`: the one of them that it fits as a number."""
    texts = [f"{one} ({', '.join(where)})" for one, where in listed.items()]
    more = f" and {count - len(texts)} more" if count > len(texts) else ""
    expected = f"one program, got {count}" if numbered else f"the beginning of one id, got that of {count}"
    way = f"give n{numbered.number} for the number, or more of the id" if numbered else "give more of it"
    return UnknownNameError(f"program '{reference}': expected {expected}: {', '.join(texts)}{more}; {way}")


def _ids(folder: Path, beginning: str, unread: list[str]) -> list[ProgramId]:
    """Ids in a run's archive that begin so; of one that cannot be read, none, and `unread` is told why."""
    if len(beginning) < MIN_ID_CHARACTERS:
        return []
    from engine.store import Store  # the database library is slow to import, and most references need none

    try:
        with closing(Store.in_folder(folder)) as store:
            return store.ids(beginning)
    except EngineError as error:  # a broken archive, or one out of reach, is no reason to refuse the good ones
        unread.append(str(error))
        return []


def _also(unread: list[str]) -> str:
    return f" (not searched: {'; '.join(unread)})" if unread else ""


def _program(folder: Path, program_id: ProgramId) -> Candidate:
    from engine.store import Store

    with closing(Store.in_folder(folder)) as store:
        found = store.program(program_id)
    assert found is not None, "it was found a moment ago, and nothing is ever taken out"
    return found
