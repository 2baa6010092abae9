"""The archive: what goes in comes out, once."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from engine.errors import HostError, RunError
from engine.records import Assessment, Final, Outcome, Program, Sampling, Trial
from engine.store import Store
from tests.engine.conftest import candidate, dev_score


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.in_folder(tmp_path, create=True)


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
    with pytest.raises(IntegrityError, match="UNIQUE"):
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


def test_the_digest_sees_every_bit_of_a_score_and_no_seconds(tmp_path: Path) -> None:
    digests = []
    for at, (bits, seconds) in enumerate([("1100", 1.0), ("1100", 9.0), ("1010", 1.0)]):
        folder = tmp_path / str(at)
        folder.mkdir()
        store = Store.in_folder(folder, create=True)
        store.propose(1, [candidate(1, 0.1).program])
        store.assess(1, Assessment(Outcome.OK, score=dev_score(bits), score_seconds=seconds))
        digests.append(store.digest())
    assert digests[0] == digests[1] != digests[2]


def test_text_of_any_kind_survives(store: Store) -> None:
    nasty = "\x00'; DROP TABLE candidates; --\n☃\ud7ff"
    program = Program(nasty, "0" * 12, "generator", "0", nasty, nasty, Sampling(1.0, 1.0, 2**62, 0, 0))
    store.propose(1, [program])
    assert store.candidates()[0].program == program


def test_a_foreign_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "archive.db").write_bytes(b"not a database" * 100)
    with pytest.raises(RunError, match=r"expected a sound Mergewright archive, got .*file is not a database"):
        Store.in_folder(tmp_path)
    with pytest.raises((RunError, HostError), match="file is not a database"):
        Store.in_folder(tmp_path, create=True)


def test_a_damaged_archive_is_one_line(store: Store, tmp_path: Path) -> None:
    store.close()
    with sqlite3.connect(tmp_path / "archive.db") as connection:
        connection.execute("DROP TABLE trials")
    with pytest.raises(
        RunError, match="expected a sound Mergewright archive, got OperationalError: no such table: trials"
    ):
        Store.in_folder(tmp_path).trials()


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
