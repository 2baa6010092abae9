"""From a proposed program to a scored one: validate, probe, refuse duplicates, merge, score.

The order is that of cost. A program that the gate refuses costs microseconds, one that behaves like an earlier one a few
milliseconds on probe tensors; only a new, working program is paid a merge and a score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from engine.bench import Bench
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


def assess_all(bench: Bench, candidates: Iterable[Candidate], known: Known) -> Iterator[tuple[Candidate, Assessment]]:
    """Assess candidates in their order, the sandbox one candidate ahead of the scorer.

    One thread runs the sandbox and decides on duplicates, in order: the result does not depend on the overlap.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox") as ahead:
        waiting = iter(candidates)
        first = next(waiting, None)
        running = ahead.submit(_run, bench, first, known) if first else None
        while running is not None:
            ran = running.result()
            following = next(waiting, None)
            running = ahead.submit(_run, bench, following, known) if following else None
            try:
                assessment = _judge(bench, ran)
            except BaseException:
                if running is not None:
                    running.cancel()
                raise
            yield ran.candidate, assessment


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


def _judge(bench: Bench, ran: Ran) -> Assessment:
    """Outcome and, for a new working program, score."""
    if ran.original is not None:
        return _assessment(Outcome.DUPLICATE, ran.probe, ran.behaviour, duplicate_of=ran.original)
    if ran.merge is None:
        return _fault(ran.probe, ran.behaviour)
    if ran.merge.outputs is None:
        return _fault(ran.merge, ran.behaviour)
    scored = bench.score_vectors(ran.merge.outputs)
    more = {"score": scored.score, "score_seconds": scored.seconds, "sha256": ran.merge.sha256}
    return _assessment(Outcome.OK, ran.merge, ran.behaviour, **more)


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
