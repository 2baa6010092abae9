"""A run's folder: its lock, its configuration, its manifest, its generators.

runs/NAME/
  campaign.json     the configuration, as resolved
  manifest.json     versions, hashes, seeds, isolation, machine
  archive.db        everything that was proposed, run and scored
  generators/1 …    a plain model folder after each update
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from engine import locations
from engine.bench import Bench
from engine.config import CampaignConfig, build_config
from engine.errors import HostError, RunError
from engine.hashing import problems_hash, weights_hash

RECORDED_PACKAGES = (
    "mergewright",
    "torch",
    "transformers",
    "safetensors",
    "trl",
    "peft",
    "RestrictedPython",
    "numpy",
    "SQLAlchemy",
)


def new_folder(config: CampaignConfig, out: Path | None, stamp: str) -> Path:
    """Make the folder of a new run: `out`, or `runs/NAME-STAMP`.

    Raises:
        RunError: the folder holds something already, or cannot be made.
    """
    folder = out or locations.RUNS / f"{config.campaign.name}-{stamp}"
    if (folder / "archive.db").exists():
        raise RunError(
            f"run '{folder}': expected a new folder, got one with an archive; `mergewright resume {folder}` goes on with it"
        )
    if folder.is_dir() and any(folder.iterdir()):
        raise RunError(f"run '{folder}': expected a new or empty folder, got one with other files; give another --out")
    try:
        (folder / "generators").mkdir(parents=True)
        write_whole(folder / "campaign.json", config.model_dump_json(indent=2))
    except OSError as error:
        raise RunError(
            f"run '{folder}': expected a folder to write in, got {error.strerror}; give another --out"
        ) from error
    return folder


def read_config(folder: Path) -> CampaignConfig:
    """The configuration a run was started with."""
    path = folder / "campaign.json"
    try:
        return build_config(json.loads(path.read_text()), source=str(path))
    except (OSError, ValueError) as error:
        raise RunError(
            f"run '{folder}': expected a readable campaign.json, got {type(error).__name__}; restore it, or start a new run"
        ) from error


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: as from the file system.
    """
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(part, path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run; the lock goes with the process, however it dies.

    Raises:
        RunError: another process holds it.
    """
    with (folder / "lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            holder = handle.read(20).strip() or "unknown"
            raise RunError(
                f"run '{folder}': expected no other process on it, got process {holder}; wait for it or end it"
            ) from error
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def generator_folder(folder: Path, iteration: int) -> Path:
    """Where the generator lies that was trained after `iteration`."""
    return folder / "generators" / str(iteration)


def manifest(config: CampaignConfig, bench: Bench) -> dict[str, Any]:
    """What has to be the same for a run to be the same: versions, inputs by hash, seeds; and the machine, for the reader."""
    return {
        "versions": {name: package_version(name) for name in RECORDED_PACKAGES} | {"python": platform.python_version()},
        "seed": config.campaign.seed,
        "inputs": {
            "base": weights_hash(bench.base.path / name for name in set(bench.base.files.values())),
            "experts": {
                name: weights_hash(expert.path / name for name in set(expert.files.values()))
                for name, expert in bench.experts.items()
            },
            "generator": _generator_identity(config),
            "dev": problems_hash(bench.dev),
        },
        "merged_tensors": len(bench.names),
        "isolation": {"level": bench.sandbox.isolation.level, "missing": list(bench.sandbox.isolation.missing)},
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        },
    }


def check_manifest(folder: Path, now: Mapping[str, Any]) -> None:
    """Write the manifest of a new run; on resume, refuse inputs that changed.

    Raises:
        RunError: a model, the generator or the problems are not those the run was started with.
        HostError: the manifest cannot be written.
    """
    path = folder / "manifest.json"
    text = json.dumps(now, indent=2, default=str)
    if not path.exists():
        try:
            write_whole(path, text)
        except OSError as error:
            raise HostError(
                f"run '{folder}': the manifest could not be written ({error.strerror}); free space, then resume"
            ) from error
        return
    before = json.loads(path.read_text())["inputs"]
    for key, value in json.loads(text)["inputs"].items():
        if before.get(key) != value:
            raise RunError(
                f"run '{folder}': expected the same {key} as at its start, got another (by hash); restore it, or start a new run"
            )


def _generator_identity(config: CampaignConfig) -> str:
    """Hash of the generator's weights where it is a folder; its kind or hub id elsewhere."""
    if config.generator.kind != "model":
        return config.generator.kind
    folder = Path(locations.model(config.generator.model))
    return weights_hash(folder.glob("*.safetensors")) if folder.is_dir() else config.generator.model


def package_version(package: str) -> str:
    """The installed version of a package, or "checkout" where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "checkout"
