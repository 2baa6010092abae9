"""Finding a program by what a user calls it: an archive id, that of one that ships, a library name, or a `.py` file."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from engine import archive_place, locations
from engine.config import SandboxSection
from engine.errors import EngineError, UnknownNameError
from engine.records import Candidate
from merges import library

if TYPE_CHECKING:
    from engine.bundle import Entry

MIN_ID_CHARACTERS = 4
"""Shorter beginnings of an id are not looked up: they would fit too many programs."""


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
    matches, unread = _matching(folders, beginning)
    shipped = [] if named else _shipped(beginning)
    places: dict[str, list[str]] = {}
    for folder, candidate in matches:
        places.setdefault(candidate.program.id, []).append(str(folder))
    for entry in shipped:
        places.setdefault(entry.id, []).append("shipped")
    if len(places) > 1:
        listed = "; ".join(f"{id} in {', '.join(dict.fromkeys(where))}" for id, where in sorted(places.items())[:8])
        raise UnknownNameError(
            f"program '{reference}': expected the beginning of one id, got that of {len(places)}: {listed}; give more of it"
        )
    if matches:
        return _from_archive(*matches[0])
    if shipped:
        merge = shipped[0].measured.merge if shipped[0].measured else None
        return Found(shipped[0].source, f"shipped:{shipped[0].id}", merge, shipped=True)
    raise UnknownNameError(
        f"program '{reference}': expected a .py file, a library name ({', '.join(library.names())}) or an id from an archive below "
        f"{locations.RUNS}/ (RUN#ID for another place) or of one that ships, got none of these{_also(unread)}; "
        "`mergewright archive list RUN` and `mergewright archive shipped` show ids"
    )


def _from_archive(folder: Path, candidate: Candidate) -> Found:
    from engine.rundir import read_config

    config, origin = read_config(folder), f"archive:{folder.name}#{candidate.program.id}"
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


def _matching(folders: Iterable[Path], beginning: str) -> tuple[list[tuple[Path, Candidate]], list[str]]:
    """Candidates whose id begins so, with their runs' folders; and of archives that cannot be read, why."""
    found: list[tuple[Path, Candidate]] = []
    unread: list[str] = []
    if len(beginning) < MIN_ID_CHARACTERS:
        return found, unread
    from engine.store import Store  # the database library is slow to import, and most references need none

    for folder in folders:
        try:
            with closing(Store.in_folder(folder)) as store:
                found += [(folder, c) for c in store.candidates() if c.program.id.startswith(beginning)]
        except EngineError as error:  # a broken archive, or one out of reach, is no reason to refuse the good ones
            unread.append(str(error))
    return found, unread


def _also(unread: list[str]) -> str:
    return f" (not searched: {'; '.join(unread)})" if unread else ""
