"""A server that refuses, fails or is somebody else's is one line; a run is written by one process at a time, wherever that runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from engine import archive_place
from engine.archive_place import checked, schema_in, url_in
from engine.cli import app
from engine.connecting import check_server, connect, reach
from engine.errors import ConfigError, HostError, RunError, UnknownNameError, exit_code
from engine.programs import find_program
from engine.store import Store
from tests.engine.conftest import candidate
from tests.postgresql import Server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def peopled(server: Server) -> Server:
    """A server with roles and databases of every kind."""
    for statement in (
        "CREATE ROLE keyed LOGIN PASSWORD 'right'",
        "GRANT CREATE ON DATABASE postgres TO keyed",
        "CREATE ROLE plain LOGIN",
        "CREATE ROLE crowded LOGIN CONNECTION LIMIT 0",
        "CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
    ):
        server.sql(statement)
    return server


REFUSALS = [
    ("keyed", "postgres", RunError, r"expected a server that lets us in, got: .*password.*; mend the URL, or set PGPASSWORD"),
    ("nobody", "postgres", RunError, r'got: .*role "nobody" does not exist'),
    ("postgres", "nosuch", RunError, r'got: .*database "nosuch" does not exist'),
    ("crowded", "postgres", HostError, r"does not serve us \(.*too many connections.*\); see to it, then resume: nothing finished is lost"),
    ("plain", "postgres", RunError, r"expected the right to make a schema, got none; GRANT CREATE ON DATABASE postgres TO plain"),
    ("postgres", "bytes", RunError, r"expected a database in UTF8, got SQL_ASCII; make one: createdb --template template0"),
]  # fmt: skip


@pytest.mark.full
@pytest.mark.parametrize(("role", "database", "kind", "message"), REFUSALS)
def test_a_server_that_refuses_is_one_line_and_leaves_nothing(
    peopled: Server, tmp_path: Path, role: str, database: str, kind: type[Exception], message: str
) -> None:
    url = peopled.url_of(role, database)
    with pytest.raises(kind, match=message) as caught:
        reach(url)
    assert "\n" not in str(caught.value)
    with pytest.raises(kind, match=message):
        Store.in_folder(tmp_path, create=True, server=url)
    assert archive_place.begun_in(tmp_path) == (kind is HostError)


@pytest.mark.full
def test_a_password_comes_from_the_environment(
    peopled: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "wrong")
    with pytest.raises(RunError, match="password authentication failed") as caught:
        reach(peopled.url_of("keyed", "postgres"))
    assert "wrong" not in str(caught.value)
    monkeypatch.setenv("PGPASSWORD", "right")
    assert reach(peopled.url_of("keyed", "postgres")).startswith("PostgreSQL 1")
    Store.in_folder(tmp_path, create=True, server=peopled.url_of("keyed", "postgres")).set_meta("a", {})
    assert Store.in_folder(tmp_path).meta("a") == {}
    assert url_in(tmp_path).password is None


@pytest.mark.parametrize("place", ["host=/nonexistent", "host=127.0.0.1&port=1"])
def test_a_server_that_is_not_there_is_the_hosts_fault_in_one_line(tmp_path: Path, place: str) -> None:
    with pytest.raises(HostError, match=r"the server does not serve us \(.+\); see to it, then resume") as caught:
        Store.in_folder(tmp_path, create=True, server=f"postgresql://me@/a?{place}")
    assert "\n" not in str(caught.value)
    assert exit_code(caught.value) == 1


def test_without_the_driver_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(
        ConfigError, match=r"expected the package psycopg, got none; pip install 'mergewright\[postgresql\]'"
    ):
        reach("postgresql://me@host/a")


def test_a_program_is_looked_for_in_the_archives_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("good", "gone"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    Store.in_folder(tmp_path / "runs" / "good", create=True).propose(1, [candidate(1, None).program])
    (tmp_path / "runs" / "good" / "campaign.json").write_text("{}")
    with archive_place.making(tmp_path / "runs" / "gone", "postgresql://me@/a?host=/nonexistent"):
        pass
    assert find_program(f"{1:012x}").origin == f"archive:good#{1:012x}"
    with pytest.raises(
        UnknownNameError, match=r"got none of these \(not searched: archive '.*': the server does not serve"
    ):
        find_program("ffffffff")


def test_a_run_whose_server_is_not_there_is_refused_before_its_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", "--set", "archive.url=postgresql://me@/a?host=/nonexistent", "--out", str(tmp_path / "run")]
    with pytest.raises(HostError, match="the server does not serve us"):
        app(words, standalone_mode=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.full
def test_two_with_the_same_run_do_not_write_it_at_the_same_time(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines with copies of one folder: the lock of the folder cannot see it."""
    monkeypatch.setattr("engine.connecting.LOCK_SECONDS", 0.0)
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    first = Store.in_folder(here, create=True, server=server.url)
    first.set_meta("by", {"name": "first"})
    shutil.copytree(here, there)
    second = Store.in_folder(there)
    assert second.meta("by") == {"name": "first"}, "anybody may read"
    with pytest.raises(
        RunError, match=rf"expected no other process on it, got 'mergewright \S+ {os.getpid()}' \(session \d+"
    ) as caught:
        second.set_meta("by", {"name": "second"})
    assert exit_code(caught.value) == 2
    first.close()
    second.set_meta("by", {"name": "second"})
    with pytest.raises(RunError, match="expected no other process on it"):
        first.set_meta("by", {"name": "first"})


@pytest.mark.full
def test_the_run_of_a_process_that_was_killed_is_free(server: Server, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from engine.store import Store;"
        "Store.in_folder(Path(sys.argv[1]), create=True, server=sys.argv[2]).set_meta('a', {}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    died = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), server.url],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    store = Store.in_folder(tmp_path)
    store.set_meta("b", {})
    assert store.meta("a") == {}


@pytest.mark.full
def test_a_writer_whose_connection_is_lost_has_lost_the_run(server: Server, tmp_path: Path) -> None:
    store = Store.in_folder(tmp_path, create=True, server=server.url)
    store.set_meta("at", {"step": 1})
    ours = f"mergewright {os.uname().nodename[:40]} {os.getpid()}"
    server.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{ours}'")
    for _ in range(2):
        with pytest.raises(HostError, match="see to it, then resume: nothing finished is lost"):
            store.set_meta("at", {"step": 2})
    assert store.meta("at") == {"step": 1}, "a reader gets another connection"
    store.close()
    again = Store.in_folder(tmp_path)
    again.set_meta("at", {"step": 2})
    assert again.meta("at") == {"step": 2}


@pytest.mark.full
def test_a_run_whose_tables_are_dropped_or_somebody_elses_is_one_line(peopled: Server, tmp_path: Path) -> None:
    store = Store.in_folder(tmp_path, create=True, server=peopled.url)
    store.set_meta("a", {})
    link = tmp_path / archive_place.LINK
    line = link.read_text()
    link.write_text(line.replace("postgres@", "plain@"))
    with pytest.raises(
        RunError, match=r"got a database without that schema; restore it from a copy, or mend archive.url"
    ):
        Store.in_folder(tmp_path)  # who may not look into a schema sees none
    peopled.sql(f"GRANT USAGE ON SCHEMA {schema_in(url_in(tmp_path))} TO plain")
    with pytest.raises(
        RunError,
        match=r"expected the rights of its owner, got: permission denied for table \w+; mend the URL, or GRANT",
    ):
        Store.in_folder(tmp_path)
    link.write_text(line)
    peopled.sql(f"DROP SCHEMA {schema_in(url_in(tmp_path))} CASCADE")
    for work in (lambda: store.set_meta("a", {}), lambda: store.meta("a")):
        with pytest.raises(
            RunError,
            match=r"expected a sound Mergewright archive, got UndefinedTable: .*meta.*; restore it from a copy",
        ):
            work()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody can write in a folder, root neither; who has a file open there can go on."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield
        folder.chmod(0o755)
        return
    try:
        for options in ("--bind", folder), ("-o", "remount,ro,bind"):
            subprocess.run(["mount", *options, folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("root needs a capability to make a folder read-only")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_an_archive_on_a_read_only_place_is_read_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "a run?"
    folder.mkdir()
    writer = Store.in_folder(folder, create=True)
    writer.take_over([candidate(1, 0.5)])
    with read_only(folder):
        reader = Store.in_folder(folder)
        assert len(reader.candidates()) == 1, "while it is written elsewhere"
        reader.close()
    writer.close()
    with read_only(folder):
        reader = Store.in_folder(folder)
        assert reader.candidates() == (candidate(1, 0.5),)
        with pytest.raises(HostError, match="a write failed"):
            reader.propose(1, [candidate(2, 0.5).program])
        assert [file.name for file in folder.iterdir()] == [archive_place.FILE]
    with closing(Store.in_folder(folder)) as writer:
        writer.take_over([candidate(2, 0.5)])
        assert len(reader.candidates()) == 2, "one that has it open sees what comes later"
    reader.close()


def test_a_log_left_on_a_read_only_place_is_no_unsound_archive(tmp_path: Path) -> None:
    with closing(Store.in_folder(tmp_path, create=True)) as writer:
        writer.take_over([candidate(1, 0.5)])
        copy = tmp_path / "copy"
        copy.mkdir()
        for name in (archive_place.FILE, f"{archive_place.FILE}-wal"):
            shutil.copy(tmp_path / name, copy)
    with read_only(copy), pytest.raises(RunError, match=r"expected a folder that can be written to, .*copy the run"):
        Store.in_folder(copy)
    assert len(Store.in_folder(copy).candidates()) == 1


@pytest.mark.full
def test_a_reader_does_not_notice_that_the_server_was_started_again(server: Server, tmp_path: Path) -> None:
    store = Store.in_folder(tmp_path, create=True, server=server.url)
    assert store.candidates() == ()
    server.stop()
    server.start()
    assert store.candidates() == ()


@pytest.mark.full
def test_a_pooler_that_drops_the_schema_is_noticed(server: Server, tmp_path: Path) -> None:
    Store.in_folder(tmp_path, create=True, server=server.url).close()
    engine = connect(checked(server.url))
    with (
        engine.connect() as connection,
        pytest.raises(RunError, match="expected to be in its schema, got public; connect to the server itself"),
    ):
        check_server(connection, url_in(tmp_path))
    engine.dispose()


@pytest.mark.full
@pytest.mark.parametrize(
    "habit", ["default_transaction_isolation = 'serializable'", "default_transaction_read_only = on"]
)
def test_habits_of_the_server_change_nothing(server: Server, tmp_path: Path, habit: str) -> None:
    server.sql(f"ALTER ROLE postgres SET {habit}")
    try:
        store = Store.in_folder(tmp_path, create=True, server=server.url)
        store.propose(1, [candidate(1, 0.5).program])
        store.assess(1, candidate(1, 0.5).assessment)
        assert Store.in_folder(tmp_path).candidates() == (candidate(1, 0.5),)
    finally:
        server.sql("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", "ALTER ROLE postgres RESET ALL")
