"""Debian's PostgreSQL server for tests: in a folder of its own, on a Unix socket alone, as an unprivileged user where the tests are root's."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HOSTS = """\
local all keyed scram-sha-256
local all all   trust
"""
"""Who is let in how: the role `keyed` with its password, all others as they are."""


class Server:
    """One server. Its role `postgres` may do anything; `sql` makes more roles and databases."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:  # the server refuses root
            nobody = pwd.getpwnam("nobody")
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        self._call("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        (folder / "data" / "pg_hba.conf").write_text(HOSTS)

    @property
    def url(self) -> str:
        """Of its database `postgres`, as a campaign has it."""
        return self.url_of("postgres", "postgres")

    def url_of(self, role: str, database: str) -> str:
        """Of a database for a role, as a campaign has it."""
        return f"postgresql://{role}@/{database}?host={self._folder}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = (
            f"-c listen_addresses='' -c unix_socket_directories='{self._folder}' -c fsync=off -c max_connections=300"
        )
        self._call("pg_ctl", "start", "--wait", f"--log={self._folder / 'log'}", f"--options={options}")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; "immediate" ends every process of it at once, as a crash does."""
        self._call("pg_ctl", "stop", "--wait", f"--mode={mode}")

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """What the last of these answers, in one session of the database `postgres`."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            *first, last = [str.encode(one) for one in statements]
            for statement in first:
                connection.execute(statement)
            cursor = connection.execute(last)
            return cursor.fetchall() if cursor.description else []

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), f"--pgdata={self._folder / 'data'}", *arguments]
        with (self._folder / f"{program}.txt").open("w+") as printed:  # not a pipe: the server would hold it open
            done = subprocess.run(command, stdout=printed, stderr=printed, stdin=subprocess.DEVNULL, cwd="/", check=False, **self._user)  # fmt: skip
            printed.seek(0)
            assert done.returncode == 0, printed.read()


@contextmanager
def running(programs: Path) -> Iterator[Server]:
    """A new server until the end of the block. Its folder is a short path that everybody may pass: sockets have no long names, and pytest's folders are its user's alone."""
    folder = Path(tempfile.mkdtemp(prefix="mergewright-pg-", dir="/tmp"))
    try:
        server = Server(programs, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
