"""The wires between the stages of a campaign: frozen records, no behaviour.

`Program` is what a generator proposed; `Candidate` is that program with everything that happened to it, one row of the archive.
Scores are fractions 0..1; seconds are wall clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.scores import Score
from engine.descriptors import Descriptors

ProgramId = str
"""12 hex digits of the canonical syntax tree (`merges.contract.program_id`)."""


UNTRAINED = "0"
"""Version of the generator as the campaign names it; the others are the numbers of the iterations that they learnt from."""


LARGEST_NUMBER = 2**31 - 1
"""Of a candidate, and of an iteration: what their columns hold in every database."""


IMPORTED = "imported"
"""Origin of a program that came in a bundle; its `text` is the entry as it came."""


class Outcome(StrEnum):
    """What became of a candidate. `REJECTED` and `FAILED` carry a reason of `sandbox.Reason`; none of them but OK has a score.

    `SKIPPED` works and is new, but others of its batch were expected to be better (`engine/triage.py`; `detail` says by whom): nobody merged or scored it.
    """

    PENDING = "pending"
    OK = "ok"
    REJECTED = "rejected"
    FAILED = "failed"
    DUPLICATE = "duplicate"
    SKIPPED = "skipped"


WORKS = frozenset({Outcome.OK, Outcome.DUPLICATE, Outcome.SKIPPED})
"""Outcomes of programs that passed the gate and gave sound results: valid ones."""


@dataclass(frozen=True)
class Sampling:
    """How a program was drawn.

    Attributes:
        temperature, top_p, top_k: of the language model; top_k 0: every token.
        seed: of this draw.
        batch, row: which batch of its iteration, and which place in it.
    """

    temperature: float
    top_p: float
    seed: int
    batch: int
    row: int
    top_k: int = 0


@dataclass(frozen=True)
class Program:
    """One proposed program.

    Attributes:
        source: Python text under the merge contract, as extracted from `text`.
        id: of its canonical syntax tree.
        origin: "generator", "grammar", "scripted", "coefficients", "endpoint", or IMPORTED.
        generator: version of the generator that wrote it ("0" untrained, "1" after the first update, …).
        prompt: what the generator was shown.
        text: what it wrote, whole.
        sampling: how it was drawn.
        parents: ids of programs shown in the prompt, if any.
        task: what was asked for, as in TaskKind.
        judged: what the generator itself expected of it, 0..5, the mean of several judgements; None where it was not asked.
    """

    source: str
    id: ProgramId
    origin: str
    generator: str
    prompt: str
    text: str
    sampling: Sampling
    parents: tuple[ProgramId, ...] = ()
    task: str = "one_shot"
    judged: float | None = None


@dataclass(frozen=True)
class Assessment:
    """What validation, sandbox and scoring found out about one candidate.

    Attributes:
        outcome: see Outcome.
        reason: value of `sandbox.Reason` where rejected or failed, else None.
        detail, line, rule: the reason's own words, the program's line, the rule of the language gate.
        duplicate_of: id of the earlier program that behaves the same.
        behaviour: hash of the outputs on probe tensors.
        sha256: of the merged task vectors.
        score: None unless the outcome is OK. Not complete where the candidate was stopped in a race.
        execute_seconds, score_seconds, peak_memory_bytes, isolation: costs, and under what isolation it ran.
        descriptors: what it does; of programs that work on the probes and are new.
    """

    outcome: Outcome
    reason: str | None = None
    detail: str | None = None
    line: int | None = None
    rule: str | None = None
    duplicate_of: ProgramId | None = None
    behaviour: str | None = None
    sha256: str | None = None
    score: Score | None = None
    execute_seconds: float = 0.0
    score_seconds: float = 0.0
    peak_memory_bytes: int = 0
    isolation: str | None = None
    descriptors: Descriptors | None = None

    @property
    def is_new(self) -> bool:
        """It passed the probes, and nothing before it behaves the same, whatever the real tensors and a triage made of it then."""
        return self.behaviour is not None and self.duplicate_of is None


@dataclass(frozen=True)
class Candidate:
    """One row of the archive.

    Attributes:
        number: 1-based, in the order of proposal, unique in the run.
        iteration: 1-based.
        program: what was proposed.
        assessment: what became of it (outcome PENDING until it was assessed).
    """

    number: int
    iteration: int
    program: Program
    assessment: Assessment

    @property
    def score(self) -> float | None:
        """Dev score 0..1, or None where there is none; of a candidate that was stopped in a race, of the problems asked."""
        return self.assessment.score.value if self.assessment.score else None

    @property
    def complete(self) -> bool:
        """Whether it has a score on all dev problems: only such scores may be the best."""
        return self.assessment.score is not None and self.assessment.score.complete


@dataclass(frozen=True)
class Effect:
    """What a program makes of one tensor; `effect.py` takes it.

    Attributes:
        tensor: parameter name.
        weights: expert → its weight in the weighted sum nearest to the merged vector (least squares; of several the smallest); any number.
        rest: share of the merged vector's squared norm that this sum leaves, 0..1; 0 where the merged vector is 0.
        size: norm of the merged vector over the mean norm of the experts' vectors, 0 or more; 0 where these are all 0.
        density: share of the merged vector's entries that are not 0, 0..1.
    """

    tensor: str
    weights: Mapping[str, float]
    rest: float
    size: float
    density: float


class TaskKind(StrEnum):
    """What a generator is asked for; how many programs it is shown follows from it."""

    ONE_SHOT = "one_shot"
    VARIANT = "variant"
    CROSSOVER = "crossover"
    REPAIR = "repair"


@dataclass(frozen=True)
class Task:
    """One request for one program.

    Attributes:
        kind: see TaskKind.
        shown: the candidates whose programs are in the prompt, with their scores or reasons: none, one, two, one.
        hint: an idea to follow, in a few words, or None.
    """

    kind: TaskKind = TaskKind.ONE_SHOT
    shown: tuple[Candidate, ...] = ()
    hint: str | None = None


@dataclass(frozen=True)
class Trial:
    """One scored merge that is not a candidate: the seed, an expert, or a human-made merge with certain hyper-parameters.

    Attributes:
        name: "seed", "expert:NAME", or a library name.
        kind: "seed", "expert" or "human".
        parameters: hyper-parameters, empty for models.
        score: on dev.
    """

    name: str
    kind: str
    parameters: Mapping[str, float]
    score: Score


@dataclass(frozen=True)
class Final:
    """One row of the final on test problems.

    Attributes:
        name: as in Trial, or a program's id.
        kind: "seed", "expert", "human" or "discovered".
        rank: 1-based on dev within its kind.
        dev: dev share 0..1.
        parameters: hyper-parameters used.
        score: on test.
    """

    name: str
    kind: str
    rank: int
    dev: float
    parameters: Mapping[str, float]
    score: Score
