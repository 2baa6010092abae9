"""A run's folder: what makes a run the same run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine import rundir
from engine.config_file import build_config


@pytest.mark.parametrize("kind", ["model", "vllm"])
def test_a_generator_is_known_by_its_weights_wherever_it_writes(tmp_path: Path, kind: str) -> None:
    config = build_config({"generator": {"kind": kind, "model": str(tmp_path)}})
    identities = set()
    for value in (0.0, 1.0):
        save_file({"weight": torch.full((2,), value)}, tmp_path / "model.safetensors")
        identities.add(rundir._generator_identity(config))
    assert len(identities) == 2
    elsewhere = build_config({"generator": {"kind": kind, "model": "owner/name"}})
    assert rundir._generator_identity(elsewhere) == "owner/name"
