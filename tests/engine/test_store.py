"""The archive: what goes in comes out, once."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, MetaData, event, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateSchema

from engine import archive_place
from engine.connecting import connect
from engine.descriptors import NUMBERS, Descriptors
from engine.errors import HostError, RunError
from engine.lineage import family
from engine.records import Assessment, Effect, Final, Outcome, Program, Sampling, Trial
from engine.schema import SCHEMA_VERSION, Base, DescriptorRow
from engine.search import Query
from engine.store import Store
from tests.engine.conftest import candidate, dev_score

Made = Callable[[str], Store]


@pytest.fixture
def made(tmp_path: Path, archive_url: str | None) -> Made:
    """Makes the archive of a folder below `tmp_path`, in each database."""

    def make(name: str) -> Store:
        (tmp_path / name).mkdir(exist_ok=True)
        return Store.in_folder(tmp_path / name, create=True, server=archive_url)

    return make


@pytest.fixture
def store(made: Made) -> Store:
    """An archive in `tmp_path` itself."""
    return made(".")


@contextmanager
def opened(folder: Path) -> Iterator[Connection]:
    """An archive as somebody else opens it."""
    engine = connect(archive_place.url_in(folder))
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def change(folder: Path, statement: str) -> None:
    """Have somebody else change an archive."""
    with opened(folder) as connection:
        connection.exec_driver_sql(statement)


def test_a_candidate_comes_back_as_it_was(store: Store) -> None:
    wanted = candidate(1, 0.25)
    store.propose(1, [wanted.program])
    assert store.candidates()[0].assessment.outcome is Outcome.PENDING
    store.assess(1, wanted.assessment)
    assert store.candidates() == (wanted,)


def test_failures_are_rows_with_a_reason_and_no_score(store: Store) -> None:
    store.propose(1, [candidate(1, None).program])
    store.assess(1, Assessment(Outcome.FAILED, reason="timeout", detail="20 s", line=None))
    (row,) = store.candidates()
    assert (row.assessment.outcome, row.assessment.reason, row.score) == (Outcome.FAILED, "timeout", None)


def test_numbers_go_on_over_iterations(store: Store) -> None:
    store.propose(1, [candidate(i, 0.1).program for i in (1, 2)])
    store.propose(2, [candidate(i, 0.1).program for i in (3, 4)])
    assert [(c.number, c.iteration) for c in store.candidates()] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    assert [c.number for c in store.candidates(2)] == [3, 4]


def test_no_candidate_is_assessed_twice(store: Store) -> None:
    store.propose(1, [candidate(1, 0.1).program])
    store.assess(1, candidate(1, 0.1).assessment)
    with pytest.raises(AssertionError, match="assessed before"):
        store.assess(1, candidate(1, 0.9).assessment)


def test_no_subject_is_scored_on_test_twice(store: Store) -> None:
    final = Final("abc", "discovered", 1, 0.5, {}, dev_score())
    store.add_final(final)
    with pytest.raises(IntegrityError, match=r"(?i)unique"):
        store.add_final(final)
    assert store.finals() == (final,)


def test_trials_and_updates_come_back(store: Store) -> None:
    trial = Trial("ties", "human", {"density": 0.3}, dev_score())
    store.add_trial(trial)
    store.add_update(1, "dpo", {"pairs": [[1, 2, 0.1]], "trained": True})
    store.spend(1, "search", 2.0, 3)
    store.spend(1, "search", 1.5, 1)
    store.spend_on_stages(1, {"generate": (1.0, 40), "check": (0.1, 40)})
    store.spend_on_stages(1, {"generate": (0.5, 20)})
    assert store.trials() == (trial,)
    assert store.updates()[1]["trained"] is True
    assert store.phases() == ((1, "search", 3.5, 4),)
    assert store.stages() == ((1, "check", 0.1, 40), (1, "generate", 1.5, 60))


def test_the_digest_sees_every_bit_of_a_score_and_no_seconds(made: Made) -> None:
    digests = []
    for at, (bits, seconds) in enumerate([("1100", 1.0), ("1100", 9.0), ("1010", 1.0)]):
        store = made(str(at))
        store.propose(1, [candidate(1, 0.1).program])
        store.assess(1, Assessment(Outcome.OK, score=dev_score(bits), score_seconds=seconds))
        digests.append(store.digest())
    assert digests[0] == digests[1] != digests[2]


ANY_TEXT = st.text(st.one_of(st.characters(), st.sampled_from("\0\ud800\udfff\ufdef\ufdd0\ufddf'\"\\%_")), max_size=40)
"""Also what no database takes as it is, and what stands for it."""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=ANY_TEXT, number=st.floats())
def test_text_and_numbers_of_any_kind_survive(store: Store, text: str, number: float) -> None:
    at = len(store.candidates()) + 1
    sampling = Sampling(1.0, 1.0, 2**62, 0, 0)
    program = Program(text, "0" * 12, "generator", "0", text, text, sampling)
    store.propose(1, [program])
    store.assess(at, Assessment(Outcome.FAILED, reason="exception", detail=text, peak_memory_bytes=2**40))
    found = store.candidates()[-1]
    assert found.program == program
    assert (found.assessment.detail, found.assessment.peak_memory_bytes) == (text, 2**40)
    facts = {"number": number, text: [text, {text: number}], "\0": {"\0\0": None}}
    store.set_meta("facts", facts)
    store.add_update(1, "dpo", facts)
    store.keep_reply("k", facts)
    assert repr(store.meta("facts")) == repr(store.reply("k")) == repr(facts), (
        "of repr, a number that is none is equal to itself"
    )
    assert repr(store.updates()[1]) == repr({"method": "dpo", **facts})


def test_a_search_meets_text_behind_a_character_that_databases_refuse(store: Store) -> None:
    for at, source in enumerate(("a\0b Median", "\ud800MEDIAN", "other"), start=1):
        store.propose(1, [replace(candidate(at, None).program, source=source)])
    assert [c.number for c in store.find(Query(text="median"))[0]] == [1, 2]
    assert [c.number for c in store.find(Query(text="A\0B"))[0]] == [1]
    store.propose(1, [replace(candidate(4, None).program, source="ÜBER Über")])
    assert [c.number for c in store.find(Query(text="ÜB"))[0]] == [4]
    assert store.find(Query(text="üb"))[1] == 0, "of ASCII letters alone the case does not matter, in each database"
    for nobodys in (Query(text="0000"), Query(operations=["\udcff"]), Query(generator="\udcff\0")):
        assert store.find(nobodys) == ((), 0)


def test_names_may_be_longer_than_their_columns_say(store: Store) -> None:
    trial = Trial("expert:" + "x" * 250, "expert", {}, dev_score())
    final = Final("expert:" + "x" * 250, "expert", 1, 0.5, {}, dev_score())
    store.add_trial(trial)
    store.add_final(final)
    store.learn_verdicts("m" * 300, "s" * 100, "1", "1")
    assert (store.trials(), store.finals(), store.verdicts("m" * 300, "s" * 100)) == ((trial,), (final,), ("1", "1"))


def test_a_foreign_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "archive.db").write_bytes(b"not a database" * 100)
    with pytest.raises(RunError, match=r"expected a sound Mergewright archive, got .*file is not a database"):
        Store.in_folder(tmp_path)
    with pytest.raises((RunError, HostError), match="file is not a database"):
        Store.in_folder(tmp_path, create=True)


def test_effects_are_kept_by_program(store: Store, tmp_path: Path) -> None:
    found = [
        Effect("model.norm.weight", {"a": 0.5, "b": -0.25}, 0.125, 1.5, 0.75),
        Effect("lm_head.weight", {"a": 1.0, "b": 0.0}, 0.0, 1.0, 1.0),
    ]
    store.add_effects("0123", found)
    store.close()
    again = Store.in_folder(tmp_path)
    assert list(again.effects("0123")) == found
    assert again.effects("4567") == ()
    again.add_effects("0123", found[:1])  # a later look counts
    assert list(again.effects("0123")) == found[:1]


OLD = Path(__file__).parent / "archives" / "schema-3.sql"
"""An archive as the last release with schema 3 wrote it: `iterdump` of a run of four candidates, one of them not assessed yet."""


def old_archive(folder: Path, archive_url: str | None) -> Path:
    """That archive in a run's folder; in PostgreSQL as the same models would have made it there."""
    script = OLD.read_text()
    with archive_place.making(folder, archive_url) as (url, _):
        engine = connect(url)
        connection = engine.raw_connection()
        driver: Any = connection.driver_connection
        if schema := archive_place.schema_in(url):
            script = re.sub(r"\bDOUBLE\b", "DOUBLE PRECISION", script).replace(
                "memory_bytes INTEGER", "memory_bytes BIGINT"
            )
            driver.execute(str(CreateSchema(schema)) + ";" + script)
            driver.commit()
        else:
            driver.executescript(script)
        connection.close()
        engine.dispose()
    return folder


def dumped(folder: Path) -> dict[str, Any]:
    """Tables, columns and rows of an archive, whoever made them."""
    found = MetaData()
    with opened(folder) as connection:
        found.reflect(connection)
        rows = {name: sorted(map(repr, connection.execute(select(t)))) for name, t in found.tables.items()}
    return {name: (repr(list(t.columns)), rows[name]) for name, t in found.tables.items()}


def test_an_archive_of_the_first_release_is_brought_up_to_date_and_nothing_is_lost(
    tmp_path: Path, archive_url: str | None
) -> None:
    old_archive(tmp_path, archive_url)
    store = Store.in_folder(tmp_path)
    first, second, third, fourth = store.candidates()
    assert (first, second) == (candidate(1, 0.75), candidate(2, None))
    assert third.assessment.score == dev_score("1100--")
    assert fourth.assessment.outcome is Outcome.PENDING
    assert [trial.name for trial in store.trials()] == [final.name for final in store.finals()] == ["ties"]
    assert store.updates() == {1: {"method": "dpo", "trained": True}}
    assert store.verdicts("merge:a", "s") == ("1-", "1-")
    store.assess(4, candidate(4, 0.5).assessment)  # and it goes on
    with opened(tmp_path) as connection:
        found = connection.exec_driver_sql(
            "SELECT number, value, low, high, asked, problems, standing FROM candidates ORDER BY number"
        ).fetchall()
    scores = [first.assessment.score, third.assessment.score, candidate(4, 0.5).assessment.score]
    assert [row for row in found if row[1] is not None] == [
        (number, score.value, score.low, score.high, score.n, score.of, score.value - (not score.complete))
        for number, score in zip((1, 3, 4), scores, strict=True)
        if score
    ]
    store.close()
    assert Store.in_folder(tmp_path).candidates()[0] == first  # a second time there is nothing to do


def test_the_steps_come_to_what_the_models_say(tmp_path: Path, archive_url: str | None) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    old_archive(tmp_path, archive_url)
    Store.in_folder(tmp_path).close()
    with opened(tmp_path) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
        assert context.get_current_revision() == str(SCHEMA_VERSION)


def test_a_step_that_breaks_off_leaves_the_archive_as_it_was(
    tmp_path: Path, archive_url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dumped(old_archive(tmp_path, archive_url))
    monkeypatch.setattr("alembic.op.create_table", lambda *_, **__: 1 / 0)  # after columns were added
    with pytest.raises(ZeroDivisionError):
        Store.in_folder(tmp_path)
    assert dumped(tmp_path) == before
    monkeypatch.undo()
    assert len(Store.in_folder(tmp_path).candidates()) == 4


def test_two_that_open_an_old_archive_at_once_bring_it_up_to_date_once(tmp_path: Path, archive_url: str | None) -> None:
    from concurrent.futures import ThreadPoolExecutor

    old_archive(tmp_path, archive_url)
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: Store.in_folder(tmp_path), range(4)))
    assert {len(store.candidates()) for store in stores} == {4}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (99, f"expected schema {SCHEMA_VERSION} or an older one, got 99; a newer Mergewright wrote it: update yours"),
        (
            2,
            "expected schema 3 or a newer one, got 2, of before the first release; open it with the version that wrote it",
        ),
    ],
)
def test_an_archive_of_another_time_is_refused_in_one_line(
    tmp_path: Path, archive_url: str | None, found: int, message: str
) -> None:
    old_archive(tmp_path, archive_url)
    change(tmp_path, f"UPDATE meta SET value = '{{\"version\": {found}}}' WHERE key = 'schema'")
    with pytest.raises(RunError, match=message):
        Store.in_folder(tmp_path)


def test_a_newer_archive_is_known_by_its_revision(store: Store, tmp_path: Path) -> None:
    store.close()
    change(tmp_path, f"UPDATE alembic_version SET version_num = '{SCHEMA_VERSION + 1}'")
    with pytest.raises(RunError, match=f"expected schema {SCHEMA_VERSION} or an older one, got {SCHEMA_VERSION + 1}"):
        Store.in_folder(tmp_path)


def test_a_database_of_another_program_is_no_archive(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "archive.db") as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    with pytest.raises(RunError, match="expected a Mergewright archive, got a database without one; check the path"):
        Store.in_folder(tmp_path)


FOREIGN = [
    ("alembic_version (version_num TEXT)", "('1975ea83b712')"),
    ("alembic_version (version_num TEXT)", "('" + "9" * 5000 + "')"),
    ("meta (key TEXT, value TEXT)", "('schema', 'no JSON')"),
    ("meta (key TEXT, value TEXT)", "('schema', '[1]')"),
    ("meta (key TEXT, value TEXT)", "('schema', '{\"version\": \"four\"}')"),
]


@pytest.mark.parametrize(("table", "row"), FOREIGN)
@pytest.mark.parametrize("create", [False, True])
def test_a_database_that_numbers_its_schema_otherwise_is_no_archive(
    tmp_path: Path, table: str, row: str, create: bool
) -> None:
    with sqlite3.connect(tmp_path / "archive.db") as connection:
        connection.execute(f"CREATE TABLE {table}")
        connection.execute(f"INSERT INTO {table.partition(' ')[0]} VALUES {row}")
    with pytest.raises(RunError, match=r"expected a Mergewright archive, got .* of another program; check the path"):
        Store.in_folder(tmp_path, create=create)
    with sqlite3.connect(tmp_path / "archive.db") as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,), "nothing was made in it"


def test_descriptors_come_back_with_their_candidate_and_not_with_a_duplicate(store: Store) -> None:
    found = Descriptors(dict.fromkeys(NUMBERS, 0.125), (0.5, -0.25), ("abs", "topk"), (1.0, 2.0))
    first = candidate(1, 0.25)
    first = replace(first, assessment=replace(first.assessment, descriptors=found))
    again = replace(candidate(2, None, outcome=Outcome.DUPLICATE), program=first.program)
    again = replace(
        again, assessment=replace(again.assessment, reason=None, behaviour="b1", duplicate_of=first.program.id)
    )
    store.propose(1, [first.program, again.program])
    store.assess(1, first.assessment)
    store.assess(2, again.assessment)
    assert store.candidates() == (first, again)


def between(reader: Store, words: str, work: Callable[[], None]) -> list[str]:
    """Do something before the reader's first question with these words is put; answers with the question, once it was."""
    met: list[str] = []

    def before(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if words in " ".join(statement.split()) and not met:
            met.append(statement)
            work()

    event.listen(reader._engine, "before_cursor_execute", before)
    return met


@pytest.mark.parametrize("table", ["scores", "descriptors", "sketches"])
def test_a_reader_sees_a_candidate_as_it_was_while_the_run_goes_on(store: Store, tmp_path: Path, table: str) -> None:
    """The writer finishes a candidate between two questions of the reader, whichever they are."""
    found = Descriptors(dict.fromkeys(NUMBERS, 0.125), (0.5,), ("abs",), (1.0,))
    first = candidate(1, 0.25)
    first = replace(first, assessment=replace(first.assessment, descriptors=found))
    store.propose(1, [first.program])
    reader = Store.in_folder(tmp_path)
    met = between(reader, f"FROM {table}", lambda: store.assess(1, first.assessment))
    (seen,) = reader.candidates()
    assert met
    assert seen.assessment == Assessment(Outcome.PENDING)
    assert reader.candidates() == (first,)


def test_a_search_counts_and_lists_one_state_of_the_archive(store: Store, tmp_path: Path) -> None:
    store.propose(1, [candidate(1, None).program])
    reader = Store.in_folder(tmp_path)

    def goes_on() -> None:
        store.propose(1, [candidate(2, None).program])
        store.assess(1, candidate(1, 0.25).assessment)

    met = between(reader, "SELECT candidates.number FROM", goes_on)
    found, count = reader.find(Query(verdict="pending"))
    assert met
    assert ([c.number for c in found], count) == ([1], 1)
    assert [c.number for c in reader.find(Query(verdict="pending"))[0]] == [2]


def test_parents_of_an_older_archive_are_found_by_their_children(tmp_path: Path, archive_url: str | None) -> None:
    old_archive(tmp_path, archive_url)
    parents = '["000000000001", "000000000002", "000000000001"]'
    change(tmp_path, f"UPDATE candidates SET parents = '{parents}' WHERE number = 3")
    store = Store.in_folder(tmp_path)
    third = store.candidates()[2]
    assert third.program.parents == ("000000000001", "000000000002", "000000000001")
    for parent in (1, 2):
        listed, count = store.find(Query(descendants_of=f"{parent:012x}"))
        assert (count, [c.number for c in listed]) == (1, [3])


@pytest.mark.parametrize("number", [0, -1, 2, 2**31, 10**30])
def test_a_number_that_nobody_has_is_nobody(store: Store, number: int) -> None:
    store.propose(1, [candidate(1, None).program])
    assert store.candidate(number) is None
    found = store.candidate(1)
    assert found
    assert found.number == 1


def test_every_number_has_its_column() -> None:
    others = {"program_id", "weights", "operations"}
    assert set(DescriptorRow.__table__.columns.keys()) == {*NUMBERS, *others}


def test_a_damaged_archive_is_one_line(store: Store, tmp_path: Path) -> None:
    store.close()
    change(tmp_path, "DROP TABLE trials")
    with pytest.raises(RunError, match=r"expected a sound Mergewright archive, got \w+: .*trials") as caught:
        Store.in_folder(tmp_path).trials()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("UPDATE candidates SET sampling = '{\"nobody\": 1}'", "TypeError"),
        ("UPDATE candidates SET parents = '5'", "TypeError"),
        ("UPDATE candidates SET outcome = 'gone'", "ValueError: 'gone'"),
        ("DELETE FROM sources", "KeyError: 1"),
        ("DELETE FROM sketches", "KeyError"),
        ("UPDATE scores SET score = '{}'", "TypeError"),
    ],
)
def test_a_damaged_row_is_one_line(made: Made, tmp_path: Path, damage: str, told: str) -> None:
    store = made(".")
    store.take_over([candidate(1, 0.5)])
    store.add_descriptors(candidate(1, 0.5).program.id, Descriptors(dict.fromkeys(NUMBERS, 0.0), (0.5,), (), (0.0,)))
    change(tmp_path, damage)
    for read in (store.candidates, lambda: store.find(Query()), lambda: store.candidate(1), store.digest):
        with pytest.raises(RunError, match=f"expected a sound Mergewright archive, got a row .*{told}") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_broken_json_is_one_line_whoever_reads_it(tmp_path: Path) -> None:
    store = Store.in_folder(tmp_path, create=True)
    store.take_over([candidate(1, 0.5)])
    store.set_meta("state", {"finished": True})
    change(tmp_path, "UPDATE candidates SET sampling = '{', parents = '['")
    change(tmp_path, "UPDATE meta SET value = '" + "[" * 100_000 + "'")
    for use in (
        store.candidates,
        lambda: family(store, candidate(1, 0.5).program.id),
        lambda: store.meta("state"),
        lambda: store.set_meta("state", {"finished": False}),
    ):
        with pytest.raises(RunError, match="expected a sound Mergewright archive, got a row"):
            use()


def test_a_fault_of_those_who_ask_is_not_the_archives(store: Store) -> None:
    with pytest.raises(KeyError, match="ours"), store.reading():
        raise KeyError("ours")


def test_verdicts_are_known_by_model_and_suite_and_grow(store: Store) -> None:
    assert store.verdicts("merge:a", "s") is None
    store.learn_verdicts("merge:a", "s", "1-", "1-")
    store.learn_verdicts("merge:a", "s", "10", "11")
    assert store.verdicts("merge:a", "s") == ("10", "11")
    assert store.verdicts("merge:b", "s") is store.verdicts("merge:a", "t") is None


def test_threads_may_write_at_the_same_time(store: Store) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def write(number: int) -> None:
        store.learn_verdicts(f"m{number}", "s", "1", "1")
        store.spend(1, "search", 1.0, 1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(64)))
    assert store.phases() == ((1, "search", 64.0, 64),)
    assert all(store.verdicts(f"m{number}", "s") for number in range(64))
