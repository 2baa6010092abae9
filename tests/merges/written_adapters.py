"""Adapters and models written by hand: what peft writes, with whatever a test wants changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from merges.checkpoints import Checkpoint

K = "model.layers.0.self_attn.k_proj"
Q = "model.layers.0.self_attn.q_proj"
EMBEDDING = "model.embed_tokens.weight"
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none", "target_modules": ["k_proj"], "use_dora": False}


def factors(module: str, rows: int, columns: int, rank: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """Random A and B of one module, under their keys."""
    rng = torch.Generator().manual_seed(seed)
    return {
        f"base_model.model.{module}.lora_A.weight": torch.randn(rank, columns, generator=rng),
        f"base_model.model.{module}.lora_B.weight": torch.randn(rows, rank, generator=rng),
    }


def written(folder: Path, tensors: Mapping[str, Tensor], **config: Any) -> Path:
    """An adapter's folder; its config is `CONFIG` with these changes."""
    folder.mkdir(exist_ok=True)
    save_file(dict(tensors), folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    return folder


def model_of(folder: Path, tensors: Mapping[str, Tensor]) -> Checkpoint:
    """A model of these tensors."""
    folder.mkdir(exist_ok=True)
    save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text("{}")
    return Checkpoint.open(folder)


def flat(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1)


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(torch.uint8)
