"""The archive's tables, as SQLAlchemy rows, in SQLite and in PostgreSQL. `store.py` turns rows into records and back.

What others wrote, or ask for, is in columns that take any text (`storable.AnyText`). Numbers of bytes need more than the four bytes of PostgreSQL's INTEGER, and its
VARCHAR(32) would refuse what is longer: what is in those columns is ours and short, or a name, which may be long.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Double, Float, Index, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeEngine

from engine.storable import AnyText

SCHEMA_VERSION = 7
"""The newest revision in `migrations/versions`."""


def _short(length: int) -> TypeEngine[str]:
    """Text of ours; the length is for SQLite's tables as they have always been, which enforce none."""
    return String(length).with_variant(String(), "postgresql")


class Base(DeclarativeBase):
    """Root of the tables."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads a plain class attribute
        dict[str, Any]: JSON,
        list[dict[str, Any]]: JSON,
        list[str]: JSON,
        list[float]: JSON,
        float: Double,
    }


class CandidateRow(Base):
    """One candidate; columns as in `records.Program` and `records.Assessment`. `value` to `standing` say of its score what is
    searched and sorted by: the share, its interval, of how many problems how many were asked, and the share less 1 where a race stopped it."""

    __tablename__ = "candidates"
    __table_args__ = (Index("ix_candidates_program_id", "program_id", "outcome"),)  # who stands for a program
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    iteration: Mapped[int] = mapped_column(Integer, index=True)
    program_id: Mapped[str] = mapped_column(_short(32))
    origin: Mapped[str] = mapped_column(_short(32))
    generator: Mapped[str] = mapped_column(_short(32))
    sampling: Mapped[dict[str, Any]]
    parents: Mapped[list[str]]
    task: Mapped[str] = mapped_column(_short(32))
    judged: Mapped[float | None] = mapped_column(Float)
    outcome: Mapped[str] = mapped_column(_short(16), index=True)
    reason: Mapped[str | None] = mapped_column(_short(32))
    detail: Mapped[str | None] = mapped_column(AnyText)
    line: Mapped[int | None]
    rule: Mapped[str | None] = mapped_column(_short(64))
    duplicate_of: Mapped[str | None] = mapped_column(_short(32), index=True)
    behaviour: Mapped[str | None] = mapped_column(_short(64), index=True)
    sha256: Mapped[str | None] = mapped_column(_short(64))
    value: Mapped[float | None] = mapped_column(Float, index=True)
    low: Mapped[float | None] = mapped_column(Float)
    high: Mapped[float | None] = mapped_column(Float)
    asked: Mapped[int | None]
    problems: Mapped[int | None]
    standing: Mapped[float | None] = mapped_column(Float, index=True)
    execute_seconds: Mapped[float]
    score_seconds: Mapped[float]
    peak_memory_bytes: Mapped[int] = mapped_column(Integer().with_variant(BigInteger(), "postgresql"))
    isolation: Mapped[str | None] = mapped_column(_short(16))


class SourceRow(Base):
    """The source of a candidate's program. What is long lies apart, so that counting and sorting go through little; this too from the next, since it is searched."""

    __tablename__ = "sources"
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    source: Mapped[str] = mapped_column(AnyText)


class WritingRow(Base):
    """What a candidate's writer was shown, and what it wrote, whole."""

    __tablename__ = "writings"
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    prompt: Mapped[str] = mapped_column(AnyText)
    text: Mapped[str] = mapped_column(AnyText)


class ParentRow(Base):
    """One parent of a candidate, as in its `parents`, in a row of its own: who was written from a program is asked by the parent's id."""

    __tablename__ = "parents"
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    place: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    parent: Mapped[str] = mapped_column(_short(32), index=True)


class ScoreRow(Base):
    """The whole score of a candidate: long, and read for few at a time, so it lies apart."""

    __tablename__ = "scores"
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    score: Mapped[dict[str, Any]]


class SketchRow(Base):
    """The sketch of a program's answers to the probes, apart for the same reason."""

    __tablename__ = "sketches"
    program_id: Mapped[str] = mapped_column(_short(32), primary_key=True)
    sketch: Mapped[list[float]]


class DescriptorRow(Base):
    """What one program does; a column for each number of `descriptors.NUMBERS`. `operations`: between spaces, with one at both ends."""

    __tablename__ = "descriptors"
    program_id: Mapped[str] = mapped_column(_short(32), primary_key=True)
    scale: Mapped[float]
    balance: Mapped[float]
    variation: Mapped[float]
    rest: Mapped[float]
    size: Mapped[float]
    sparsity: Mapped[float]
    agreement: Mapped[float]
    scaling: Mapped[float]
    order: Mapped[float]
    entries: Mapped[float]
    depth: Mapped[float]
    name: Mapped[float]
    base: Mapped[float]
    randomness: Mapped[float]
    nodes: Mapped[float]
    weights: Mapped[list[float]]
    operations: Mapped[str] = mapped_column(AnyText)


class EffectRow(Base):
    """What one program makes of each tensor of the campaign's models, as far as that was taken; see `effect.Effect`."""

    __tablename__ = "effects"
    program_id: Mapped[str] = mapped_column(_short(32), primary_key=True)
    tensors: Mapped[list[dict[str, Any]]]


class TrialRow(Base):
    """One scored merge that is not a candidate; see `records.Trial`."""

    __tablename__ = "trials"
    key: Mapped[str] = mapped_column(_short(64), primary_key=True)
    number: Mapped[int]
    name: Mapped[str] = mapped_column(_short(128), index=True)
    kind: Mapped[str] = mapped_column(_short(16))
    parameters: Mapped[dict[str, Any]]
    score: Mapped[dict[str, Any]]


class FinalRow(Base):
    """One test score; see `records.Final`. Its key makes a second scoring impossible."""

    __tablename__ = "finals"
    key: Mapped[str] = mapped_column(_short(192), primary_key=True)
    number: Mapped[int]
    name: Mapped[str] = mapped_column(_short(128))
    kind: Mapped[str] = mapped_column(_short(16))
    rank: Mapped[int]
    dev: Mapped[float]
    parameters: Mapped[dict[str, Any]]
    score: Mapped[dict[str, Any]]


class UpdateRow(Base):
    """One update of the generator: which pairs, how long, what came of it."""

    __tablename__ = "updates"
    iteration: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    method: Mapped[str] = mapped_column(_short(32))
    report: Mapped[dict[str, Any]]


class _Spent:
    """Seconds and counts of something in an iteration, summed over sessions."""

    iteration: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    seconds: Mapped[float]
    count: Mapped[int]


class PhaseRow(_Spent, Base):
    """Wall-clock seconds of a phase: tune, search, learn, final."""

    __tablename__ = "phases"
    phase: Mapped[str] = mapped_column(_short(32), primary_key=True)


class StageRow(_Spent, Base):
    """Busy seconds of a stage (`stages.STAGES`); stages overlap."""

    __tablename__ = "stages"
    stage: Mapped[str] = mapped_column(_short(32), primary_key=True)


class VerdictRow(Base):
    """What is known of one model's answers to one suite: bits of both readings, '-' where nothing was asked."""

    __tablename__ = "verdicts"
    model: Mapped[str] = mapped_column(_short(160), primary_key=True)
    suite: Mapped[str] = mapped_column(_short(64), primary_key=True)
    strict: Mapped[str] = mapped_column(Text)
    lenient: Mapped[str] = mapped_column(Text)


class ReplyRow(Base):
    """What an endpoint answered to a request: text, tokens, cost."""

    __tablename__ = "replies"
    key: Mapped[str] = mapped_column(_short(64), primary_key=True)
    reply: Mapped[dict[str, Any]]


class MetaRow(Base):
    """Facts about the whole run: manifest, state, schema version."""

    __tablename__ = "meta"
    key: Mapped[str] = mapped_column(_short(64), primary_key=True)
    value: Mapped[dict[str, Any]]
