"""`doctor`: what this machine gives, and what to mend."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from engine import locations
from engine.rundir import RECORDED_PACKAGES, package_version
from merges.cores import usable_cores
from sandbox import Isolation, Sandbox
from sandbox.confinement.layers import LAYERS


def examine() -> dict[str, Any]:
    """Facts about machine, isolation and shipped data, as plain values."""
    with Sandbox(allow_none=True) as sandbox:
        isolation = sandbox.isolation
    pocket = locations.shipped("data") / "pocket"
    models = sorted(p.parent.name for p in pocket.glob("*/config.json"))
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": usable_cores(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none (not needed)",
        "postgresql": _driver(),
        "versions": {name: package_version(name) for name in RECORDED_PACKAGES},
        "pocket": models or f"not found in {pocket}; install Mergewright again, or run `make pocket` in a checkout",
        "isolation": isolation.level,
        "missing": list(isolation.missing),
        "layers": _layers(isolation),
    }


def _driver() -> str:
    """What speaks to PostgreSQL; not among the versions that a run records, since what comes out does not depend on it."""
    try:
        return f"psycopg {version('psycopg')}"
    except PackageNotFoundError:
        return "no driver (needed for archives there alone): pip install 'mergewright[postgresql]'"


def _layers(isolation: Isolation) -> dict[str, str]:
    """Layer -> what it takes away from a program, or why it is missing and what to do."""
    lines = dict(line.split(": ", 1) for line in (*isolation.missing, *isolation.extra))
    told = {}
    for layer in LAYERS:
        name = f"{layer.name} (beyond FULL)" if layer.extra else layer.name
        held = layer.name in isolation.layers
        told[name] = f"holds; takes away {layer.takes}" if held else f"MISSING: {lines.get(layer.name, 'not probed')}"
    return told | {name: f"MISSING: {line}" for name, line in lines.items() if name == "together"}
