"""Where a run's archive lies: in `archive.db` in the run's folder (SQLite), or in a PostgreSQL database, which `archive.url` in the folder then names.

A database holds many runs, each in a schema of its own, so the line in `archive.url` ends in the option that chooses it. PostgreSQL's own programs read the
line too: `psql "$(cat RUN/archive.url)"` is among the tables of the run. Whoever moves an archive to another server changes this line.

The name of a schema is drawn, so no two runs ever mean the same one, and `archive.url.begun` holds it until the archive is known to be made: killed before or after
that moment, a run goes on with the schema if it is there, and makes it if it is not. Once it is called `archive.url`, a schema that is missing is lost, not young.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import HostError, RunError, UserError
from engine.whole_file import write_whole

if TYPE_CHECKING:
    from sqlalchemy import URL

FILE, LINK, BEGUN = "archive.db", "archive.url", "archive.url.begun"
FORM = "postgresql://user@host:port/database"

_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
_CHOICE = "-csearch_path="
_NAME_CHARACTERS = 40
"""Of a folder's name in that of its schema, which PostgreSQL cuts off at 63."""


def checked(url: str) -> URL:
    """A PostgreSQL server's database, as SQLAlchemy takes it.

    Raises:
        ValueError: what was expected of the URL; it is not in the text, since it may hold a password.
    """
    from sqlalchemy import make_url  # slow to import, and most campaigns need none
    from sqlalchemy.exc import ArgumentError

    try:
        found = make_url(url.strip())
    except (ArgumentError, ValueError) as error:
        raise ValueError(FORM) from error
    if found.drivername not in _SCHEMES or not found.database:
        raise ValueError(FORM)
    if found.password is not None or "password" in found.query:
        raise ValueError(
            f"{FORM} without a password, which would be kept in the run's folder (set PGPASSWORD, or write it to ~/.pgpass)"
        )
    return found.set(drivername="postgresql+psycopg")


def schema_in(url: URL) -> str | None:
    """The schema that a URL chooses; None: it chooses none, or is not of PostgreSQL."""
    options = url.query.get("options", "")
    return options.rpartition(_CHOICE)[2] if isinstance(options, str) and _CHOICE in options else None


def told(url: URL) -> str:
    """An archive's place for the reader of a message: a file, or server, database and schema."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    where = url.set(drivername="postgresql").difference_update_query(["options"]).render_as_string()
    schema = schema_in(url)
    return f"{where}, schema {schema}" if schema else where


def file_in(folder: Path) -> Path | None:
    """The file in a run's folder that is its archive, or says where it is; None: it has none."""
    return next((file for name in (FILE, LINK) if (file := folder / name).is_file()), None)


def mark_in(folder: Path) -> str | None:
    """A text that is another one as soon as another archive lies in a run's folder; None: none lies there, or it cannot be looked at.

    Of a file it is the inode: its number goes to no other file as long as somebody has this one open.
    """
    try:
        file = file_in(folder)
        if file is None:
            return None
        if file.name == LINK:
            return file.read_text(encoding="utf-8")
        found = file.stat()
    except (OSError, UnicodeDecodeError):
        return None
    return f"{found.st_dev} {found.st_ino}"


def writable(folder: Path) -> bool:
    """Whether files can be made in a folder: we may, and it is not on a read-only place."""
    return os.access(folder, os.W_OK | os.X_OK)


def begun_in(folder: Path) -> bool:
    """Whether the folder's run came to an archive, or to the moment before."""
    return file_in(folder) is not None or (folder / BEGUN).is_file()


def folders_in(parent: Path) -> list[Path]:
    """Folders in `parent` that have an archive; the one written to last is first, where that can be seen from outside."""
    written: dict[Path, float] = {}
    for folder in parent.glob("*/"):
        with suppress(OSError):  # deleted just now, or not ours to look into
            if file := file_in(folder):
                written[folder] = file.stat().st_mtime
    return sorted(written, key=lambda folder: -written[folder])


def url_in(folder: Path) -> URL:
    """The archive of the run in `folder`, as SQLAlchemy takes it.

    Raises:
        RunError: there is none, or its place cannot be read.
    """
    file = file_in(folder)
    if file is None:
        raise RunError(
            f"run '{folder}': expected an archive ({FILE} or {LINK}), got none; `mergewright resume {folder}` begins it, if it is a run"
        )
    return _sqlite(file) if file.name == FILE else _read(file)


@contextmanager
def making(folder: Path, server: str | None) -> Iterator[tuple[URL, bool]]:
    """The archive of the run in `folder`, and whether it is to be made if it is not there; left without an exception, it is taken to be there.

    Args:
        server: `archive.url` of the campaign; None: a file in the folder. It counts where there is neither yet.

    Raises:
        RunError: the file that says where it is cannot be read.
        HostError: it cannot be written.
    """
    begun, known = folder / BEGUN, file_in(folder)
    if known is None and server is None and not begun.is_file():
        known = folder / FILE
    if known is not None:
        yield (_sqlite(known), True) if known.name == FILE else (_read(known), False)
        return
    if not begun.is_file():
        _note(begun, _chosen(folder, server or ""))
    try:
        yield _read(begun), True
    except UserError:  # the server made nothing, and says why; after any other fault it may have
        begun.unlink(missing_ok=True)
        raise
    os.replace(begun, folder / LINK)


def _sqlite(file: Path) -> URL:
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(file))


def _chosen(folder: Path, server: str) -> str:
    """The line for a new schema on `server`, called after the folder; "pg_" at the beginning of a name is PostgreSQL's own."""
    url = checked(server)
    name = re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower()).strip("_")[:_NAME_CHARACTERS]
    schema = f"{name}_{secrets.token_hex(4)}"
    if not re.match("(?!pg_)[a-z]", schema):
        schema = f"run_{schema}"
    theirs = url.query.get("options")
    options = f"{theirs} {_CHOICE}{schema}" if isinstance(theirs, str) else f"{_CHOICE}{schema}"
    return url.set(drivername="postgresql").update_query_dict({"options": options}).render_as_string()


def _read(file: Path) -> URL:
    try:
        url = checked(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        got = error.strerror if isinstance(error, OSError) else "another line"
        raise RunError(
            f"run '{file.parent}': expected {FORM}?options={_CHOICE}SCHEMA and no password in {file.name}, got {got}; mend the file"
        ) from error
    if not schema_in(url):
        raise RunError(
            f"run '{file.parent}': expected a line that ends in ?options={_CHOICE}SCHEMA in {file.name}, got one without; mend the file"
        )
    return url


def _note(file: Path, line: str) -> None:
    try:
        write_whole(file, f"{line}\n")
    except OSError as error:
        raise HostError(
            f"run '{file.parent}': {file.name} could not be written ({error.strerror}); free space, then resume"
        ) from error
