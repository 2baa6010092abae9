"""The store: an archive per run, in SQLite or PostgreSQL, through SQLAlchemy. Every candidate is a row, failures included.

A row is written when a program is proposed and completed when it has been assessed, each in one transaction: a campaign killed at
any moment loses at most the work in flight, and what was scored is never scored again. All text is data; nothing is unpickled.
"""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from blake3 import blake3
from sqlalchemy import URL, Engine, delete, func, make_url, select
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateSchema

from benchmarks.statistics import ItemBits
from engine import archive_faults, archive_place, migrations
from engine.connecting import Writer, check_server, connect, for_reading, for_writing
from engine.descriptors import Descriptors
from engine.errors import RunError
from engine.lineage import standing_for
from engine.records import (
    LARGEST_NUMBER,
    Assessment,
    Candidate,
    Effect,
    Final,
    Outcome,
    Program,
    ProgramId,
    Trial,
)
from engine.rows import (
    add_candidate,
    candidates_of,
    complete,
    keep_descriptors,
    numbered,
    repeated,
    score_from_json,
    score_to_json,
)
from engine.schema import (
    SCHEMA_VERSION,
    Base,
    CandidateRow,
    EffectRow,
    FinalRow,
    MetaRow,
    PhaseRow,
    ReplyRow,
    StageRow,
    TrialRow,
    UpdateRow,
    VerdictRow,
)
from engine.search import Query, ids_beginning, selected
from engine.storable import decoding


class Store:
    """All that a run remembers.

    One process writes at a time (the run's lock sees to it, and on PostgreSQL the server's), and of its threads one; any number may read meanwhile.
    A store that nobody holds any more is closed: that is how one goes that threads are still reading.
    """

    def __init__(self, url: str | URL, *, create: bool = False) -> None:
        """Open the store at a SQLAlchemy `url`.

        Raises:
            RunError: it is no archive, or of another schema version; a server refuses us.
            HostError: it could not be made, a full disk, most likely; a server does not answer.
        """
        self._url = make_url(url)
        self._engine = connect(self._url)
        self._writer = Writer(self._engine)
        self._one_writer = threading.Lock()
        weakref.finalize(
            self, _close, self._writer, self._engine
        ).atexit = False  # a forked child's end is none of ours
        try:
            self._open(create)
        except BaseException:
            self.close()
            raise

    @classmethod
    def in_folder(cls, folder: Path, *, create: bool = False, server: str | None = None) -> Store:
        """The store of the run in `folder`. `create`: make it if it is not there, on `server` (`archive.url` of the campaign), or as a file in the folder."""
        if not create:
            return cls(archive_place.url_in(folder))
        with archive_place.making(folder, server) as (url, young):
            return cls(url, create=young)

    def close(self) -> None:
        """Close every connection."""
        _close(self._writer, self._engine)

    def _open(self, create: bool) -> None:
        with archive_faults.reading(self._url), for_reading(self._engine).connect() as connection:
            if connection.dialect.name == "postgresql":
                check_server(connection, self._url)
            found = migrations.schema_of(connection)
        if found is None and create:
            self._create()
        elif found is not None and migrations.FIRST <= found < SCHEMA_VERSION:
            self._bring_up_to_date()
        elif found != SCHEMA_VERSION:
            raise RunError(_other_schema(self._url, found))

    def _create(self) -> None:
        with archive_faults.making(self._url), for_writing(self._engine).begin() as connection:
            if schema := archive_place.schema_in(self._url):
                connection.execute(CreateSchema(schema))
            Base.metadata.create_all(connection)
            migrations.mark(connection, SCHEMA_VERSION)

    def _bring_up_to_date(self) -> None:
        with archive_faults.writing(self._url), for_writing(self._engine).begin() as connection:
            migrations.upgrade(connection)

    @contextmanager
    def _write(self) -> Iterator[Session]:
        with (
            self._one_writer,
            archive_faults.writing(self._url),
            Session(self._writer.bind()) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def _read(self) -> Iterator[Session]:
        """As `reading`, for questions of the store's own, whose rows become records here."""
        with self.reading() as session, decoding():
            yield session

    # candidates

    def propose(self, iteration: int, programs: Sequence[Program]) -> tuple[Candidate, ...]:
        """Add a batch of proposed programs, numbered after those there are, in one transaction; answers with their rows."""
        with self._write() as session:
            last = session.query(CandidateRow).count()
            rows = [add_candidate(session, last + at, iteration, one) for at, one in enumerate(programs, start=1)]
            return tuple(candidates_of(session, rows))

    def assess(self, number: int, assessment: Assessment) -> None:
        """Complete candidate `number`, once."""
        with self._write() as session:
            row = session.get(CandidateRow, number)
            assert row is not None, f"candidate {number} was never proposed"
            assert row.outcome == Outcome.PENDING, f"candidate {number} was assessed before"
            complete(session, row, assessment)

    def take_over(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Add candidates with their assessments, from elsewhere, in one transaction; answers with their rows, numbered after those there are."""
        with self._write() as session:
            last = session.query(CandidateRow).count()
            rows = []
            for at, one in enumerate(candidates, start=1):
                row = add_candidate(session, last + at, one.iteration, one.program)
                complete(session, row, one.assessment)
                rows.append(replace(one, number=row.number))
            return tuple(rows)

    def add_descriptors(self, program_id: ProgramId, found: Descriptors) -> None:
        """Remember what a program does, that was assessed before there were descriptors."""
        with self._write() as session:
            keep_descriptors(session, program_id, found)

    def candidates(self, iteration: int | None = None) -> tuple[Candidate, ...]:
        """All candidates in the order of their numbers; of one iteration if given."""
        query = select(CandidateRow).order_by(CandidateRow.number)
        if iteration is not None:
            query = query.where(CandidateRow.iteration == iteration)
        with self._read() as session:
            return tuple(candidates_of(session, session.scalars(query).all()))

    def find(self, query: Query) -> tuple[tuple[Candidate, ...], int]:
        """The candidates that a query asks for, in its order, and how many there are without its limit."""
        wanted = selected(query, self._engine.dialect.name)
        with self.reading() as session:
            count = session.scalar(select(func.count()).select_from(wanted.order_by(None).subquery())) or 0
            numbers = list(session.scalars(wanted.limit(query.limit).offset(query.offset or None)))
            with decoding():  # and not around the question, which is the user's
                return tuple(numbered(session, numbers)), count

    def ids(self, beginning: str) -> list[ProgramId]:
        """Ids of the programs whose id begins with a text, sorted."""
        with self._read() as session:
            return list(session.scalars(ids_beginning(beginning)))

    def program(self, program_id: ProgramId) -> Candidate | None:
        """The candidate that stands for a program (`lineage.Relative.again`); None where nobody has the id."""
        with self._read() as session:
            return next(numbered(session, list(session.scalars(standing_for(program_id)))), None)

    def candidate(self, number: int) -> Candidate | None:
        """Candidate `number`, or None."""
        with self._read() as session:
            return next(numbered(session, [number] if 0 < number <= LARGEST_NUMBER else []), None)

    def add_effects(self, program_id: ProgramId, found: Sequence[Effect]) -> None:
        """Remember what a program makes of each tensor of the campaign's models."""
        with self._write() as session:
            session.merge(
                EffectRow(program_id=program_id, tensors=[{**vars(one), "weights": dict(one.weights)} for one in found])
            )

    def effects(self, program_id: ProgramId) -> tuple[Effect, ...]:
        """What a program makes of each tensor; empty where that was never taken."""
        with self._read() as session:
            row = session.get(EffectRow, program_id)
            return tuple(Effect(**one) for one in row.tensors) if row else ()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one state of the archive, whatever is written meanwhile; for questions that need no whole candidates."""
        with archive_faults.reading(self._url), Session(for_reading(self._engine)) as session:
            yield session

    # trials, finals

    def add_trial(self, trial: Trial) -> None:
        """Remember a scored model or human-made merge."""
        with self._write() as session:
            number = session.query(TrialRow).count() + 1
            session.add(
                TrialRow(
                    key=trial_key(trial.name, trial.parameters),
                    number=number,
                    name=trial.name,
                    kind=trial.kind,
                    parameters=dict(trial.parameters),
                    score=score_to_json(trial.score),
                )
            )

    def trials(self) -> tuple[Trial, ...]:
        """All trials in the order they were scored."""
        with self._read() as session:
            rows = session.scalars(select(TrialRow).order_by(TrialRow.number))
            return tuple(Trial(r.name, r.kind, r.parameters, score_from_json(r.score)) for r in rows)

    def add_final(self, final: Final) -> None:
        """Remember a test score; a second one of the same subject breaks the key, and with it the run."""
        with self._write() as session:
            number = session.query(FinalRow).count() + 1
            session.add(
                FinalRow(
                    key=f"{final.kind}/{final.name}",
                    number=number,
                    name=final.name,
                    kind=final.kind,
                    rank=final.rank,
                    dev=final.dev,
                    parameters=dict(final.parameters),
                    score=score_to_json(final.score),
                )
            )

    def finals(self) -> tuple[Final, ...]:
        """All test scores in the order they were taken."""
        with self._read() as session:
            rows = session.scalars(select(FinalRow).order_by(FinalRow.number))
            return tuple(Final(r.name, r.kind, r.rank, r.dev, r.parameters, score_from_json(r.score)) for r in rows)

    # learning, accounting, facts

    def add_update(self, iteration: int, method: str, report: Mapping[str, Any]) -> None:
        """Remember that the generator was updated after `iteration`."""
        with self._write() as session:
            session.merge(UpdateRow(iteration=iteration, method=method, report=dict(report)))

    def updates(self) -> dict[int, dict[str, Any]]:
        """Reports of the updates, by iteration."""
        with self._read() as session:
            return {
                row.iteration: {"method": row.method, **row.report}
                for row in session.scalars(select(UpdateRow).order_by(UpdateRow.iteration))
            }

    def spend(self, iteration: int, phase: str, seconds: float, count: int) -> None:
        """Add wall-clock seconds and a count to a phase."""
        with self._write() as session:
            _add(session, PhaseRow, iteration, "phase", phase, seconds, count)

    def spend_on_stages(self, iteration: int, spent: Mapping[str, tuple[float, int]]) -> None:
        """Add busy seconds and counts to stages, in one transaction."""
        with self._write() as session:
            for stage, (seconds, count) in spent.items():
                _add(session, StageRow, iteration, "stage", stage, seconds, count)

    def phases(self) -> tuple[tuple[int, str, float, int], ...]:
        """(iteration, phase, seconds, count), in the order of iterations; iteration 0 is before the first, the last one the final."""
        with self._read() as session:
            rows = session.scalars(select(PhaseRow).order_by(PhaseRow.iteration, PhaseRow.phase))
            return tuple((r.iteration, r.phase, r.seconds, r.count) for r in rows)

    def stages(self) -> tuple[tuple[int, str, float, int], ...]:
        """(iteration, stage, busy seconds, count), in the order of iterations, numbered as in `phases`."""
        with self._read() as session:
            rows = session.scalars(select(StageRow).order_by(StageRow.iteration, StageRow.stage))
            return tuple((r.iteration, r.stage, r.seconds, r.count) for r in rows)

    # replies: no answer of an endpoint is paid twice

    def reply(self, key: str) -> dict[str, Any] | None:
        """What an endpoint answered to the request of this key, or None."""
        with self._read() as session:
            row = session.get(ReplyRow, key)
            return row.reply if row else None

    def keep_reply(self, key: str, reply: Mapping[str, Any]) -> None:
        """Remember an answer of an endpoint."""
        with self._write() as session:
            session.merge(ReplyRow(key=key, reply=dict(reply)))

    def replies(self) -> tuple[dict[str, Any], ...]:
        """All answers of endpoints."""
        with self._read() as session:
            return tuple(row.reply for row in session.scalars(select(ReplyRow)))

    # verdicts: no model is asked a problem twice

    def verdicts(self, model: str, suite: str) -> tuple[ItemBits, ItemBits] | None:
        """(strict bits, lenient bits) of a model on a suite, '-' where nothing was asked; None where it was asked nothing."""
        with self._read() as session:
            row = session.get(VerdictRow, (model, suite))
            return (row.strict, row.lenient) if row else None

    def learn_verdicts(self, model: str, suite: str, strict: ItemBits, lenient: ItemBits) -> None:
        """More is known of a model on a suite."""
        with self._write() as session:
            session.merge(VerdictRow(model=model, suite=suite, strict=strict, lenient=lenient))

    def meta(self, key: str) -> dict[str, Any] | None:
        """A fact about the run, or None."""
        with self._read() as session:
            row = session.get(MetaRow, key)
            return dict(row.value) if row else None

    def set_meta(self, key: str, value: Mapping[str, Any]) -> None:
        """Set a fact about the run."""
        with self._write() as session:
            session.merge(MetaRow(key=key, value=dict(value)))

    def forget_meta(self, key: str) -> None:
        """Take back a fact about the run, if it was set."""
        with self._write() as session:
            session.execute(delete(MetaRow).where(MetaRow.key == key))

    def digest(self) -> str:
        """BLAKE3 of everything in the archive that a resumed run must repeat: all but times and memory."""
        parts = [part for candidate in self.candidates() for part in repeated(candidate)]
        parts.extend([t.name, t.kind, dict(t.parameters), score_to_json(t.score)] for t in self.trials())
        parts.extend([f.name, f.kind, f.rank, f.dev, dict(f.parameters), score_to_json(f.score)] for f in self.finals())
        parts.extend([i, report] for i, report in self.updates().items())
        return blake3(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _close(writer: Writer, engine: Engine) -> None:
    writer.close()
    engine.dispose()


def _add(session: Session, table: type[Base], iteration: int, key: str, name: str, seconds: float, count: int) -> None:
    row: Any = session.get(table, {"iteration": iteration, key: name})
    if row is None:
        session.add(table(**{"iteration": iteration, key: name, "seconds": seconds, "count": count}))
    else:
        row.seconds += seconds
        row.count += count


def trial_key(name: str, parameters: Mapping[str, float]) -> str:
    """Identity of a trial: its name and hyper-parameters."""
    return blake3(json.dumps([name, sorted(parameters.items())]).encode()).hexdigest()


def _other_schema(url: URL, found: int | None) -> str:
    place = archive_place.told(url)
    if found is None and archive_place.schema_in(url):
        return f"archive '{place}': expected a Mergewright archive, got a database without that schema; restore it from a copy, or mend {archive_place.LINK} in the run's folder"
    if found is None:
        return f"archive '{place}': expected a Mergewright archive, got a database without one; check the path"
    if found == migrations.FOREIGN:
        return f"archive '{place}': expected a Mergewright archive, got a database of another program; check the path"
    if found > SCHEMA_VERSION:
        return f"archive '{place}': expected schema {SCHEMA_VERSION} or an older one, got {found}; a newer Mergewright wrote it: update yours"
    return f"archive '{place}': expected schema {migrations.FIRST} or a newer one, got {found}, of before the first release; open it with the version that wrote it"
