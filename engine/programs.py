"""Finding a program by what a user calls it: an archive id, that of one that ships, a library name, or a `.py` file."""

from __future__ import annotations

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

_MOST_LISTED = 4  # programs that one beginning fits
_MOST_DIGITS = 10  # of a candidate's number: Python refuses to read some longer ones


@dataclass(frozen=True)
class Found:
    """A program and where it came from.

    Attributes:
        source: its text.
        origin: for the provenance: "library:ties", "archive:x#id", "shipped:id", or the file's path.
        merge: which parameters were merged when it was scored; None outside archives.
        limits: the sandbox's when it was scored; the defaults outside archives.
        run: folder of the run whose archive has it; None elsewhere.
        shipped: whether it is from `data/discovered`.
    """

    source: str
    origin: str
    merge: str | None = None
    limits: SandboxSection = field(default_factory=SandboxSection)
    run: Path | None = None
    shipped: bool = False


def find_program(reference: str) -> Found:
    """Find a program: a `.py` file, a library name, an id in any archive below runs/ or of one that ships, or RUN#ID for an archive elsewhere.

    Raises:
        UnknownNameError: nobody has it, or several do; says which places were searched, or who has which.
    """
    if reference.endswith(".py"):
        return _from_file(Path(reference))
    if reference in library.names():
        return Found(library.source(reference), f"library:{reference}")
    run, named, beginning = reference.rpartition("#")
    folders = [locations.run_folder(run)] if named else run_folders()
    shipped = [] if named else _shipped(beginning)
    places: dict[ProgramId, list[Path | None]] = {}  # None: among those that ship
    unread: list[str] = []
    for folder in folders:
        for program_id in _ids(folder, beginning, unread):
            places.setdefault(program_id, []).append(folder)
    for entry in shipped:
        places.setdefault(entry.id, []).append(None)
    if len(places) > 1:
        raise _several(reference, places)
    for program_id, (first, *_) in places.items():
        if first is not None:
            return _from_archive(first, program_id)
    if shipped:
        merge = shipped[0].measured.merge if shipped[0].measured else None
        return Found(shipped[0].source, f"shipped:{shipped[0].id}", merge, shipped=True)
    raise UnknownNameError(
        f"program '{reference}': expected a .py file, a library name ({', '.join(library.names())}) or an id from an archive below "
        f"{locations.RUNS}/ (RUN#ID for another place) or of one that ships, got none of these{_also(unread)}; "
        "`mergewright archive list RUN` and `mergewright archive shipped` show ids"
    )


def _from_archive(folder: Path, program_id: ProgramId) -> Found:
    from engine.rundir import read_config

    candidate, config, origin = _program(folder, program_id), read_config(folder), f"archive:{folder.name}#{program_id}"
    return Found(candidate.program.source, origin, config.models.merge, config.sandbox, folder)


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
    """The candidate that stands for the program whose id begins so, or else the one of that number; None where there is neither.

    Args:
        run: what the user calls the archive.

    Raises:
        UnknownNameError: the ids of several programs begin so.
    """
    ids = store.ids(reference) if len(reference) >= MIN_ID_CHARACTERS else []
    if len(ids) > 1:
        found = (store.program(one) for one in ids[:_MOST_LISTED])
        raise _ambiguous(reference, len(ids), {c.program.id: [f"candidate {c.number} of {run}"] for c in found if c})
    number = int(reference) if reference.isdecimal() and len(reference) <= _MOST_DIGITS else 0
    return store.program(ids[0]) if ids else store.candidate(number)


def _several(reference: str, places: Mapping[ProgramId, Sequence[Path | None]]) -> UnknownNameError:
    listed = {}
    for one in sorted(places)[:_MOST_LISTED]:
        listed[one] = [
            "shipped" if folder is None else f"candidate {_program(folder, one).number} of {folder}"
            for folder in places[one]
        ]
    return _ambiguous(reference, len(places), listed)


def _ambiguous(reference: str, count: int, listed: Mapping[ProgramId, Sequence[str]]) -> UnknownNameError:
    """An id's beginning that fits several programs, with a few of them and where each lies."""
    texts = [f"{one} ({', '.join(where)})" for one, where in listed.items()]
    more = f" and {count - len(texts)} more" if count > len(texts) else ""
    return UnknownNameError(
        f"program '{reference}': expected the beginning of one id, got that of {count}: {', '.join(texts)}{more}; give more of it"
    )


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
