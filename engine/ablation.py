"""What carries a program's score: every one of its variants merged and scored on the dev problems, held against the program itself.

A variant that cannot run says nothing, and is counted; one whose merge is the same to the last bit shows that what was changed does nothing here. Dev problems only: an
ablation is for understanding, and is no claim about problems that nobody has met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.scores import Score
from engine import rundir
from engine.bench import Bench
from engine.comparing import compare_scores
from engine.config import CampaignConfig
from engine.errors import RunError
from engine.hashing import problems_hash
from engine.records import ProgramId
from engine.store import Store
from engine.suites import describe, problems_of, weights_of
from engine.variants import MOST_VARIANTS, Kind, Variant, variants
from merges.contract import program_error, program_id

Tell = Callable[[int, int], None]

GROUPS: Mapping[Kind, str] = {
    "without": "left out, always, or the same for every expert",
    "always": "left out, always, or the same for every expert",
    "evenly": "left out, always, or the same for every expert",
    "only": "one side of an operation",
    "times": "numbers halved and doubled",
}
"""Changes that are read together, in this order."""
_ORDER = tuple(dict.fromkeys(GROUPS.values()))


class Effective(BaseModel):
    """One change and what came of it.

    Attributes:
        kind, line, before, after: as in `variants.Variant`.
        score: share of the dev problems that the variant solves; None where its merge is the program's own.
        difference: of the shares, variant less program.
        interval: 95 %, of the difference; paired by problem.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Kind
    line: int
    before: str
    after: str
    score: float | None = Field(ge=0, le=1)
    difference: float = Field(ge=-1, le=1)
    interval: tuple[float, float]


class Ablation(BaseModel):
    """All changes of a program: first what was left out or evened, then operations, then numbers; of each those that cost most first.

    Attributes:
        program: its id.
        score: share of the dev problems that it solves as it is.
        n: how many these are.
        changes: that made another merge, or its own; of several that made the same, the first.
        failed: variants that could not run.
        cut: whether the program may have more variants: `variants.MOST_VARIANTS` were tried.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    program: ProgramId
    score: float = Field(ge=0, le=1)
    n: int
    changes: tuple[Effective, ...]
    failed: int
    cut: bool

    @property
    def telling(self) -> tuple[Effective, ...]:
        """The changes that made another merge."""
        return tuple(one for one in self.changes if one.score is not None)

    @property
    def groups(self) -> Mapping[str, tuple[Effective, ...]]:
        """These, under what they have in common; a group without any is left out."""
        found = {name: tuple(one for one in self.telling if GROUPS[one.kind] == name) for name in _ORDER}
        return {name: some for name, some in found.items() if some}

    @property
    def idle(self) -> tuple[Effective, ...]:
        """The changes that made no difference at all."""
        return tuple(one for one in self.changes if one.score is None)


def ablate(bench: Bench, source: str, tell: Tell = lambda done, of: None) -> Ablation:
    """Merge and score a program and all its variants.

    Args:
        tell: called with (variants done, of how many).

    Raises:
        ProgramError: the program itself makes no merge.
    """
    program = program_id(source)
    whole = bench.merge(source)
    if whole.outputs is None:
        raise program_error(program, whole.reason, whole.detail, whole.line)
    score = bench.score_merge(whole).score
    planned, seen, failed = variants(source), {whole.sha256}, 0
    changes: list[Effective] = []
    for done, variant in enumerate(planned):
        tell(done, len(planned))
        merge = bench.merge(variant.source)
        if merge.outputs is None:
            failed += 1
        elif merge.sha256 == whole.sha256:
            # that which evens out what is no number for each expert leaves it alone on purpose
            changes += [] if variant.kind == "evenly" else [_effective(variant, None, score, bench)]
        elif merge.sha256 not in seen:
            changes.append(_effective(variant, bench.score_merge(merge).score, score, bench))
        seen.add(merge.sha256)
    tell(len(planned), len(planned))
    changes.sort(key=lambda one: (_ORDER.index(GROUPS[one.kind]), one.difference))
    return Ablation(
        program=program,
        score=score.value,
        n=score.n,
        changes=tuple(changes),
        failed=failed,
        cut=len(planned) == MOST_VARIANTS,
    )


def _effective(variant: Variant, score: Score | None, whole: Score, bench: Bench) -> Effective:
    difference, interval = 0.0, (0.0, 0.0)
    if score is not None:
        weights, seed = weights_of(describe(bench.dev)), bench.config.campaign.seed
        found = compare_scores(score, whole, weights=weights, seed=seed)
        assert found is not None, "both were asked every dev problem"
        paired = found.difference.interval
        difference, interval = paired.estimate, (paired.low, paired.high)
    return Effective(
        kind=variant.kind,
        line=variant.line,
        before=variant.before,
        after=variant.after,
        score=None if score is None else score.value,
        difference=difference,
        interval=interval,
    )


def ablate_in(folder: Path, config: CampaignConfig, source: str, tell: Tell = lambda done, of: None) -> Ablation:
    """As `ablate`, with the models and the dev problems of a run. What is found out of one of its own programs is kept in its archive; no model is asked a problem twice.

    Raises:
        RunError: another process is on the run; its models or its problems are not those that it was run with.
        ProgramError: the program itself makes no merge.
        ConfigError, MergeUserError, BenchmarkUserError: something the campaign names cannot be used.
    """
    with rundir.locked(folder), closing(Store.in_folder(folder)) as store, Bench(config) as bench:
        _check_inputs(folder, bench)
        bench.keep_verdicts_in(store)
        found = ablate(bench, source, tell)
        if store.program(found.program) is not None:
            store.set_meta(_key(found.program), found.model_dump(mode="json"))
        return found


def known_ablation(store: Store, program: ProgramId) -> Ablation | None:
    """What an archive knows of a program's variants; None where nobody asked, or what is there cannot be read: to ask again mends that."""
    kept = store.meta(_key(program))
    if kept is None:
        return None
    try:
        return Ablation.model_validate(kept)
    except ValidationError:
        return None


def _key(program: ProgramId) -> str:
    return f"ablation {program}"


def _check_inputs(folder: Path, bench: Bench) -> None:
    """Scores of other models or problems would say nothing about the run's program."""
    before = rundir.read_manifest(folder)["inputs"]
    now = {**rundir.input_hashes(bench), "dev": problems_hash(problems_of(bench.dev))}
    for name, value in now.items():
        if before.get(name) != value:
            raise RunError(
                f"run '{folder}': expected the same {name} as at its start, got another (by hash); restore it, then ask again"
            )
