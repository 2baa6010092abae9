"""From a proposed program to a scored one: validate, probe, refuse duplicates, merge, score.

The order is that of cost. A program that the gate refuses costs microseconds, one that behaves like an earlier one a few
milliseconds on probe tensors; only a new, working program is paid a merge and a score.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from benchmarks.racing import Races, halving_rungs, survivors
from engine.bench import Bench, Prober, Scored
from engine.config import CampaignConfig
from engine.descriptors import Descriptors
from engine.errors import HostError
from engine.known import Known, batch_of
from engine.pipeline import ahead
from engine.records import Assessment, Candidate, Outcome, ProgramId
from engine.triage import Triage
from merges.probes import behaviour_hash
from sandbox import ExecutionResult, Reason

STATIC_REASONS = frozenset({Reason.POLICY, Reason.SYNTAX, Reason.SOURCE_SIZE})
"""Reasons that the gate gives before anything runs: the candidate is REJECTED, not FAILED."""


@dataclass(frozen=True)
class Ran:
    """A candidate after the sandbox: what the probes gave, its original if it is a duplicate, else what the real tensors gave.

    `original` and `merge` are None where the probes failed; where they did not one of them is set, or neither if the triage left it out.
    `fault`: of the original, if it behaves the same and failed on the real tensors. `distance`: from an original that it is only near to. `left_out`: why the triage did.
    """

    candidate: Candidate
    probe: ExecutionResult
    behaviour: str | None = None
    descriptors: Descriptors | None = None
    original: ProgramId | None = None
    merge: ExecutionResult | None = None
    fault: Assessment | None = None
    distance: float | None = None
    left_out: str | None = None

    @property
    def works(self) -> bool:
        """It passed the probes, and nothing before it behaves the same."""
        return self.probe.ok and self.original is None


def assess_all(
    bench: Bench,
    candidates: Iterator[Candidate],
    known: Known,
    earlier: Sequence[Candidate] = (),
    check: Callable[[], None] = lambda: None,
    *,
    raced: bool = True,
) -> Generator[tuple[Candidate, Assessment], None, None]:
    """Assess candidates in their order, the sandbox one candidate ahead of the scorer.

    One thread runs the sandbox and decides on duplicates, in order: the result does not depend on the overlap.

    Args:
        candidates: of one iteration; may come as slowly as they are written.
        known: everything before them.
        check: a safe point, where the run may be stopped while no fate is told yet.
        earlier: all that were assessed before, in order: they are part of the race.
        raced: False: every program is asked everything, in the blocks of the race.
    """
    with closing(ahead(_runs(bench, candidates, known, earlier), by=1, name="sandbox")) as runs:
        ran, racing = bench.stages.waiting(runs), bench.config.benchmark.racing if raced else "none"
        if racing == "halving":
            yield from _by_halves(bench, ran, check)
        else:
            yield from _one_by_one(bench, ran, _races(bench, earlier) if racing == "sequential" else None)


def probe_all(
    prober: Prober, candidates: Iterable[Candidate], known: Known
) -> Generator[tuple[Candidate, Assessment], None, None]:
    """Assess candidates as `assess_all` does, up to the probes: what works and is new is SKIPPED, neither merged nor scored."""
    for candidate in candidates:
        known.begin(batch_of(candidate))
        ran = _probed(prober, candidate, known)
        assessment = _fate(ran)
        assert assessment is not None
        yield ran.candidate, assessment


def _one_by_one(bench: Bench, runs: Iterator[Ran], races: Races | None) -> Iterator[tuple[Candidate, Assessment]]:
    for ran in runs:
        assessment, iteration = _fate(ran), ran.candidate.iteration
        if assessment is None:
            assert ran.merge is not None
            is_beaten = partial(races.is_beaten, iteration) if races else None
            assessment = _scored(ran.merge, ran, bench.score_merge(ran.merge, is_beaten=is_beaten))
        if races:
            _enter(races, iteration, assessment)
        yield ran.candidate, assessment


def _races(bench: Bench, earlier: Sequence[Candidate]) -> Races:
    """The campaign's races, with those entered that were assessed before, in order."""
    config = bench.config
    races = Races(
        bench.dev,
        finalists=config.campaign.finalists,
        learnt_from=_learnt_from(config),
        error=config.benchmark.race_error,
    )
    for candidate in earlier:
        _enter(races, candidate.iteration, candidate.assessment)
    return races


def _enter(races: Races, iteration: int, assessment: Assessment) -> None:
    if assessment.score is not None and assessment.score.complete:
        races.enter(iteration, assessment.score.bits)


def _learnt_from(config: CampaignConfig) -> int:
    """Programs of an iteration that the generator may learn from as good ones; 0 where it does not learn."""
    return config.learn.taught(config.campaign.programs) if config.learns else 0


def _by_halves(bench: Bench, runs: Iterator[Ran], check: Callable[[], None]) -> Iterator[tuple[Candidate, Assessment]]:
    """Successive halving over one iteration: nobody's fate is known before the last rung, so all are told at the end, in order.

    A survivor is merged again for each rung, since a hundred merged models are too many to keep.
    """
    section, keep = bench.config.benchmark, max(bench.config.campaign.finalists, _learnt_from(bench.config))
    rungs = halving_rungs(len(bench.dev.blocks), section.halving_eta)
    fates: dict[int, tuple[Candidate, Assessment]] = {}
    alive: list[Candidate] = []
    for ran in runs:
        check()
        assessment = _fate(ran)
        if assessment is None:
            assert ran.merge is not None
            assessment = _scored(ran.merge, ran, bench.score_merge(ran.merge, blocks=rungs[0]))
            alive.append(ran.candidate)
        fates[ran.candidate.number] = (ran.candidate, assessment)
    for blocks in rungs[1:]:
        values = [score.value for one in alive if (score := fates[one.number][1].score)]
        alive = [alive[place] for place in survivors(values, keep, section.halving_eta)]
        merges = ((one, bench.merge(one.program.source)) for one in alive)
        with closing(ahead(merges, by=1, name="sandbox")) as merged:
            for candidate, merge in merged:
                check()
                before = fates[candidate.number][1]
                fates[candidate.number] = (candidate, _further(bench, candidate, before, merge, blocks))
    yield from (fates[number] for number in sorted(fates))


def _further(bench: Bench, candidate: Candidate, before: Assessment, merge: ExecutionResult, blocks: int) -> Assessment:
    """The assessment of a survivor after its next rung."""
    if merge.outputs is None or merge.sha256 != before.sha256:
        raise HostError(
            f"program {candidate.program.id}: expected the merge that it made before, got {merge.reason or 'another one'}; resume to try again"
        )
    scored = bench.score_merge(merge, blocks=blocks)
    return replace(before, score=scored.score, score_seconds=before.score_seconds + scored.seconds)


def _runs(bench: Bench, candidates: Iterator[Candidate], known: Known, earlier: Sequence[Candidate]) -> Iterator[Ran]:
    """Every candidate after the sandbox, in order; with a triage whole batches are probed before the first of them is merged."""
    triage = Triage(bench.config, earlier)
    for first in candidates:
        whole = triage.share(first) < 1.0
        known.begin(batch_of(first), whole=whole)
        probed, left_out = [_probed(bench, first, known)], {}
        if whole:
            probed += [_probed(bench, c, known) for c in islice(candidates, triage.left_in_batch(first))]
            left_out = triage.left_out([(ran.candidate, ran.descriptors) for ran in probed if ran.works])
        for ran in probed:
            yield _merged(bench, replace(ran, left_out=left_out.get(ran.candidate.number)), known)


def _merged(bench: Bench, ran: Ran, known: Known) -> Ran:
    """What the real tensors give, of a program that is new and not left out; of one that behaves as an earlier one does, whether that failed on them."""
    program = ran.candidate.program
    if ran.original is not None:
        return ran if ran.distance is not None else replace(ran, fault=known.fault(ran.original))
    if not ran.works:
        return ran
    if ran.left_out is not None:
        known.pass_over(program.id)
        return ran
    merge = bench.merge(program.source)
    if merge.outputs is None:
        known.blame(program.id, _fault(merge, ran))
    return replace(ran, merge=merge)


def _probed(bench: Prober, candidate: Candidate, known: Known) -> Ran:
    """What is cheap in the sandbox: the probes, and the look for an earlier program that does the same."""
    program = candidate.program
    probe = bench.probe(program.source)
    if not probe.ok:
        known.add(program.id, None)
        return Ran(candidate, probe)
    assert probe.outputs is not None
    behaviour = behaviour_hash(probe.outputs)
    original = known.original(program.id, behaviour)
    if original is not None:
        known.add(program.id, behaviour, original)
        return Ran(candidate, probe, behaviour, None, original)
    descriptors = bench.describe(program.source, probe)
    near = known.near(descriptors.sketch)
    if near:
        return Ran(candidate, probe, behaviour, None, near[0], distance=near[1])
    known.add(program.id, behaviour)
    known.sketched(program.id, descriptors.sketch)
    return Ran(candidate, probe, behaviour, descriptors)


def _fate(ran: Ran) -> Assessment | None:
    """What became of a candidate in the sandbox; None where it made a merge, and a score will tell."""
    if ran.fault is not None:
        detail = f"as {ran.original}, which behaves the same: {ran.fault.detail}"
        return replace(
            ran.fault,
            detail=detail,
            line=None,
            duplicate_of=ran.original,
            execute_seconds=ran.probe.seconds,
            descriptors=None,
        )
    if ran.original is not None:
        fate = _assessment(Outcome.DUPLICATE, ran.probe, ran, duplicate_of=ran.original)
        return fate if ran.distance is None else replace(fate, detail=f"nearly the same: distance {ran.distance:.4f}")
    if not ran.probe.ok:
        return _fault(ran.probe, ran)
    if ran.merge is None:
        return replace(_assessment(Outcome.SKIPPED, ran.probe, ran), detail=ran.left_out)
    if ran.merge.outputs is None:
        return _fault(ran.merge, ran)
    return None


def _scored(merge: ExecutionResult, ran: Ran, scored: Scored) -> Assessment:
    more = {"score": scored.score, "score_seconds": scored.seconds, "sha256": merge.sha256}
    return _assessment(Outcome.OK, merge, ran, **more)


def _fault(result: ExecutionResult, ran: Ran) -> Assessment:
    assert result.reason is not None
    outcome = Outcome.REJECTED if result.reason in STATIC_REASONS else Outcome.FAILED
    return _assessment(outcome, result, ran)


def _assessment(outcome: Outcome, result: ExecutionResult, ran: Ran, **more: object) -> Assessment:
    return Assessment(
        outcome=outcome,
        reason=result.reason.value if result.reason else None,
        detail=result.detail,
        line=result.line,
        rule=result.rule,
        behaviour=ran.behaviour,
        descriptors=ran.descriptors,
        execute_seconds=result.seconds,
        peak_memory_bytes=result.peak_memory_bytes,
        isolation=result.isolation.level,
        **more,  # type: ignore[arg-type]
    )
