"""What a database says when it fails, as one line that says what to do. A server's faults are the host's; one that refuses us is for the user to mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.exc import DatabaseError, IntegrityError, InternalError, OperationalError

from engine.archive_place import schema_in, told, writable
from engine.errors import EngineError, HostError, RunError
from engine.storable import DamagedError
from merges.errors import one_line

_PASSING = ("too many", "slots are reserved", "starting up", "shutting down", "recovery")
"""Of a server that turns us away, why it will not do so later."""

_NO_RIGHT, _SCHEMA_THERE, _READ_ONLY = "42501", "42P06", "25006"
_LOST = ("3F000", "42P01", "42703")
"""Somebody has dropped the schema, a table, a column."""

_MOST_SAID = 200
"""Characters of what a damaged row holds, in a message."""

_GONE = ("08", "57P", "53")
"""Beginnings of PostgreSQL's codes for a connection that is gone, a server that ends, one without room."""


def said(error: DatabaseError) -> str:
    """The database's own words in one line, without its hints."""
    diagnosis = getattr(error.orig, "diag", None)
    words = getattr(diagnosis, "message_primary", None) or str(error.orig).partition("\n\tIs the server running")[0]
    return " ".join(words.split())


@contextmanager
def reading(url: URL) -> Iterator[None]:
    """A read that fails: the server's fault, or an archive that is not sound."""
    try:
        yield
    except DatabaseError as error:
        raise server_fault(error, url) or _refused(error, url) from error
    except DamagedError as error:
        raise _unsound(one_line(error)[:_MOST_SAID], url) from error


@contextmanager
def writing(url: URL) -> Iterator[None]:
    """A database that refuses to write is the host's fault; what breaks a key or does not fit a column is ours, and stays what it is."""
    try:
        yield
    except DatabaseError as error:
        if fault := server_fault(error, url):
            raise fault from error
        if _code(error) in _LOST:
            raise _refused(error, url) from error
        if not isinstance(error, OperationalError | InternalError):
            raise
        raise HostError(
            f"archive: a write failed ({said(error)}); free space or release the file, then resume: nothing finished is lost"
        ) from error
    except DamagedError as error:  # of what was there before
        raise _unsound(one_line(error)[:_MOST_SAID], url) from error


@contextmanager
def making(url: URL) -> Iterator[None]:
    """A schema that cannot be made: another run has it, or we may not."""
    with writing(url):
        try:
            yield
        except DatabaseError as error:
            if isinstance(error, IntegrityError) or _code(error) == _SCHEMA_THERE:  # the first: two at the same time
                raise RunError(
                    f"archive '{told(url)}': expected a new schema, got another run's; give another --out"
                ) from error
            if _code(error) == _NO_RIGHT:
                raise RunError(no_right(url)) from error
            raise


def no_right(url: URL) -> str:
    """That the user may not make a schema, and what to do."""
    return f"archive '{told(url)}': expected the right to make a schema, got none; GRANT CREATE ON DATABASE {url.database} TO {url.username or 'the user'}"


def server_fault(error: DatabaseError, url: URL) -> EngineError | None:
    """The fault of a server that is gone, full, or closed to us; None: it is another one, or of a file."""
    code, words = _code(error), said(error)
    if url.get_backend_name() == "sqlite":
        return None
    if code == _READ_ONLY:
        return RunError(f"archive '{told(url)}': expected a server that can be written to, got: {words}; mend the URL")
    if code == _NO_RIGHT:
        return RunError(
            f"archive '{told(url)}': expected the rights of its owner, got: {words}; mend the URL, or GRANT what is missing"
        )
    if not isinstance(error, OperationalError) or (code and not code.startswith(_GONE)):
        return None
    refused = "FATAL" in words or "password" in words
    if code is None and refused and not any(passing in words for passing in _PASSING):
        return RunError(
            f"archive '{told(url)}': expected a server that lets us in, got: {words}; mend the URL, or set PGPASSWORD (or ~/.pgpass)"
        )
    return HostError(
        f"archive '{told(url)}': the server does not serve us ({words}); see to it, then resume: nothing finished is lost"
    )


def _code(error: DatabaseError) -> str | None:
    """PostgreSQL's five characters; None: no server spoke, or it is another database."""
    return getattr(error.orig, "sqlstate", None)


def _refused(error: DatabaseError, url: URL) -> RunError:
    """What the database would not open or read."""
    closed = getattr(error.orig, "sqlite_errorname", "").startswith("SQLITE_CANTOPEN")
    if closed and not writable(
        Path(url.database or "").parent
    ):  # with a log that somebody left there, see `connecting`
        return RunError(
            f"archive '{told(url)}': expected a folder that can be written to, as its last writer left a log ({Path(url.database or '').name}-wal) to be read in, got one that "
            "cannot; make it writable, or copy the run to one that is"
        )
    return _unsound(f"{type(error.orig).__name__}: {said(error)}", url)


def _unsound(words: str, url: URL) -> RunError:
    repair = "check the path, or restore it from a copy" if schema_in(url) is None else "restore it from a copy"
    return RunError(f"archive '{told(url)}': expected a sound Mergewright archive, got {words}; {repair}")
