"""What a campaign has seen: whether a program is the same as an earlier one, by its syntax or by what it does, or nearly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from engine.descriptors import distances
from engine.records import Assessment, Candidate, Outcome, ProgramId

Batch = tuple[int, int]


def batch_of(candidate: Candidate) -> Batch:
    """(iteration, batch) in which it was written."""
    return candidate.iteration, candidate.program.sampling.batch


class Known:
    """Programs seen so far. It is filled in the order of candidates, so a resumed run finds the same duplicates as an unbroken one.

    What a triage passed over counts within its batch alone: it was never scored, and a later program that does the same, judged better, may be.
    A program that is only near to an earlier one is not remembered: its text, written again, is looked at again, since what it was near to may have failed.

    Args:
        earlier: all that were assessed before, in order.
        novelty: a program nearer than this to an earlier one that works is as good as the same; 0: none is.
    """

    def __init__(self, earlier: Iterable[Candidate] = (), novelty: float = 0.0) -> None:
        self._novelty = novelty
        self._sketches: dict[ProgramId, Sequence[float]] = {}
        self._matrix: tuple[list[ProgramId], npt.NDArray[np.float64]] | None = None
        self._originals: dict[ProgramId, ProgramId] = {}
        self._behaviours: dict[str, ProgramId] = {}
        self._faults: dict[ProgramId, Assessment] = {}
        self._passed_over: list[ProgramId] = []
        self._failed: list[ProgramId] = []
        self._batch: Batch | None = None
        for candidate in earlier:
            if candidate.assessment.outcome is not Outcome.PENDING:
                self.begin(batch_of(candidate), whole=True)
                self._recall(candidate.program.id, candidate.assessment)

    def _recall(self, program: ProgramId, assessment: Assessment) -> None:
        original = assessment.duplicate_of
        if original is None or self._behaviours.get(assessment.behaviour or "") == original:  # else it was only near
            self.add(program, assessment.behaviour, original)
        if assessment.descriptors is not None:
            self.sketched(program, assessment.descriptors.sketch)
        if assessment.outcome is Outcome.SKIPPED:
            self.pass_over(program)
        if assessment.outcome is Outcome.FAILED and assessment.is_new:
            self._faults[program] = assessment
            self._failed.append(program)  # near to others until `begin` says how its batch was probed

    def begin(self, batch: Batch, *, whole: bool = False) -> None:
        """From here on come programs of this batch. `whole`: all of it is probed before the first is merged, so what fails in it is near to the others all the same."""
        if batch != self._batch:
            for program in self._passed_over:
                self._forget(program)
            self._passed_over = []
        if batch != self._batch or not whole:
            for program in self._failed:
                self._unsketch(program)
            self._failed = []
        self._batch = batch

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

    def sketched(self, program: ProgramId, sketch: Sequence[float]) -> None:
        """Remember what a new program does, for those that do nearly the same."""
        if self._novelty:
            self._sketches[program], self._matrix = sketch, None

    def near(self, sketch: Sequence[float]) -> tuple[ProgramId, float] | None:
        """The nearest earlier program and its distance, where it is too near; of equally near ones the earliest. None where all are further off."""
        if not self._sketches:
            return None
        if self._matrix is None:
            self._matrix = list(self._sketches), np.array(list(self._sketches.values()))
        programs, matrix = self._matrix
        apart = distances(sketch, matrix)
        nearest = int(apart.argmin())
        return (programs[nearest], float(apart[nearest])) if apart[nearest] < self._novelty else None

    def blame(self, program: ProgramId, fault: Assessment) -> None:
        """A program that passed the probes has failed on the real tensors: so would those that behave the same, not those that do nearly the same."""
        self._faults[program] = fault
        self._unsketch(program)

    def fault(self, original: ProgramId) -> Assessment | None:
        """How an original failed on the real tensors; None where it did not."""
        return self._faults.get(original)

    def pass_over(self, program: ProgramId) -> None:
        """The triage of this batch leaves a program out."""
        self._passed_over.append(program)

    def _forget(self, original: ProgramId) -> None:
        self._originals = {one: its for one, its in self._originals.items() if its != original}
        self._behaviours = {behaviour: one for behaviour, one in self._behaviours.items() if one != original}
        self._unsketch(original)

    def _unsketch(self, program: ProgramId) -> None:
        if self._sketches.pop(program, None) is not None:
            self._matrix = None
