"""Where an archive lies: which URLs are taken, and that a folder always leads to its archive, whenever the process was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import archive_place, locations, rundir
from engine.archive_place import BEGUN, FILE, LINK, checked, making, schema_in, told, url_in
from engine.config_file import build_config
from engine.errors import ConfigError, HostError, RunError
from engine.store import Store
from tests.engine.conftest import candidate
from tests.postgresql import Server

SERVER = "postgresql://me@db.example:5433/archives"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_way_to_write_a_url_means_the_same(scheme: str) -> None:
    url = checked(f"{scheme}://me@db.example:5433/archives?sslmode=require")
    assert (url.drivername, url.username, url.host, url.port, url.database) == (
        "postgresql+psycopg",
        "me",
        "db.example",
        5433,
        "archives",
    )
    assert url.query == {"sslmode": "require"}


@pytest.mark.parametrize(
    ("url", "got"),
    [
        ("mysql://me@host/archives", "'mysql://me@host/archives'"),
        ("sqlite:///archive.db", "'sqlite:///archive.db'"),
        ("postgresql://me@host", "'postgresql://me@host'"),
        ("postgresql+psycopg2://me@host/a", "'postgresql+psycopg2://me@host/a'"),
        ("postgresql://me@host:port/a", "'postgresql://me@host:port/a'"),
        ("nonsense", "'nonsense'"),
    ],
)
def test_what_is_no_postgresql_database_is_one_line(url: str, got: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_config({}, [f"archive.url={url}"])
    assert str(caught.value) == (
        f"campaign: key 'archive.url': expected postgresql://user@host:port/database, got {got}; mend the file or the --set"
    )


@pytest.mark.parametrize(
    "url",
    ["postgresql://me:s3cret@host/a", "postgresql://me:s3/c@ret@host/a", "postgresql://me@host/a?password=s3cret&x=1"],
)
def test_a_password_is_refused_and_not_printed(url: str) -> None:
    with pytest.raises(
        ConfigError, match=r"without a password, .*\(set PGPASSWORD, or write it to ~/.pgpass\)"
    ) as caught:
        build_config({"archive": {"url": url}})
    assert "***" in str(caught.value)
    assert not {"s3cret", "s3/c", "ret@"} & {part for part in ("s3cret", "s3/c", "ret@") if part in str(caught.value)}


@pytest.mark.parametrize(
    ("folder", "beginning"),
    [
        ("Pocket-20260101.try", "pocket_20260101_try_"),
        ("20260101", "run_20260101_"),
        ("pg_mine", "run_pg_mine_"),
        ("pg", "run_pg_"),
        ("ünïcode", "n_code_"),
        ("…", "run__"),
        ("x" * 200, "x" * 40 + "_"),
    ],
)
def test_a_schema_is_called_after_the_folder_and_no_two_are_the_same(
    tmp_path: Path, folder: str, beginning: str
) -> None:
    names = set()
    for home in ("a", "b"):
        run = tmp_path / home / folder
        run.mkdir(parents=True)
        with making(run, SERVER) as (url, young):
            assert young
        name = schema_in(url)
        assert name is not None
        assert name.startswith(beginning)
        assert len(name) <= 63
        assert name == schema_in(url_in(run))
        names.add(name)
    assert len(names) == 2


def test_the_line_in_the_folder_is_a_url_for_programs_of_postgresql(tmp_path: Path) -> None:
    with making(tmp_path, f"{SERVER}?host=/run/postgresql") as (url, _):
        pass
    line = (tmp_path / LINK).read_text().strip()
    assert line.startswith("postgresql://me@db.example:5433/archives?")
    assert line.endswith(f"options=-csearch_path%3D{schema_in(url)}")
    assert "host=%2Frun%2Fpostgresql" in line
    assert told(url) == f"{line.partition('&options')[0]}, schema {schema_in(url)}"


@pytest.mark.parametrize(
    "line", ["", "mysql://me@host/a", SERVER, f"{SERVER}?options=-cwork_mem=1", "postgresql://me:x@host/a?options=-csearch_path%3Da"]
)  # fmt: skip
def test_a_line_that_is_no_place_is_one_line(tmp_path: Path, line: str) -> None:
    (tmp_path / LINK).write_text(line)
    with pytest.raises(
        RunError, match=r"expected .*\?options=-csearch_path=SCHEMA.* in archive.url, got .*; mend the file"
    ):
        url_in(tmp_path)


def test_killed_before_the_archive_is_known_to_be_made_it_is_looked_for_in_the_same_place(tmp_path: Path) -> None:
    """What SIGKILL leaves: the name, and nobody knows whether the schema is there."""
    with pytest.raises(KeyboardInterrupt), making(tmp_path, SERVER) as (first, _):
        raise KeyboardInterrupt
    assert archive_place.begun_in(tmp_path)
    with making(tmp_path, "postgresql://me@elsewhere/other") as (second, young):
        assert (second, young) == (first, True)
    with making(tmp_path, None) as (third, young):
        assert (third, young) == (first, False), "once it is known to be made it is not made again"


def test_a_server_that_refuses_leaves_the_folder_free_for_a_corrected_command_and_one_that_is_gone_does_not(
    tmp_path: Path,
) -> None:
    with pytest.raises(RunError, match="no right"), making(tmp_path, SERVER):
        raise RunError("no right")
    assert not archive_place.begun_in(tmp_path)
    with pytest.raises(HostError, match="gone"), making(tmp_path, SERVER):
        raise HostError("gone")
    assert archive_place.begun_in(tmp_path)


def test_a_folder_without_an_archive_says_what_begins_it(tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"expected an archive \(archive.db or archive.url\), got none; `mergewright resume"
    ):
        Store.in_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_any_name_holds_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "what? 100% #1 & more"
    folder.mkdir()
    Store.in_folder(folder, create=True).set_meta("a", {})
    assert {file.name for file in folder.iterdir()} >= {FILE}
    assert Store.in_folder(folder).meta("a") == {}


def test_runs_are_found_wherever_their_archives_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, file in (("one", FILE), ("two", LINK), ("three", BEGUN), ("four", "campaign.json")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / file).write_text("")
    assert {folder.name for folder in archive_place.folders_in(locations.RUNS)} == {"one", "two"}
    assert locations.run_folder("two") == Path("runs/two")
    for name in ("two", "three"):
        rundir.discard_if_unborn(Path("runs") / name)
        assert (tmp_path / "runs" / name).is_dir()


def test_a_run_that_vanishes_or_is_closed_to_us_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("closed", "good", "vanished"):
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE).write_text("")

    def met(folder: Path) -> Path:
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied")
        return folder / ("gone since" if folder.name == "vanished" else FILE)

    monkeypatch.setattr(archive_place, "file_in", met)
    assert archive_place.folders_in(tmp_path) == [tmp_path / "good"]


def test_a_mark_tells_archives_of_one_place_apart(tmp_path: Path) -> None:
    assert archive_place.mark_in(tmp_path) is None
    (tmp_path / LINK).write_text("one")
    first = archive_place.mark_in(tmp_path)
    (tmp_path / LINK).write_text("two")
    assert first != archive_place.mark_in(tmp_path)
    (tmp_path / LINK).write_bytes(b"\xff")
    assert archive_place.mark_in(tmp_path) is None


@pytest.mark.full
def test_two_runs_share_a_database_and_nothing_in_it(tmp_path: Path, server: Server) -> None:
    stores = []
    for name in ("a", "b"):
        (tmp_path / name / "run").mkdir(parents=True)
        stores.append(Store.in_folder(tmp_path / name / "run", create=True, server=server.url))
        stores[-1].set_meta("name", {"is": name})
    stores[0].propose(1, [candidate(1, None).program])
    assert [store.meta("name") for store in stores] == [{"is": "a"}, {"is": "b"}]
    assert [len(store.candidates()) for store in stores] == [1, 0]


@pytest.mark.full
def test_a_schema_that_somebody_has_is_refused_and_left_alone(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda _: "taken")
    server.sql("CREATE SCHEMA mine_taken")
    (tmp_path / "mine").mkdir()
    with pytest.raises(
        RunError, match=r"schema mine_taken': expected a new schema, got another run's; give another --out"
    ):
        Store.in_folder(tmp_path / "mine", create=True, server=server.url)
    assert list((tmp_path / "mine").iterdir()) == []
    assert server.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'mine_taken'") == [(0,)]


@pytest.mark.full
def test_a_schema_that_is_lost_is_not_begun_anew(tmp_path: Path, server: Server) -> None:
    Store.in_folder(tmp_path, create=True, server=server.url).close()
    schema = schema_in(url_in(tmp_path))
    server.sql(f"DROP SCHEMA {schema} CASCADE")
    for create in (False, True):
        with pytest.raises(
            RunError, match=r"got a database without that schema; restore it from a copy, or mend archive.url"
        ):
            Store.in_folder(tmp_path, create=create, server=server.url)


@pytest.mark.full
def test_psql_reads_the_line_and_is_among_the_runs_tables(tmp_path: Path, server: Server) -> None:
    import psycopg

    Store.in_folder(tmp_path, create=True, server=server.url).propose(1, [candidate(1, None).program])
    with psycopg.connect((tmp_path / LINK).read_text().strip()) as connection:
        assert connection.execute("SELECT number, program_id FROM candidates").fetchall() == [(1, f"{1:012x}")]
