"""Tensors of a user's file become the jobs that the same tensors would be within their model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.trying import read_tensors


def depths(folder: Path, *parameters: str) -> dict[str, float]:
    path = folder / "t.safetensors"
    save_file({f"{model}/{name}": torch.ones(2) for model in ("a", "b") for name in parameters}, path)
    return {job.name: job.depth for job in read_tensors(path)}


def test_depth_is_the_place_among_all_layers_of_the_file(tmp_path: Path) -> None:
    names = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in (0, 3, 12)]
    found = depths(tmp_path, "model.embed_tokens.weight", *names, "lm_head.weight")
    assert found == pytest.approx(
        {"model.embed_tokens.weight": 0.0, names[0]: 0.0, names[1]: 0.25, names[2]: 1.0, "lm_head.weight": 1.0}
    )


def test_numbers_that_are_no_layers_do_not_count(tmp_path: Path) -> None:
    found = depths(tmp_path, "model.layers.0.mlp.experts.7.w", "model.layers.2.mlp.experts.0.w", "model.layers.1.a")
    assert list(found.values()) == [0.0, 0.5, 1.0]


def test_a_file_without_layers_has_ends_only(tmp_path: Path) -> None:
    assert depths(tmp_path, "wte.weight", "w") == {"w": 1.0, "wte.weight": 0.0}


def test_the_random_models_have_two_layers() -> None:
    assert sorted({job.depth for job in read_tensors(None)}) == [0.0, 1.0]
