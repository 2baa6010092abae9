"""Runs a study: every method with every seed, each a campaign in a process of its own, until all of them are finished.

OUT/
  study.toml            as given; the same command on the same folder goes on, and so does one with a file that only adds seeds, methods or comparisons
  study-first-met.toml  where something was added after the held-out problems had been met: as it was then
  runs/METHOD-SEED/     an ordinary run each: `archive`, `status`, `apply` work on it
  runs/METHOD-SEED.log  what it printed
  held_out.db           verdicts on the held-out problems, so none is asked twice; transfer.db on other experts
  results.json          every number of the report
  report.html           the report, and figures/*.svg beside it
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import archive_place, going_on, rundir
from engine.config import CampaignConfig
from engine.errors import EngineError, HostError, RunError
from engine.store import Store
from engine.study.plan import Study, read_study
from engine.whole_file import write_whole

STUDY_FILE = "study.toml"
FIRST_MET_FILE = "study-first-met.toml"
HELD_OUT_FILE = "held_out.db"
RESULTS_FILE = "results.json"


@dataclass(frozen=True)
class PlannedRun:
    """One campaign of a study."""

    method: str
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """METHOD-SEED."""
        return f"{self.method}-{self.seed}"

    @property
    def log(self) -> Path:
        """What its process printed."""
        return self.folder.with_name(f"{self.name}.log")

    def finished(self) -> bool:
        """Whether its archive says so."""
        if archive_place.file_in(self.folder) is None:
            return False
        with closing(Store.in_folder(self.folder)) as store:
            return store.meta("state") is not None


def planned_runs(study: Study, out: Path) -> list[PlannedRun]:
    """Every run of a study, seed by seed: should it be broken off, the methods are even."""
    seeds = sorted({seed for method in study.methods for seed in study.seeds_of(method)})
    return [
        PlannedRun(method, seed, out / "runs" / f"{method}-{seed}")
        for seed in seeds
        for method in study.methods
        if seed in study.seeds_of(method)
    ]


def prepare(study: Study, text: str, out: Path) -> list[PlannedRun]:
    """Make the folder of a study, or check that it is this study's, or of one that it only adds to; answers with its runs.

    What is added after the held-out problems were met is run and meets them as the rest did. But who added it may have seen what the rest came to, so the study as it was
    then is kept, and the report names what was added.

    Raises:
        RunError: the folder is another study's, or cannot be made.
        ConfigError: the study that the folder has differs, and cannot be read any more.
    """
    known = out / STUDY_FILE
    try:
        before = known.read_text(encoding="utf-8") if known.is_file() else text
        if before != text:
            if lost := read_study(known).beyond(study):
                raise RunError(
                    f"study '{out}': expected {lost[0]:.200} as in its {STUDY_FILE}, got a study without; seeds, methods and comparisons may be added, all else stays: restore it, or give another --out"
                )
            met = any((out / name).exists() for name in (HELD_OUT_FILE, RESULTS_FILE))
            if met and not (out / FIRST_MET_FILE).exists():
                write_whole(out / FIRST_MET_FILE, before)
        (out / "runs").mkdir(parents=True, exist_ok=True)
        write_whole(known, text)
    except OSError as error:
        raise RunError(
            f"study '{out}': expected a folder to write in, got {error.strerror}; give another --out"
        ) from error
    return planned_runs(study, out)


def added_late(study: Study, out: Path) -> list[str]:
    """The runs and comparisons of a study that were added after the held-out problems had been met.

    Raises:
        ConfigError: the study as it was then cannot be read.
    """
    first = out / FIRST_MET_FILE
    added = study.beyond(read_study(first)) if first.is_file() else []
    return [part for part in added if part.startswith(("run ", "comparison "))]  # a new method shows in its runs


def run_all(
    study: Study, runs: list[PlannedRun], *, jobs: int, told: Callable[[PlannedRun, str], None] = lambda *_: None
) -> None:
    """Run what is not finished, `jobs` at a time.

    Args:
        told: called when a run begins ("begun"), and when it ends ("finished", "failed").

    Raises:
        RunError: a finished run is of another campaign than this study has now, or they are not all of the same models and problems.
        HostError: some did not finish; the others did, and the same command goes on.
    """
    finished = [run for run in runs if run.finished()]
    for run in finished:
        _check_campaign(run, study.config(run.method, run.seed))
    check_inputs(finished)
    waiting = [run for run in runs if run not in finished]

    def work(run: PlannedRun) -> bool:
        told(run, "begun")
        try:
            done = _run(study, run)
        except EngineError as error:
            _note(run.log, str(error))
            done = False
        told(run, "finished" if done else "failed")
        return done

    pool = ThreadPoolExecutor(jobs)
    try:
        failed = [run for run, done in zip(waiting, pool.map(work, waiting), strict=True) if not done]
    finally:
        pool.shutdown(cancel_futures=True)  # interrupted: what has begun stops in order, and nothing else begins
    if failed:
        raise HostError(
            f"study: {len(failed)} of {len(runs)} runs did not finish, first {failed[0].name} ({_last_line(failed[0].log)}); "
            "see its log, then give the same command again"
        )
    check_inputs(runs)


def _run(study: Study, run: PlannedRun) -> bool:
    config = study.config(run.method, run.seed)
    if not (run.folder / "campaign.json").is_file():
        rundir.new_folder(config, run.folder, "")
    else:
        _check_campaign(run, config)
        going_on.reach_as(run.folder, config)
    with run.log.open("ab") as log:
        command = [sys.executable, "-m", "engine.cli", "resume", str(run.folder.resolve())]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=_environment(), check=False
        )
    return done.returncode == 0 and run.finished()


def _note(log: Path, line: str) -> None:
    with log.open("a", encoding="utf-8") as handle:
        handle.write(f"{line}\n")


def _check_campaign(run: PlannedRun, wanted: CampaignConfig) -> None:
    """See that a run that has begun is of the campaign that the study has for it now: its file is not the study's own, and may have changed."""
    if found := rundir.difference(rundir.read_config(run.folder), wanted):
        key, got, expected = found
        raise RunError(
            f"study run {run.name}: expected {key} = {expected!r:.60} as in its campaign now, got {got!r:.60} in '{run.folder}'; "
            "restore the campaign's file, give another --out, or remove that run"
        )


def check_inputs(runs: Sequence[PlannedRun], now: Mapping[str, Any] | None = None) -> None:
    """See that finished runs are of the same models and problems, by hash; of the same generator too, where they are of one method.

    Args:
        now: of some inputs, by their names in the manifest, what they are at this moment: the runs must be of these.

    Raises:
        RunError: they are not, or a manifest cannot be read.
    """
    first = {key: ("as it is now", value) for key, value in (now or {}).items()}
    for run in runs:
        for key, value in rundir.read_manifest(run.folder)["inputs"].items():
            what = f"{key} of {run.method}" if key == "generator" else key
            whose, known = first.setdefault(what, (f"as of {run.name}", value))
            if value != known:
                raise RunError(
                    f"study run {run.name}: expected the same {key} {whose}, got another (by hash) in '{run.folder}'; "
                    "restore it and remove the runs that had another, or give another --out"
                )


def made_by(runs: Sequence[PlannedRun]) -> dict[str, dict[str, list[str]]]:
    """What code made finished runs: of every recorded package, and as "commit" of the checkout, each version with the names of its runs, in their order.

    More than one version of a name is a mix. A run that went on with another commit is listed at each; one from no checkout at "not known".

    Raises:
        RunError: a run's manifest cannot be read.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        told = rundir.read_manifest(run.folder)
        made = [*told["versions"].items(), *(("commit", one) for one in told.get("commits", [rundir.NOT_KNOWN]))]
        for name, version in made:
            found.setdefault(name, {}).setdefault(version, []).append(run.name)
    return found


def _environment() -> dict[str, str]:
    """This process's, with the engine found where it was found here."""
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")[:200]


def stores(runs: list[PlannedRun]) -> Iterator[tuple[PlannedRun, Store]]:
    """Every run with its archive, open while it is looked at."""
    for run in runs:
        with closing(Store.in_folder(run.folder)) as store:
            yield run, store
