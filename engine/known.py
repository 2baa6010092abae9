"""What a campaign has seen: whether a program is the same as an earlier one, by its syntax or by what it does."""

from __future__ import annotations

from collections.abc import Iterable

from engine.records import Assessment, Candidate, Outcome, ProgramId

Batch = tuple[int, int]


def batch_of(candidate: Candidate) -> Batch:
    """(iteration, batch) in which it was written."""
    return candidate.iteration, candidate.program.sampling.batch


class Known:
    """Programs seen so far. It is filled in the order of candidates, so a resumed run finds the same duplicates as an unbroken one.

    What a triage passed over counts within its batch alone: it was never scored, and a later program that does the same, judged better, may be.

    Args:
        earlier: all that were assessed before, in order.
    """

    def __init__(self, earlier: Iterable[Candidate] = ()) -> None:
        self._originals: dict[ProgramId, ProgramId] = {}
        self._behaviours: dict[str, ProgramId] = {}
        self._faults: dict[ProgramId, Assessment] = {}
        self._passed_over: list[ProgramId] = []
        self._batch: Batch | None = None
        for candidate in earlier:
            if candidate.assessment.outcome is not Outcome.PENDING:
                self.begin(batch_of(candidate))
                self._recall(candidate.program.id, candidate.assessment)

    def _recall(self, program: ProgramId, assessment: Assessment) -> None:
        self.add(program, assessment.behaviour, assessment.duplicate_of)
        if assessment.outcome is Outcome.SKIPPED:
            self.pass_over(program)
        if assessment.outcome is Outcome.FAILED and assessment.duplicate_of is None:
            self.blame(program, assessment)

    def begin(self, batch: Batch) -> None:
        """From here on come programs of this batch."""
        if batch != self._batch:
            for program in self._passed_over:
                self._forget(program)
            self._passed_over, self._batch = [], batch

    def add(self, program: ProgramId, behaviour: str | None, original: ProgramId | None = None) -> None:
        """Remember a program; the first of a behaviour is the original of the others."""
        self._originals.setdefault(program, original or program)
        if behaviour is not None and original is None:
            self._behaviours.setdefault(behaviour, program)

    def original(self, program: ProgramId, behaviour: str | None) -> ProgramId | None:
        """The earlier program that is the same or behaves the same, itself no duplicate; None where there is none."""
        if program in self._originals:
            return self._originals[program]
        return self._behaviours.get(behaviour) if behaviour is not None else None

    def blame(self, program: ProgramId, fault: Assessment) -> None:
        """A program that passed the probes has failed on the real tensors: so would those that behave the same."""
        self._faults[program] = fault

    def fault(self, original: ProgramId) -> Assessment | None:
        """How an original failed on the real tensors; None where it did not."""
        return self._faults.get(original)

    def pass_over(self, program: ProgramId) -> None:
        """The triage of this batch leaves a program out."""
        self._passed_over.append(program)

    def _forget(self, original: ProgramId) -> None:
        self._originals = {one: its for one, its in self._originals.items() if its != original}
        self._behaviours = {behaviour: one for behaviour, one in self._behaviours.items() if one != original}
