"""From a proposed program to a scored one: validate, probe, refuse duplicates, merge, score.

The order is that of cost. A program that the gate refuses costs microseconds, one that behaves like an earlier one a few
milliseconds on probe tensors; only a new, working program is paid a merge and a score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from benchmarks.racing import Race, RaceRules, halving_rungs, survivors
from benchmarks.statistics import ItemBits
from benchmarks.suite import Suite
from engine.bench import Bench, Scored
from engine.config import CampaignConfig
from engine.errors import HostError
from engine.pipeline import ahead
from engine.records import Assessment, Candidate, Outcome, ProgramId
from merges.probes import behaviour_hash
from sandbox import ExecutionResult, Reason

STATIC_REASONS = frozenset({Reason.POLICY, Reason.SYNTAX, Reason.SOURCE_SIZE})
"""Reasons that the gate gives before anything runs: the candidate is REJECTED, not FAILED."""

RETRIED = frozenset({Reason.TIMEOUT})
"""A time-out may be the machine's fault, so it is tried once more; every other reason repeats itself."""


@dataclass(frozen=True)
class Ran:
    """A candidate after the sandbox: what the probes gave, its original if it is a duplicate, else what the real tensors gave.

    `original` and `merge` are None where the probes failed; one of them is set where they did not.
    """

    candidate: Candidate
    probe: ExecutionResult
    behaviour: str | None = None
    original: ProgramId | None = None
    merge: ExecutionResult | None = None


class Known:
    """Programs seen so far, by syntax and by behaviour; it answers whether a candidate is a duplicate.

    It is filled in the order of candidates, so a resumed run finds the same duplicates as an unbroken one.
    """

    def __init__(self, earlier: Iterable[Candidate] = ()) -> None:
        self._ids: set[ProgramId] = set()
        self._behaviours: dict[str, ProgramId] = {}
        for candidate in earlier:
            if candidate.assessment.outcome is not Outcome.PENDING:
                self.add(candidate.program.id, candidate.assessment.behaviour)

    def add(self, program: ProgramId, behaviour: str | None) -> None:
        """Remember a program; the first of a behaviour is its original."""
        self._ids.add(program)
        if behaviour is not None:
            self._behaviours.setdefault(behaviour, program)

    def original(self, program: ProgramId, behaviour: str | None) -> ProgramId | None:
        """The id of an earlier program that is the same or behaves the same, or None."""
        if program in self._ids:
            return program
        return self._behaviours.get(behaviour) if behaviour is not None else None


def assess_all(
    bench: Bench, candidates: Iterator[Candidate], known: Known, earlier: Sequence[Candidate] = ()
) -> Iterator[tuple[Candidate, Assessment]]:
    """Assess candidates in their order, the sandbox one candidate ahead of the scorer.

    One thread runs the sandbox and decides on duplicates, in order: the result does not depend on the overlap.

    Args:
        candidates: of one iteration, those that are still pending; may come as slowly as they are written.
        known: everything before them.
        earlier: all that were assessed before, in order: they are part of the race.
    """
    with closing(ahead((_run(bench, candidate, known) for candidate in candidates), by=1, name="sandbox")) as runs:
        ran = _waiting(runs, bench)
        if bench.config.benchmark.racing == "halving":
            yield from _by_halves(bench, ran)
        else:
            yield from _one_by_one(bench, ran, earlier)


def _waiting(runs: Iterator[Ran], bench: Bench) -> Iterator[Ran]:
    """The same, and the time that the evaluator waits for them."""
    while True:
        with bench.stages.watch("idle", 1):
            ran = next(runs, None)
        if ran is None:
            return
        yield ran


def _one_by_one(
    bench: Bench, runs: Iterator[Ran], earlier: Sequence[Candidate]
) -> Iterator[tuple[Candidate, Assessment]]:
    races = Races(bench.dev, bench.config, earlier) if bench.config.benchmark.racing == "sequential" else None
    for ran in runs:
        assessment = _fate(ran)
        if assessment is None:
            assert ran.merge is not None
            is_beaten = races.of(ran.candidate.iteration) if races else None
            assessment = _scored(ran.merge, ran.behaviour, bench.score_merge(ran.merge, is_beaten=is_beaten))
        if races:
            races.enter(ran.candidate, assessment)
        yield ran.candidate, assessment


class Races:
    """Two races at once: for the places of the final, among all programs of the run, and for those that the generator learns from, within an iteration.

    A program is asked further as long as it can reach a place in one of them.
    """

    def __init__(self, suite: Suite, config: CampaignConfig, earlier: Sequence[Candidate]) -> None:
        """Enter those that were assessed before, in order."""
        self._suite, self._error = suite, config.benchmark.race_error
        chosen = math.ceil(config.learn.chosen * config.campaign.programs)
        self._learnt_from = max(config.learn.chosen_floor, chosen, config.learn.elite)
        self._run = Race(suite, RaceRules(config.campaign.finalists, self._error))
        self._iterations: dict[int, Race] = {}
        for candidate in earlier:
            self.enter(candidate, candidate.assessment)

    def enter(self, candidate: Candidate, assessment: Assessment) -> None:
        """What became of a candidate; it counts if it was asked everything."""
        if assessment.score is not None and assessment.score.complete:
            self._run.enter(assessment.score.bits)
            self._within(candidate.iteration).enter(assessment.score.bits)

    def of(self, iteration: int) -> Callable[[ItemBits], bool]:
        """Whether a program of `iteration` with these bits is beaten in both."""
        within = self._within(iteration)
        return lambda bits: self._run.is_beaten(bits) and within.is_beaten(bits)

    def _within(self, iteration: int) -> Race:
        rules = RaceRules(self._learnt_from, self._error)
        return self._iterations.setdefault(iteration, Race(self._suite, rules))


def _by_halves(bench: Bench, runs: Iterator[Ran]) -> Iterator[tuple[Candidate, Assessment]]:
    """Successive halving over one iteration: nobody's fate is known before the last rung, so all are told at the end, in order.

    A survivor is merged again for each rung, since a hundred merged models are too many to keep. What a broken-off run was answered already is in the archive.
    """
    rungs = halving_rungs(len(bench.dev.blocks), bench.config.benchmark.halving_eta)
    fates: dict[int, tuple[Candidate, Assessment]] = {}
    alive: list[Candidate] = []
    for ran in runs:
        assessment = _fate(ran)
        if assessment is None:
            assert ran.merge is not None
            scored = bench.score_merge(ran.merge, blocks=rungs[0])
            assessment = _scored(ran.merge, ran.behaviour, scored)
            alive.append(ran.candidate)
        fates[ran.candidate.number] = (ran.candidate, assessment)
    for blocks in rungs[1:]:
        scores = [fates[one.number][1].score for one in alive]
        going_on = survivors(
            [score.value for score in scores if score], _places(bench.config), bench.config.benchmark.halving_eta
        )
        alive = [alive[place] for place in going_on]
        merges = ((one, _patiently(bench.merge, one.program.source)) for one in alive)
        with closing(ahead(merges, by=1, name="sandbox")) as merged:
            for candidate, merge in merged:
                before = fates[candidate.number][1]
                if merge.outputs is None or merge.sha256 != before.sha256:
                    raise HostError(
                        f"program {candidate.program.id}: expected the merge that it made before, got {merge.reason or 'another one'}; resume to try again"
                    )
                scored = bench.score_merge(merge, blocks=blocks)
                seconds = before.score_seconds + scored.seconds
                fates[candidate.number] = (
                    candidate,
                    replace(before, score=scored.score, score_seconds=seconds),
                )
    yield from (fates[number] for number in sorted(fates))


def _places(config: CampaignConfig) -> int:
    """How many of an iteration are asked everything at least: those that may come into the final, or be learnt from."""
    chosen = math.ceil(config.learn.chosen * config.campaign.programs)
    return max(config.campaign.finalists, config.learn.chosen_floor, chosen, config.learn.elite)


def _run(bench: Bench, candidate: Candidate, known: Known) -> Ran:
    """Everything that happens in the sandbox: probe, look for an earlier program that does the same, merge."""
    source, program = candidate.program.source, candidate.program.id
    probe = _patiently(bench.probe, source)
    if not probe.ok:
        known.add(program, None)
        return Ran(candidate, probe)
    assert probe.outputs is not None
    behaviour = behaviour_hash(probe.outputs)
    original = known.original(program, behaviour)
    known.add(program, behaviour)
    if original is not None:
        return Ran(candidate, probe, behaviour, original=original)
    return Ran(candidate, probe, behaviour, merge=_patiently(bench.merge, source))


def _patiently(execute: Callable[[str], ExecutionResult], source: str) -> ExecutionResult:
    result = execute(source)
    return execute(source) if result.reason in RETRIED else result


def _fate(ran: Ran) -> Assessment | None:
    """What became of a candidate in the sandbox; None where it made a merge, and a score will tell."""
    if ran.original is not None:
        return _assessment(Outcome.DUPLICATE, ran.probe, ran.behaviour, duplicate_of=ran.original)
    if ran.merge is None:
        return _fault(ran.probe, ran.behaviour)
    if ran.merge.outputs is None:
        return _fault(ran.merge, ran.behaviour)
    return None


def _scored(merge: ExecutionResult, behaviour: str | None, scored: Scored) -> Assessment:
    more = {"score": scored.score, "score_seconds": scored.seconds, "sha256": merge.sha256}
    return _assessment(Outcome.OK, merge, behaviour, **more)


def _fault(result: ExecutionResult, behaviour: str | None) -> Assessment:
    assert result.reason is not None
    outcome = Outcome.REJECTED if result.reason in STATIC_REASONS else Outcome.FAILED
    return _assessment(outcome, result, behaviour)


def _assessment(outcome: Outcome, result: ExecutionResult, behaviour: str | None, **more: object) -> Assessment:
    return Assessment(
        outcome=outcome,
        reason=result.reason.value if result.reason else None,
        detail=result.detail,
        line=result.line,
        rule=result.rule,
        behaviour=behaviour,
        execute_seconds=result.seconds,
        peak_memory_bytes=result.peak_memory_bytes,
        isolation=result.isolation.level,
        **more,  # type: ignore[arg-type]
    )
