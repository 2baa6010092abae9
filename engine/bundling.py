"""Programs as entries of a bundle: everything an archive knows of them that is good on another machine. No path of this one goes in."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3
from pydantic import TypeAdapter, ValidationError

from benchmarks.scores import Score
from engine import bundle, discovered, rundir
from engine.bench import Prober
from engine.config import CampaignConfig
from engine.descriptors import Descriptors
from engine.errors import RunError, UserError
from engine.finale import Row
from engine.programs import Found
from engine.ranking import best_first
from engine.records import IMPORTED, Candidate, Outcome
from engine.store import Store
from engine.suites import described
from engine.tables import final_rows
from merges.contract import checked_parameters, program_error, program_id
from merges.errors import one_line
from merges.probes import behaviour_hash
from merges.provenance import versions

LICENCE = "Apache-2.0"
"""That of this project, and of what it ships."""


@dataclass(frozen=True)
class Notes:
    """What people say of a program; None: what came with it, if it was imported, else nothing, and `LICENCE`."""

    licence: str | None = None
    title: str | None = None
    explanation: str | None = None


def read_notes(licence: str | None, title: str | None, explanation: Path | None) -> Notes:
    """What a user says of a program, as a bundle can hold it; `explanation` is a text file.

    Raises:
        UserError: a bundle cannot hold it, or the file cannot be read.
    """
    try:
        text = explanation.read_text(encoding="utf-8").strip() if explanation else None
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "text that is not UTF-8"
        raise UserError(
            f"--explanation '{explanation}': expected a readable text, got {said}; check the path"
        ) from error
    bounds = {
        "--licence": (TypeAdapter[str](bundle.Licence), licence, "an SPDX expression, as Apache-2.0"),
        "--title": (TypeAdapter[str](bundle.Title), title, "1 to 200 characters"),
        "--explanation": (TypeAdapter[str](bundle.Explanation), text, f"1 to {bundle.MAX_EXPLANATION} characters"),
    }
    for option, (kind, value, wanted) in bounds.items():
        try:
            if value is not None:
                kind.validate_python(value)
        except ValidationError as error:
            shown = f"{len(value or '')} characters, {(value or '')[:60]!r}"
            raise UserError(f"{option}: expected {wanted}, got {shown}; correct it") from error
    return Notes(licence, title, text)


def make_bundle(entries: Sequence[bundle.Entry]) -> bundle.Bundle:
    """A bundle of entries, each program once, under their licences.

    Raises:
        UserError: together they are more than a bundle holds.
    """
    programs = tuple({entry.id: entry for entry in entries}.values())
    licence = " AND ".join(dict.fromkeys(f"({e.licence})" if " " in e.licence else e.licence for e in programs))
    with _holding("bundle", "export fewer programs at once", UserError):
        return bundle.Bundle(
            format=bundle.FORMAT, version=bundle.VERSION, licence=licence, made_with=versions(), programs=programs
        )


def entries_of(programs: Sequence[Found], notes: Notes) -> list[bundle.Entry]:
    """The entries of programs: from their archives, from what ships, or, of files and the library, from the probes alone.

    Raises:
        ProgramError: the gate refuses one, or it failed.
        RunError, UserError: a run cannot be read, or has what a bundle cannot hold; a program has not met its fate yet.
    """
    archives: dict[Path, _Archive] = {}
    entries = []
    for found in programs:
        checked_parameters(found.source, {})
        if found.run is not None:
            archive = archives.get(found.run) or archives.setdefault(found.run, _read(found.run))
            entry = _archived(archive, found.source)
        else:
            shipped = discovered.entries().get(program_id(found.source)) if found.shipped else None
            entry = shipped or _probed(found.source)
        entries.append(_noted(entry, notes))
    return entries


@dataclass(frozen=True)
class _Archive:
    """What an archive says of all its programs."""

    folder: Path
    config: CampaignConfig
    candidates: Mapping[str, Sequence[Candidate]]
    finals: Mapping[str, Row]
    human: Row | None
    measured: bundle.Measured


def _read(folder: Path) -> _Archive:
    config, candidates = rundir.read_config(folder), defaultdict[str, list[Candidate]](list)
    with closing(Store.in_folder(folder)) as store:
        for candidate in store.candidates():
            candidates[candidate.program.id].append(candidate)
        rows = final_rows(config, store)
    finals = {row.final.name: row for row in rows if row.final.kind == "discovered"}
    human = next((row for row in rows if (row.final.kind, row.final.rank) == ("human", 1)), None)
    manifest = rundir.read_manifest(folder) if (folder / rundir.MANIFEST_FILE).exists() else {}
    with _holding(f"run '{folder}': {rundir.MANIFEST_FILE}"):
        where = measured(config, manifest.get("inputs"), manifest.get("versions"))
    return _Archive(folder, config, candidates, finals, human, where)


@contextmanager
def _holding(what: str, mend: str = "restore it from a copy", kind: type[UserError] = RunError) -> Iterator[None]:
    """Stands around the making of a bundle's parts: what it cannot hold is named.

    Raises:
        UserError: a value is missing, of another kind, or beyond its bounds; of this `kind`.
    """
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, (error.title, *first["loc"])))
        got = f"{str(first['input'])[:60]!r} at {place[:120]}: {first['msg']}"
        raise kind(one_line(f"{what}: expected what a bundle can hold, got {got}; {mend}")) from error
    except (KeyError, TypeError, ValueError) as error:
        got = f"{type(error).__name__}: {str(error)[:120]}"
        raise kind(one_line(f"{what}: expected what a bundle can hold, got {got}; {mend}")) from error


def _noted(entry: bundle.Entry, notes: Notes) -> bundle.Entry:
    said = {name: value for name, value in vars(notes).items() if value is not None}
    return bundle.Entry.model_validate(entry.model_dump() | said, strict=False)


def _archived(archive: _Archive, source: str) -> bundle.Entry:
    program = program_id(source)
    candidate = min(archive.candidates[program], key=lambda c: (c.assessment.behaviour is None, best_first(c)))
    final, a = archive.finals.get(program), candidate.assessment
    if a.outcome is Outcome.PENDING:
        raise UserError(f"program {program}: expected one whose fate is known, got one in work; finish its run first")
    if a.behaviour is None or a.outcome in (Outcome.FAILED, Outcome.REJECTED):
        raise program_error(program, a.reason, a.detail, a.line)
    with _holding(f"run '{archive.folder}': program {program}"):
        return _entry(archive, candidate, final)


def _entry(archive: _Archive, candidate: Candidate, final: Row | None) -> bundle.Entry:
    program, source, a = candidate.program.id, candidate.program.source, candidate.assessment
    assert a.behaviour is not None
    before = bundle.Entry.model_validate_json(candidate.program.text) if _is_imported(candidate) else None
    kept = before.model_dump(include={"licence", "title", "explanation"}) if before else {"licence": LICENCE}
    return bundle.Entry(
        id=program,
        source=source,
        behaviour=bundle.Behaviour(hash=a.behaviour, experts=len(archive.config.models.experts)),
        parameters=checked_parameters(source, {}),
        descriptors=_described(a.descriptors) if a.descriptors else None,
        dev=_dev(a.score) if a.score else None,
        test=_test(final, archive.human) if final else None,
        found=before.found if before else _found(archive.config, candidate),
        measured=archive.measured if a.score or final else None,
        **kept,
    )


def _is_imported(candidate: Candidate) -> bool:
    return candidate.program.origin == IMPORTED


def _probed(source: str) -> bundle.Entry:
    """Of a program that no archive has: what the probes say."""
    config = CampaignConfig()
    with Prober(config) as prober:
        answer = prober.probe(source)
        if answer.outputs is None:
            raise program_error(program_id(source), answer.reason, answer.detail, answer.line)
        with _holding(f"program {program_id(source)}", "change it", UserError):
            return bundle.Entry(
                id=program_id(source),
                source=source,
                behaviour=bundle.Behaviour(hash=behaviour_hash(answer.outputs), experts=len(config.models.experts)),
                parameters=checked_parameters(source, {}),
                descriptors=_described(prober.describe(source, answer)),
                licence=LICENCE,
            )


def _described(found: Descriptors) -> bundle.Described:
    return bundle.Described(numbers=dict(found.numbers), weights=found.weights, operations=found.operations)


def _dev(score: Score) -> bundle.DevScore:
    return bundle.DevScore(
        share=score.value,
        interval=(score.low, score.high),
        strict=score.strict,
        lenient=score.lenient,
        n=score.n,
        of=score.of,
        effective_n=score.effective_n,
        families=dict(score.families),
        bits=score.bits,
        strict_bits=score.strict_bits,
        lenient_bits=score.lenient_bits,
        scorer=score.scorer_version,
    )


def score_of(dev: bundle.DevScore) -> Score:
    """The score that `dev` stands for."""
    said = dev.model_dump(exclude={"share", "interval", "scorer"})
    return Score(value=dev.share, low=dev.interval[0], high=dev.interval[1], scorer_version=dev.scorer, **said)


def _test(row: Row, human: Row | None) -> bundle.Test:
    return bundle.Test(
        rank=row.final.rank,
        score=_held_out(row),
        simultaneous=row.simultaneous,
        against=_against(row, human) if human and row.against_human else None,
    )


def _held_out(row: Row) -> bundle.HeldOut:
    score, interval = row.final.score, row.interval
    return bundle.HeldOut(
        share=score.value, interval=(interval.low, interval.high), effective_n=score.effective_n, bits=score.bits
    )


def _against(row: Row, human: Row) -> bundle.Against:
    assert row.against_human is not None
    found = row.against_human.interval
    return bundle.Against(
        name=human.final.name,
        parameters=dict(human.final.parameters),
        human=_held_out(human),
        difference=found.estimate,
        interval=(found.low, found.high),
        p=row.against_human.p_value,
    )


def _found(config: CampaignConfig, candidate: Candidate) -> bundle.Found:
    program = candidate.program
    return bundle.Found(
        campaign=config.campaign.name,
        seed=config.campaign.seed,
        iteration=candidate.iteration,
        number=candidate.number,
        generator=program.generator,
        origin=program.origin,
        task=program.task,
        parents=program.parents,
    )


def measured(
    config: CampaignConfig, inputs: Mapping[str, Any] | None, package_versions: Mapping[str, str] | None
) -> bundle.Measured:
    """What a campaign's scores are taken on.

    Args:
        inputs, package_versions: of its manifest.
    """
    known = bundle.Inputs.model_fields
    return bundle.Measured(
        campaign=config.campaign.name,
        seed=config.campaign.seed,
        base=_public(config.models.base),
        experts=tuple(map(_public, config.models.experts)),
        merge=config.models.merge,
        conditions=conditions(config),
        inputs=bundle.Inputs(**{name: inputs[name] for name in known}) if inputs is not None else None,
        versions=dict(package_versions) if package_versions else None,
    )


def _public(reference: str) -> str:
    """A model as others may read it: where a folder lies on this machine is nobody else's affair."""
    local = Path(reference).is_absolute() or Path(reference).exists() or reference.startswith((".", "~"))
    return (Path(reference).name or "model") if local else reference


def conditions(config: CampaignConfig) -> str:
    """Everything beside models, problems, scorer and seed that an answer depends on, as one hash."""
    models, section = config.models, config.benchmark
    parts = [
        part.model_dump(include={"label", "name", "weight", "shots", "chat", "max_new_tokens", "checker"})
        for part in described(section)
    ]
    blocks = None if section.racing == "none" else (section.block or 0)
    how = [models.merge, models.dtype, config.evaluator.kind, section.batch, blocks, parts]
    return blake3(json.dumps(how, sort_keys=True).encode()).hexdigest()


def lines(entry: bundle.Entry) -> Iterator[tuple[str, str]]:
    """What people read of an entry, as (what, text)."""
    found, dev = entry.found, entry.dev
    if found:
        where = (
            f"candidate {found.number}, iteration {found.iteration} of campaign {found.campaign} (seed {found.seed})"
        )
        yield "found", f"{where}, written by {found.origin} version {found.generator}"
    if dev:
        n = f"{dev.n}" if dev.n == dev.of else f"{dev.n}/{dev.of}"
        yield "dev", f"{_shared(dev.share, dev.interval)}, n = {n}, scorer {dev.scorer}"
    if entry.test:
        star = ", simultaneous with the other finalists" if entry.test.simultaneous else ""
        yield (
            "test",
            f"{_shared(entry.test.score.share, entry.test.score.interval)}, n = {len(entry.test.score.bits)}{star}{_margin(entry.test.against)}",
        )
    for one in entry.transfer:
        names = f"on {', '.join(one.experts)} ({', '.join(one.splits)})"
        if one.score:
            yield (
                "transfer",
                f"{_shared(one.score.share, one.score.interval)} {names}, n = {len(one.score.bits)}{_margin(one.against)}",
            )
        else:
            yield "transfer", f"fails {names}: {one.fault}"
    yield "licence", entry.licence


def _shared(share: float, interval: bundle.Interval) -> str:
    return f"{100 * share:.1f} % [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _margin(against: bundle.Against | None) -> str:
    if against is None:
        return ""
    low, high = against.interval
    said = f"{100 * against.difference:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}], p = {against.p:.2g}"
    return f"; against {against.name}, the best human-made merge there on dev: {said}"
