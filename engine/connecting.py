"""Connections to an archive, in SQLite or PostgreSQL, for reading and for writing.

A reader sees one state of the database, however many questions it asks while a run is written: a transaction of its own, begun at the first question. One process writes
at a time; on PostgreSQL the connection that it writes by holds a lock of the server's, so what it may write and what it has locked cannot come apart.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

from blake3 import blake3
from sqlalchemy import URL, BigInteger, Connection, Engine, cast, column, create_engine, event, func, literal, select
from sqlalchemy.pool import NullPool
from sqlalchemy.sql import table

from engine import archive_faults, archive_place
from engine.archive_place import checked, schema_in, told
from engine.errors import ConfigError, HostError, RunError
from engine.storable import dumps, loads

CONNECT_SECONDS = 10
"""A server that does not answer for so long is taken to be gone; `connect_timeout` in the URL says otherwise."""

LOCK_SECONDS = 5.0
"""The server notices late that a writer was killed."""

_READS: dict[str, dict[str, Any]] = {
    "sqlite": {},
    "postgresql": {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
}
_WRITES: dict[str, dict[str, Any]] = {
    "sqlite": {"begins": "BEGIN IMMEDIATE"},  # one that has read before it writes would be refused if another wrote between
    "postgresql": {"isolation_level": "READ COMMITTED", "postgresql_readonly": False},  # the server may have other habits
}  # fmt: skip


def connect(url: URL) -> Engine:
    """An engine; nothing is connected yet.

    Raises:
        ConfigError: there is no driver for PostgreSQL.
    """
    if url.get_backend_name() == "sqlite":
        return _sqlite(url)
    ours = {
        "client_encoding": "utf8",
        "application_name": f"mergewright {platform.node()[:40]} {os.getpid()}",
        "connect_timeout": str(CONNECT_SECONDS),
    }
    try:
        return create_engine(
            url,
            pool_pre_ping=True,
            json_serializer=dumps,
            json_deserializer=loads,
            connect_args={key: value for key, value in ours.items() if key not in url.query},
        )
    except ImportError as error:
        raise ConfigError(
            f"archive '{told(url)}': expected the package psycopg, got none; pip install 'mergewright[postgresql]'"
        ) from error


def for_reading(engine: Engine) -> Engine:
    """The same connections; what is asked within a transaction is asked of one state of the database."""
    return engine.execution_options(**_READS[engine.dialect.name])


def for_writing(engine: Engine) -> Engine:
    """The same connections, for transactions that write."""
    return engine.execution_options(**_WRITES[engine.dialect.name])


def reach(server: str) -> str:
    """See that a new run's archive can be made on a server; answers with what it is.

    Raises:
        RunError, ConfigError: it refuses us, or could not hold an archive.
        HostError: it does not answer.
    """
    url = checked(server)
    engine = connect(url)
    try:
        with archive_faults.reading(url), for_reading(engine).connect() as connection:
            check_server(connection, url)
            if not connection.scalar(select(func.has_database_privilege(func.current_database(), "CREATE"))):
                raise RunError(archive_faults.no_right(url))
            version: str = connection.scalar(select(func.current_setting("server_version"))) or "?"
    finally:
        engine.dispose()
    return f"PostgreSQL {version} at {told(url)}"


def check_server(connection: Connection, url: URL) -> None:
    """See that the database holds any text, and that we are where the URL says; a pooler between us may have dropped that.

    Raises:
        RunError: it is not so.
    """
    encoding = connection.scalar(select(func.current_setting("server_encoding")))
    if encoding != "UTF8":
        raise RunError(
            f"archive '{told(url)}': expected a database in UTF8, got {encoding}; make one: createdb --template template0 --encoding UTF8 NAME"
        )
    schema, there = schema_in(url), connection.scalar(select(func.current_schema()))
    if schema is not None and there not in (None, schema):
        raise RunError(
            f"archive '{told(url)}': expected to be in its schema, got {there}; connect to the server itself, or to a pooler that passes on 'options'"
        )


class Writer:
    """What a store writes by: its engine, or on PostgreSQL one connection, which holds the run."""

    def __init__(self, engine: Engine) -> None:
        self._engine = for_writing(engine)
        self._held: Connection | None = None

    def bind(self) -> Engine | Connection:
        """What a session writes by; the run is taken at the first call.

        Raises:
            RunError: another process has the run.
            HostError: the connection is lost, and with it the run: what has happened to it since, only a new start can see.
        """
        if self._engine.dialect.name == "sqlite":
            return self._engine  # the lock of the run's folder is all there is to hold
        if self._held is None:
            self._held = self._hold()
        if self._held.invalidated:
            raise HostError(
                f"archive '{told(self._engine.url)}': the connection to the server is lost; see to it, then resume: nothing finished is lost"
            )
        return self._held

    def close(self) -> None:
        """Let go of the connection; the lock ends with it, when the engine is disposed of."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def _hold(self) -> Connection:
        key = lock_key(self._engine.url)
        connection = self._engine.connect()
        deadline = time.monotonic() + LOCK_SECONDS
        while not connection.scalar(select(func.pg_try_advisory_lock(literal(key, BigInteger)))):
            connection.rollback()
            if time.monotonic() > deadline:
                holder = _holder(connection, key)
                connection.close()
                raise RunError(
                    f"archive '{told(self._engine.url)}': expected no other process on it, got {holder}; wait for it or end it"
                )
            time.sleep(0.1)
        connection.commit()
        return connection


def lock_key(url: URL) -> int:
    """The number of a run's lock on its server: 64 bits, signed."""
    return int.from_bytes(blake3(f"mergewright {schema_in(url)}".encode()).digest(length=8), "big", signed=True)


def _holder(connection: Connection, key: int) -> str:
    """Who has a lock: program, machine and process, as `connect` has named them, and the server's session."""
    locks = table("pg_locks", *map(column, ("pid", "locktype", "classid", "objid", "granted")))
    sessions = table("pg_stat_activity", column("pid"), column("application_name"))
    high, low = (key >> 32) & 0xFFFFFFFF, key & 0xFFFFFFFF
    found = connection.execute(
        select(sessions.c.application_name, sessions.c.pid)
        .join(locks, locks.c.pid == sessions.c.pid)
        .where(
            locks.c.locktype == "advisory",
            cast(locks.c.classid, BigInteger) == high,
            cast(locks.c.objid, BigInteger) == low,
            locks.c.granted,
        )
    ).first()
    return f"'{found[0]}' (session {found[1]} of the server)" if found else "one that has just ended; try again"


def _sqlite(url: URL) -> Engine:
    """A write-ahead log and full synchronisation; transactions begin when they are told to, reads too.

    Where the folder cannot be written, a connection has no place for the log, not even to read: while nobody has left one there, the file is taken as it is, and anew for
    every transaction, since a writer elsewhere may begin one.
    """
    file = Path(url.database or "")
    sealed = file.is_file() and not archive_place.writable(file.parent)
    pool = {"poolclass": NullPool} if sealed else {}
    engine = create_engine(url, json_serializer=dumps, json_deserializer=loads, **pool)

    @event.listens_for(engine, "do_connect")
    def _as_it_is(_dialect: Any, _record: Any, arguments: list[Any], options: dict[str, Any]) -> None:
        if sealed and not file.with_name(f"{file.name}-wal").exists():
            arguments[:] = [f"{file.resolve().as_uri()}?mode=ro&immutable=1"]
            options["uri"] = True

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        connection.isolation_level = (
            None  # the driver itself begins none before a write, and none at all before a table is changed
        )
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        # a power cut loses nothing either; a commit costs about a millisecond
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begins", "BEGIN"))

    return engine
