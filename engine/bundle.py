"""The bundle: programs of an archive in one JSON file, with what was measured of them and where they come from.

    {"format": "mergewright-bundle", "version": 1, "licence": "Apache-2.0", "made_with": {"mergewright": "0.1.0", …}, "programs": [ENTRY, …]}

The models below are the format. A bundle comes from anywhere: keys that they do not know are refused, and so are numbers that are not finite and texts and lists
beyond the bounds. All shares are 0..1. Nothing in a bundle is believed for its form alone: `bundle_claims.py` holds its claims against each other, `importing.py` against what
is measured here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from engine.descriptors import NUMBERS
from merges.contract import MAX_PARSED_BYTES
from merges.probes import MAX_EXPERTS, MIN_EXPERTS

FORMAT: Literal["mergewright-bundle"] = "mergewright-bundle"
VERSION: Literal[1] = 1

MAX_PROGRAMS = 1000
MAX_PROBLEMS = 100_000
MAX_EXPLANATION = 10_000
"""Characters."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Difference = Annotated[float, Field(ge=-1.0, le=1.0)]
Interval = Annotated[tuple[float, float], Field(strict=False)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Word = Annotated[str, Field(min_length=1, max_length=200)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
Bits = Annotated[str, Field(min_length=1, max_length=MAX_PROBLEMS, pattern=r"^[01-]+$")]
Licence = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+() -]{0,99}$")]
"""An SPDX expression, as "Apache-2.0"."""
Title = Annotated[str, Field(min_length=1, max_length=200)]
Explanation = Annotated[str, Field(min_length=1, max_length=MAX_EXPLANATION)]
Words = Annotated[dict[Word, Word], Field(max_length=64)]
Numbers = Annotated[dict[Word, float | int], Field(max_length=1000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Behaviour(_Strict):
    """The hash of what a program does with the probe tensors of so many experts (`merges/probes.py`)."""

    hash: str = Field(pattern=r"^[0-9a-f]{16}$")
    experts: int = Field(ge=MIN_EXPERTS, le=MAX_EXPERTS)


class Described(_Strict):
    """What a program does, as `engine.descriptors` says it; without the sketch, which nobody reads. An import takes its own."""

    numbers: dict[str, float]
    weights: Annotated[tuple[float, ...], Field(strict=False, max_length=MAX_EXPERTS)]
    operations: Annotated[tuple[Word, ...], Field(strict=False, max_length=1000)]

    @field_validator("numbers")
    @classmethod
    def _known(cls, numbers: dict[str, float]) -> dict[str, float]:
        if set(numbers) != set(NUMBERS):
            raise ValueError(f"the descriptors {', '.join(NUMBERS)}")
        return numbers


class DevScore(_Strict):
    """A score on dev problems, as `benchmarks.scores.Score`: bits by the reading that ranks, and by each of the two."""

    share: Share
    interval: Interval
    strict: Share
    lenient: Share
    n: Count
    of: Count
    effective_n: float = Field(gt=0.0, le=MAX_PROBLEMS)
    families: Annotated[dict[Word, Share], Field(max_length=1000)]
    bits: Bits
    strict_bits: Bits
    lenient_bits: Bits
    scorer: Word


class HeldOut(_Strict):
    """A score on held-out problems: the share, its 95 % interval, and a bit for each problem."""

    share: Share
    interval: Interval
    effective_n: float = Field(gt=0.0, le=MAX_PROBLEMS)
    bits: Bits


class Against(_Strict):
    """The human-made merge that was first on dev, on the same problems; program less merge, 95 % interval (bootstrap), p (exact McNemar)."""

    name: Word
    parameters: Numbers
    human: HeldOut
    difference: Difference
    interval: Interval
    p: Share


class Test(_Strict):
    """What a finalist got in its campaign's final, `rank` on dev. `simultaneous`: intervals and p hold together with those of the other finalists."""

    rank: Count
    score: HeldOut
    simultaneous: bool
    against: Against | None = None


class Human(_Strict):
    """A human-made merge, tuned on dev problems; its shares there and on held-out ones."""

    name: Word
    parameters: Numbers
    dev: Share
    share: Share
    interval: Interval


class Transfer(_Strict):
    """The program as it is on other experts, beside human-made merges that were tuned there (`engine/transfer.py`). `fault`: it failed there."""

    base: Hash
    experts: Annotated[dict[Word, Hash], Field(min_length=2, max_length=MAX_EXPERTS)]
    splits: Annotated[tuple[Word, ...], Field(strict=False, min_length=1, max_length=64)]
    problems: Hash
    score: HeldOut | None = None
    fault: str | None = Field(default=None, max_length=2000)
    humans: Annotated[tuple[Human, ...], Field(strict=False, max_length=64)]
    evaluations: Count
    against: Against | None = None


class Found(_Strict):
    """Where a program was found: see `engine.records.Program` and `Candidate`."""

    campaign: Word
    seed: Seed
    iteration: Count
    number: Count
    generator: Word
    origin: Word
    task: Word
    parents: Annotated[tuple[Id, ...], Field(strict=False, max_length=64)] = ()


class Inputs(_Strict):
    """What the scores were taken on, by hash, as in a run's manifest.json."""

    base: Hash
    experts: Annotated[dict[Word, Hash], Field(min_length=2, max_length=MAX_EXPERTS)]
    dev: Hash
    test: Hash
    evaluator: Word
    scorer: Word


class Measured(_Strict):
    """The campaign whose models and problems gave the dev and test scores: that which found the program, or that of an import.

    Attributes:
        base, experts: models by hub id or `pocket/` name; of a folder the last part of its name alone.
        merge: which parameters were merged.
        conditions: hash of how problems were asked: prompts, blocks, numeric types.
        inputs, versions: None where the run has no manifest.
    """

    campaign: Word
    seed: Seed
    base: Word
    experts: Annotated[tuple[Word, ...], Field(strict=False, min_length=2, max_length=MAX_EXPERTS)]
    merge: Annotated[str, Field(min_length=1, max_length=1000)]
    conditions: Hash
    inputs: Inputs | None = None
    versions: Words | None = None


class Entry(_Strict):
    """One program. What is None was not measured or is not known: a program from a file has neither scores nor an origin."""

    id: Id
    source: str = Field(min_length=1, max_length=MAX_PARSED_BYTES)
    behaviour: Behaviour
    parameters: Numbers
    descriptors: Described | None = None
    dev: DevScore | None = None
    test: Test | None = None
    transfer: Annotated[tuple[Transfer, ...], Field(strict=False, max_length=16)] = ()
    found: Found | None = None
    measured: Measured | None = None
    licence: Licence
    title: Title | None = None
    explanation: Explanation | None = None


class Bundle(_Strict):
    """The whole file."""

    format: Literal["mergewright-bundle"]
    version: Literal[1]
    licence: Licence
    made_with: Words
    programs: Annotated[tuple[Entry, ...], Field(strict=False, min_length=1, max_length=MAX_PROGRAMS)]

    @field_validator("programs")
    @classmethod
    def _once(cls, programs: tuple[Entry, ...]) -> tuple[Entry, ...]:
        if len({one.id for one in programs}) < len(programs):
            raise ValueError("each program once")
        return programs

    def to_json(self) -> str:
        """The file's text: ASCII, so that no terminal or editor shows it otherwise than it is."""
        return to_text(self)


def to_text(model: BaseModel) -> str:
    """A part of a bundle as JSON, what is None left out."""
    import json

    return json.dumps(model.model_dump(mode="json", exclude_none=True), indent=1) + "\n"
