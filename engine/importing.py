"""Takes bundles into an archive of their own and believes nothing: ids come from the sources, and the gate, the probes, the merge and the dev problems are met again here.

A program's claims stay data (the candidate's `text` is its entry) and are held against what was measured. A bundle that contradicts itself, or whose program does something else
than it says, is refused whole before anything is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scores import Score, score_of_bits
from benchmarks.suite import Suite
from engine import archive_place, bundle, rundir
from engine.assess import assess_all, probe_all
from engine.bench import Bench, Prober
from engine.bundle import Bundle, Entry
from engine.bundle_claims import NEAR, check_claims
from engine.bundle_file import read_bundle
from engine.bundling import measured, score_of
from engine.config import CampaignConfig
from engine.connecting import reach
from engine.errors import RunError, UserError
from engine.evaluating import thread_count
from engine.known import Known
from engine.records import IMPORTED, Assessment, Candidate, Outcome, Program, Sampling
from engine.store import Store
from engine.suites import describe
from engine.whole_file import write_whole
from merges.contract import program_id
from merges.errors import one_line
from merges.probes import behaves_as, behaviour_hash

ARITHMETIC = ("torch", "transformers")
"""Packages by whose versions answers may differ."""

NO_VERSION = "-"
"""Where a candidate names the version of the generator that wrote it."""


@dataclass(frozen=True)
class Compared:
    """An imported program: what its bundle claims, what was measured here, and what that comes to.

    Attributes:
        entry: as it came.
        candidate: its row.
        verdict: "as claimed", "differs", "not comparable", "no claim", "not scored", "duplicate", "rejected", "failed".
        detail: the rest of the sentence, or None.
    """

    entry: Entry
    candidate: Candidate
    verdict: str
    detail: str | None


def import_config(config: CampaignConfig) -> CampaignConfig:
    """A campaign as imports use it: its models and dev problems; no final, no judge of its own programs, and no triage."""
    return config.model_copy(
        update={
            "campaign": config.campaign.model_copy(update={"final": False, "max_hours": None}),
            "models": config.models.model_copy(update={"threads": thread_count(config.models)}),
            "learn": config.learn.model_copy(update={"method": "none"}),
            "explore": config.explore.model_copy(update={"screen": 1.0}),
        }
    )


def import_bundles(
    files: Sequence[Path],
    folder: Path,
    config: CampaignConfig | None,
    *,
    scored: bool = True,
    allow_none: bool = False,
    check: Callable[[], None] = lambda: None,
    told: Callable[[str], None] = lambda _: None,
) -> list[Compared]:
    """Import bundles; what an earlier import, finished or not, has done is not done again.

    Args:
        folder: made, or one that an import made.
        config: what is merged and asked; None: as in the folder, or the defaults.
        scored: False: nothing is merged and nothing asked, and no model is needed.
        allow_none: see `open_sandbox`.
        check: a safe point, where it may be stopped.
        told: of the work that begins, and of every fate.

    Returns:
        One for each program of the bundles, in their order.

    Raises:
        UserError: a bundle that is none, or lies; a folder that is not an import's, or one of other models, problems or choice of `scored`; the archive's server
            refuses us.
        HostError: the archive's server does not answer; a disk is full.
    """
    bundles = [read_bundle(file) for file in files]
    for file, one in zip(files, bundles, strict=True):
        check_claims(file, one)
    config = _agreed(folder, config, scored)
    if config.archive.url is not None and archive_place.file_in(folder) is None:
        reach(config.archive.url)  # now, and not when everything is probed
    with ExitStack() as opened:
        bench = opened.enter_context(
            Bench(config, allow_none=allow_none) if scored else Prober(config, allow_none=allow_none)
        )
        for file, one in zip(files, bundles, strict=True):
            told(f"{file}: {len(one.programs)} programs, probing")
            _check_behaviours(file, one, bench, check)
        _make(folder, config, scored)
        opened.enter_context(rundir.locked(folder))
        store = opened.enter_context(closing(Store.in_folder(folder, create=True, server=config.archive.url)))
        manifest = None
        if isinstance(bench, Bench):
            manifest = rundir.manifest(config, bench)
            rundir.check_manifest(folder, manifest)
            bench.keep_verdicts_in(store)
            store.set_meta("suites", {"dev": describe(bench.dev), "test": describe(bench.test.suite)})
        entries = [entry for one in bundles for entry in one.programs]
        rows = _propose(store, entries)
        _assess(bench, store, check, told)
        store.set_meta("state", {"finished": True, "digest": store.digest()})
        here = measured(config, manifest["inputs"], manifest["versions"]) if manifest else None
        fates = {c.number: c for c in store.candidates()}
    dev = bench.dev if isinstance(bench, Bench) else None
    return [_compared(entry, fates[rows[bundle.to_text(entry)]], list(fates.values()), here, dev) for entry in entries]


def _agreed(folder: Path, config: CampaignConfig | None, scored: bool) -> CampaignConfig:
    """The campaign to import by: of a folder that is there its own."""
    mark = folder / rundir.IMPORT_FILE
    if not mark.exists():
        begun = f".{rundir.IMPORT_FILE}.part"  # of an import that was killed while it wrote its first file
        if folder.exists() and (not folder.is_dir() or any(path.name != begun for path in folder.iterdir())):
            raise RunError(
                f"run '{folder}': expected a new folder, or one that `archive import` made, got another; give another --into"
            )
        return import_config(config or CampaignConfig())
    there = rundir.read_config(folder) if (folder / "campaign.json").exists() else None
    if config and there and not config.models.threads:
        threads = {"threads": there.models.threads}
        config = config.model_copy(update={"models": config.models.model_copy(update=threads)})
    wanted = import_config(config) if config else there or import_config(CampaignConfig())
    if there and wanted != there:
        raise RunError(
            f"run '{folder}': expected the campaign that it was made with, got another; leave --campaign and --set out, or give another --into"
        )
    if mark.read_text(encoding="utf-8") != _mark(scored):
        raise RunError(
            f"run '{folder}': expected {'no ' if scored else ''}scores as when it was made, got the other choice; {'add' if scored else 'leave out'} --no-score, or give another --into"
        )
    return wanted


def _mark(scored: bool) -> str:
    return f'{{"scored": {str(scored).lower()}}}\n'


def _make(folder: Path, config: CampaignConfig, scored: bool) -> None:
    """The folder with its mark and campaign; one that is there, however far it is, is left as it is."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in ((rundir.IMPORT_FILE, _mark(scored)), ("campaign.json", config.model_dump_json(indent=2))):
            if not (folder / name).exists():
                write_whole(folder / name, text)
    except OSError as error:
        raise RunError(
            f"run '{folder}': expected a folder to write in, got {error.strerror}; free space, or give another --into"
        ) from error


def _check_behaviours(file: Path, found: Bundle, bench: Prober, check: Callable[[], None]) -> None:
    """Refuse a bundle whose programs do something else than it says. One that fails here is not a lie: it will be a row with a reason."""
    for entry in found.programs:
        check()
        answer = bench.probe_with(entry.source, entry.behaviour.experts)
        if answer.outputs is not None and not behaves_as(answer.outputs, entry.behaviour.hash):
            got = behaviour_hash(answer.outputs)
            made = ", ".join(f"{name} {version}" for name, version in found.made_with.items() if name == "torch")
            raise UserError(
                one_line(
                    f"bundle '{file}': program {entry.id}: behaviour: expected {entry.behaviour.hash} as it says, got {got} from its source "
                    f"on the probes; it was changed, or {made or 'what made it'} computes otherwise, so nothing of it is taken: get it again"
                )
            )


def _propose(store: Store, entries: Sequence[Entry]) -> dict[str, int]:
    """See that every entry has a row; answers with the number of each entry's, by its text. Where there is work to do, the archive is no longer finished."""
    texts, there = {bundle.to_text(entry): entry for entry in entries}, store.candidates()
    known = {c.program.text: c.number for c in there}
    new = [_program(text, entry) for text, entry in texts.items() if text not in known]
    if new or any(c.assessment.outcome is Outcome.PENDING for c in there):
        store.forget_meta("state")
    for candidate in store.propose(1, new) if new else ():
        known[candidate.program.text] = candidate.number
    return known


def _program(text: str, entry: Entry) -> Program:
    """As a candidate. Nothing but its source and what came are taken from the entry."""
    sampling = Sampling(temperature=0.0, top_p=1.0, seed=0, batch=0, row=0)
    return Program(entry.source, program_id(entry.source), IMPORTED, NO_VERSION, "", text, sampling, (), IMPORTED)


def _assess(bench: Prober, store: Store, check: Callable[[], None], told: Callable[[str], None]) -> None:
    """Let every candidate that has none meet its fate."""
    everyone = store.candidates()
    done = [c for c in everyone if c.assessment.outcome is not Outcome.PENDING]
    waiting = [c for c in everyone if c.assessment.outcome is Outcome.PENDING]
    known = Known(done)
    fates = (
        assess_all(bench, iter(waiting), known, done, check, raced=False)
        if isinstance(bench, Bench)
        else probe_all(bench, waiting, known)
    )
    with closing(fates):
        for at, (candidate, assessment) in enumerate(fates, start=1):
            store.assess(candidate.number, assessment)
            told(f"{at}/{len(waiting)} {candidate.program.id}: {_fate(assessment)}")
            check()


def _fate(assessment: Assessment) -> str:
    if assessment.score:
        return f"dev {100 * assessment.score.value:.1f} %"
    return assessment.outcome.value + (f" ({assessment.reason})" if assessment.reason else "")


def _compared(
    entry: Entry, candidate: Candidate, everyone: Sequence[Candidate], here: bundle.Measured | None, dev: Suite | None
) -> Compared:
    """What the claim of one entry comes to. `here`, `dev`: None where nothing was scored."""
    a = candidate.assessment
    if a.reason:
        where = f" (line {a.line})" if a.line else ""
        return Compared(entry, candidate, a.outcome.value, f"{a.reason}: {a.detail}{where}")
    if a.duplicate_of == entry.id:  # the same program came before: its scores are this one's
        candidate = next(
            c for c in everyone if c.program.id == entry.id and c.assessment.outcome is not Outcome.DUPLICATE
        )
    elif a.duplicate_of:
        return Compared(entry, candidate, "duplicate", f"behaves as {a.duplicate_of}, which came first")
    score = candidate.assessment.score
    if score is None or here is None or dev is None:
        return Compared(entry, candidate, "not scored", None)
    if entry.dev is None:
        return Compared(entry, candidate, "no claim", None)
    if other := _otherwise(entry.measured, here):
        return Compared(entry, candidate, "not comparable", other)
    claimed = score_of(entry.dev)
    if fault := _difference(claimed, score, dev):
        said = f"the bundle claims {100 * claimed.value:.1f} %, measured {100 * score.value:.1f} %: {fault}"
        versions = (entry.measured.versions if entry.measured else None) or {}
        others = [name for name in ARITHMETIC if (here.versions or {}).get(name) != versions.get(name)]
        by = f"; it was made with another {' and '.join(others)}" if others else ""
        return Compared(entry, candidate, "differs", said + by)
    return Compared(entry, candidate, "as claimed", None)


def _difference(claimed: Score, found: Score, dev: Suite) -> str | None:
    """In what a claim on the same problems is not what was measured; None: in nothing. Of a program that was stopped in a race what it was asked counts."""
    if claimed.of != found.of:
        return f"{claimed.of} problems where there are {found.of}"
    readings = ((claimed.strict_bits, found.strict_bits), (claimed.lenient_bits, found.lenient_bits))
    wrong = [{at for at, bit in enumerate(said) if bit not in ("-", got[at])} for said, got in readings]
    if count := len(wrong[0] | wrong[1]):
        return f"the verdicts on {count} of {claimed.n} problems are others"
    asked = score_of_bits(dev, claimed.strict_bits, claimed.lenient_bits)
    if claimed.bits != asked.bits:
        return "the same verdicts, and another reading ranks"
    for name, what in _FIGURES.items():
        if not _near(said := getattr(claimed, name), comes_to := getattr(asked, name)):
            return f"the same verdicts, and another {what} ({said:.6g}) than they come to ({comes_to:.6g})"
    if set(claimed.families) != set(asked.families) or not all(
        _near(claimed.families[name], share) for name, share in asked.families.items()
    ):
        return "the same verdicts, and other shares of the families"
    return None


_FIGURES = {
    "value": "share",
    "strict": "strict share",
    "lenient": "lenient share",
    "effective_n": "effective_n",
    "low": "low end of the interval",
    "high": "high end of the interval",
}
"""What a score says that follows from its verdicts, and what a reader calls it."""


def _near(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=NEAR, abs_tol=NEAR)


def _otherwise(claimed: bundle.Measured | None, here: bundle.Measured) -> str | None:
    """Why a claim cannot be held against what was measured here; None: it can."""
    if claimed is None or claimed.inputs is None or here.inputs is None:
        return "the bundle does not say on which models and problems"
    theirs, ours = claimed.inputs, here.inputs
    if (theirs.base, list(theirs.experts.items())) != (ours.base, list(ours.experts.items())):
        return "other models"
    if theirs.dev != ours.dev:
        return "other dev problems"
    if theirs.scorer != ours.scorer:
        return f"another scorer ({theirs.scorer})"
    if claimed.seed != here.seed:
        return f"another seed ({claimed.seed}; --set campaign.seed={claimed.seed})"
    if claimed.conditions != here.conditions:
        return "asked otherwise: other parameters merged, prompts, blocks or numeric types"
    return None
