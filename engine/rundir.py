"""A run's folder: its lock, its configuration, its manifest, its generators.

runs/NAME/
  campaign.json     the configuration, as resolved
  manifest.json     versions, commits, hashes, seeds, isolation, machine
  archive.db        everything that was proposed, run and scored; or archive.url, which says where that is (`archive_place.py`)
  generators/1 …    after each update a plain model folder, or an adapter (learn.keep_as)
  import.json       of an archive that `archive import` made, in place of generators/
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

import torch
from blake3 import blake3

from engine import archive_place, locations
from engine.bench import Bench
from engine.checkout import commit
from engine.config import CampaignConfig
from engine.config_file import build_config
from engine.connecting import reach
from engine.errors import HostError, RunError
from engine.evaluating import thread_count
from engine.hashing import problems_hash, weights_hash
from engine.suites import problems_of
from engine.whole_file import write_whole
from merges.cores import usable_cores

RECORDED_PACKAGES = (
    "mergewright",
    "torch",
    "transformers",
    "safetensors",
    "trl",
    "peft",
    "tokenizers",
    "math-verify",
    "latex2sympy2_extended",
    "sympy",
    "RestrictedPython",
    "numpy",
    "SQLAlchemy",
)


MANIFEST_FILE = "manifest.json"
NOT_KNOWN = "not known"
"""Where a manifest names commits: what ran before there was a checkout to ask."""

IMPORT_FILE = "import.json"
"""What makes a folder an import's: the first file that is written there, so that an import killed at any moment is known for what it is."""


def imported(folder: Path) -> bool:
    """Whether an import made this folder, and no campaign."""
    return (folder / IMPORT_FILE).exists()


def refuse_import(folder: Path) -> None:
    """An import has no campaign to go on with.

    Raises:
        RunError: an import made the folder.
    """
    if imported(folder):
        raise RunError(
            f"run '{folder}': expected one of a campaign, got one that `archive import` made; give that command again to go on with it"
        )


def new_folder(config: CampaignConfig, out: Path | None, stamp: str) -> Path:
    """Make the folder of a new run: `out`, or `runs/NAME-STAMP`. Its campaign.json names the threads: sums depend on them.

    Raises:
        RunError: the folder holds something already, or cannot be made; the archive's server refuses us.
        HostError: the disk is full, or the archive's server does not answer.
    """
    config = config.model_copy(
        update={"models": config.models.model_copy(update={"threads": thread_count(config.models)})}
    )
    folder = out or locations.RUNS / f"{config.campaign.name}-{stamp}"
    if archive_place.begun_in(folder):
        raise RunError(
            f"run '{folder}': expected a new folder, got one with an archive; `mergewright resume {folder}` goes on with it"
        )
    if folder.is_dir() and any(folder.iterdir()):
        raise RunError(f"run '{folder}': expected a new or empty folder, got one with other files; give another --out")
    if config.archive.url is not None:
        reach(config.archive.url)  # now, and not when the models are loaded
    try:
        (folder / "generators").mkdir(parents=True)
        write_whole(folder / "campaign.json", config.model_dump_json(indent=2))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise HostError(
                f"run '{folder}': it could not be made ({error.strerror}); free space, or give another --out"
            ) from error
        raise RunError(
            f"run '{folder}': expected a folder to write in, got {error.strerror}; give another --out"
        ) from error
    return folder


def discard_if_unborn(folder: Path) -> None:
    """Remove what `new_folder` made if the run never came to an archive: a corrected command may use the same folder."""
    if archive_place.begun_in(folder):
        return
    for name in ("campaign.json", MANIFEST_FILE, "lock"):
        (folder / name).unlink(missing_ok=True)
    for made in (folder / "generators", folder):
        with suppress(OSError):  # it holds something that is not ours
            made.rmdir()


def read_config(folder: Path) -> CampaignConfig:
    """The configuration a run was started with."""
    path = folder / "campaign.json"
    try:
        return build_config(json.loads(path.read_text()), source=str(path))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(
            f"run '{folder}': expected a readable campaign.json, got {type(error).__name__}; restore it, or start a new run"
        ) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run; the lock goes with the process, however it dies.

    Raises:
        RunError: another process holds it.
    """
    with _lock_file(folder) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            holder = handle.read(20).strip() or "unknown"
            raise RunError(
                f"run '{folder}': expected no other process on it, got process {holder}; wait for it or end it"
            ) from error
        with suppress(OSError):  # the number is for the reader of a message; the lock itself needs no space
            os.ftruncate(handle.fileno(), 0)
            os.write(handle.fileno(), str(os.getpid()).encode())
        yield


def _lock_file(folder: Path) -> TextIO:
    try:
        return (folder / "lock").open("a+")
    except OSError as error:
        raise HostError(
            f"run '{folder}': its lock could not be opened ({error.strerror}); make the folder writable, free space, then resume"
        ) from error


def generator_folder(folder: Path, iteration: int) -> Path:
    """Where the generator lies that was trained after `iteration`."""
    return folder / "generators" / str(iteration)


def check_generator(folder: Path, iteration: int, digest: str) -> None:
    """See that the generator that was trained after `iteration` is still the one that the archive knows.

    Args:
        digest: of its weights, as the archive has it.

    Raises:
        RunError: it is another, cannot be read, or is gone.
    """
    place = generator_folder(folder, iteration)
    try:
        files = list(place.glob("*.safetensors"))
        if files and weights_hash(files) == digest:
            return
        got = "another (by hash)" if files else "none"
    except OSError as error:
        got = f"one that cannot be read ({error.strerror})"
    raise RunError(
        f"run '{folder}': expected in '{place}' the generator that was trained after iteration {iteration}, got {got}; restore that folder, or start a new run"
    )


def forget_generators(folder: Path, *, but: str) -> None:
    """Remove all trained generators of a run but version `but`."""
    for trained in (folder / "generators").iterdir():
        if trained.name != but:
            shutil.rmtree(trained, ignore_errors=True)


_FREE = {"max_hours"}
"""Of a campaign, what makes no other result: how long it may take."""
_GROWS = {"iterations"}
"""Of a campaign, what may grow while a run goes on (`engine/going_on.py`): each iteration is the same, however many follow."""


def _same_for_a_run(config: CampaignConfig, *, but: set[str] = _FREE | _GROWS) -> dict[str, Any]:
    """What of a configuration has to be the same for a run to be the same: not where its archive was made, nor how its endpoint is reached.

    Args:
        but: keys of the campaign that are left out.
    """
    anyhow = config.model_copy(update={"generator": config.generator.reached_anyhow()})
    return anyhow.model_dump(mode="json", exclude={"campaign": but, "archive": True})


def difference(there: CampaignConfig, wanted: CampaignConfig) -> tuple[str, Any, Any] | None:
    """The first key in which the results of two configurations differ, with the value of each; None: they are the same.

    Threads that `wanted` leaves open are as the run's own file names them.
    """
    if not wanted.models.threads:
        threads = {"threads": there.models.threads}
        wanted = wanted.model_copy(update={"models": wanted.models.model_copy(update=threads)})
    one, other = (_same_for_a_run(config, but=_FREE) for config in (there, wanted))
    keys = ((section, key) for section, values in one.items() for key in values)
    return next(((f"{s}.{k}", one[s][k], other[s][k]) for s, k in keys if one[s][k] != other[s][k]), None)


def manifest(config: CampaignConfig, bench: Bench) -> dict[str, Any]:
    """What has to be the same for a run to be the same: versions, configuration, inputs by hash; and the machine, and the commits that had a hand in it, for the reader."""
    here = commit()
    return {
        "campaign": blake3(json.dumps(_same_for_a_run(config)).encode()).hexdigest(),
        "versions": {name: package_version(name) for name in RECORDED_PACKAGES} | {"python": platform.python_version()},
        "seed": config.campaign.seed,
        "inputs": {
            **input_hashes(bench),
            "generator": _generator_identity(config),
            "evaluator": bench.evaluator.engine,
            "scorer": bench.dev.scorer_version,
            "dev": problems_hash(problems_of(bench.dev)),
            "test": problems_hash(problems_of(bench.test.suite)),
        },
        "merged_tensors": len(bench.names),
        "isolation": {"level": bench.sandbox.isolation.level, "missing": list(bench.sandbox.isolation.missing)},
        "machine": {
            "system": platform.platform(),
            "cores": usable_cores(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        },
        **({"commits": [here]} if here else {}),
    }


def input_hashes(bench: Bench) -> dict[str, Any]:
    """Hashes of the weights that are merged: of the base, and of the experts by name, in their order."""
    return {
        "base": weights_hash(bench.base.path / name for name in set(bench.base.files.values())),
        "experts": {
            name: weights_hash(expert.path / name for name in set(expert.files.values()))
            for name, expert in bench.experts.items()
        },
    }


def check_manifest(folder: Path, now: Mapping[str, Any]) -> None:
    """Write the manifest of a new run; on resume, refuse what changed. Another commit of the code is no reason to: it is noted beside the first.

    Raises:
        RunError: a model, the generator, the problems, the configuration or a library is not that of the run's start.
        HostError: the manifest cannot be written.
    """
    if not (folder / MANIFEST_FILE).exists():
        _write_manifest(folder, now)
        return
    now = json.loads(json.dumps(now, default=str))
    before = read_manifest(folder)
    inputs, versions, campaign = before["inputs"], before["versions"], before["campaign"]
    for key, value in now["inputs"].items():
        if inputs.get(key) != value:
            raise RunError(
                f"run '{folder}': expected the same {key} as at its start, got another (by hash); restore it, or start a new run"
            )
    for name, installed in now["versions"].items():
        if versions.get(name) != installed:
            raise RunError(
                f"run '{folder}': expected {name} {versions.get(name)} as at its start, got {installed}; install that version, or start a new run"
            )
    if campaign != now["campaign"]:
        raise RunError(
            f"run '{folder}': expected campaign.json as at its start, got a changed one; restore it, or start a new run with --set"
        )
    known = before.get("commits", [NOT_KNOWN])
    if new := [one for one in now.get("commits", []) if one not in known]:
        _write_manifest(folder, {**before, "commits": [*known, *new]})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run that has begun.

    Raises:
        RunError: there is none, or it cannot be read.
    """
    try:
        found: dict[str, Any] = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError("no object")
        if missing := {"inputs", "versions", "campaign"} - set(found):
            raise KeyError(*missing)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(
            f"run '{folder}': expected a readable {MANIFEST_FILE}, got {type(error).__name__}; restore it, or start a new run"
        ) from error
    return found


def dev_hash(folder: Path) -> str | None:
    """Hash of the dev problems on which a run's programs were scored; None where its manifest does not say."""
    try:
        found: str | None = read_manifest(folder)["inputs"].get("dev")
    except (RunError, AttributeError):  # what can be shown without it is shown
        return None
    return found


def _write_manifest(folder: Path, found: Mapping[str, Any]) -> None:
    try:
        write_whole(folder / MANIFEST_FILE, json.dumps(found, indent=2, default=str))
    except OSError as error:
        raise HostError(
            f"run '{folder}': the manifest could not be written ({error.strerror}); free space, then resume"
        ) from error


def _generator_identity(config: CampaignConfig) -> str:
    """Hash of the generator's weights, or of the scripted programs, where they are files; its hub id where the weights are elsewhere, its kind where it has none here."""
    if config.generator.kind == "scripted" and config.generator.script:
        files = sorted(Path(config.generator.script).glob("*.py"))
        return blake3(b"".join(blake3(file.read_bytes()).digest() for file in files)).hexdigest()
    if config.generator.kind not in ("model", "vllm"):
        return config.generator.kind
    folder = Path(locations.model(config.generator.model))
    return weights_hash(folder.glob("*.safetensors")) if folder.is_dir() else config.generator.model


def package_version(package: str) -> str:
    """The installed version of a package, or "checkout" where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "checkout"
