"""Files that do not fit their config or their model are refused, each in one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from merges.adapters import Adapted
from merges.checkpoints import Checkpoint
from merges.errors import CheckpointError
from tests.merges.written_adapters import CONFIG, EMBEDDING, K, Q, factors, model_of, written

A, B = (f"base_model.model.{K}.lora_{side}.weight" for side in "AB")
HEAD = "base_model.model.lm_head.weight"
FILE_REFUSALS: Mapping[str, tuple[Callable[[Checkpoint], dict[str, Tensor | None]], dict[str, Any], str]] = {
    "no_A": (lambda base: {A: None}, {}, rf"module '{K}': expected lora_A and lora_B, got no lora_A; save the adapter again$"),
    "no_B": (lambda base: {B: None}, {}, rf"module '{K}': expected lora_A and lora_B, got no lora_B; save the adapter again$"),
    "half_an_embedding": (
        lambda base: {"base_model.model.model.embed_tokens.lora_embedding_B": torch.ones(16, 2)},
        {},
        r"module 'model.embed_tokens': expected lora_embedding_A and lora_embedding_B, got no lora_embedding_A; save",
    ),
    "rank": (lambda base: {}, {"r": 3}, rf"module '{K}': expected A and B of rank 3 as in adapter_config.json, got shapes \(2, 16\) and \(8, 2\); use"),
    "rank_of_pattern": (lambda base: {}, {"rank_pattern": {"k_proj": 4}}, rf"module '{K}': expected A and B of rank 4 as in adapter"),
    "rank_of_one": (lambda base: {B: torch.ones(8, 3)}, {}, r".*expected A and B of rank 2 as in adapter_config.json, got shapes \(2, 16\) and \(8, 3\); use the config that was saved with the file$"),
    "rows": (
        lambda base: {B: torch.ones(9, 2)},
        {},
        rf"module '{K}': expected A of shape \[rank, in\] and B of shape \[out, rank\] that fit the weight's \(8, 16\), "
        r"got \(2, 16\) and \(9, 2\); give the model that the adapter was trained on$",
    ),
    "columns": (lambda base: {A: torch.ones(2, 15)}, {}, r".*that fit the weight's \(8, 16\), got \(2, 15\) and \(8, 2\); give the model"),
    "convolution": (lambda base: {A: torch.ones(2, 16, 1, 1), B: torch.ones(8, 2, 1, 1)}, {}, r".*that fit the weight's \(8, 16\), got \(2, 16, 1, 1\) and"),
    "one_dimension": (lambda base: {A: torch.ones(2), B: torch.ones(8, 2)}, {}, r".*that fit the weight's \(8, 16\), got \(2,\) and \(8, 2\); give"),
    "no_dimension": (lambda base: {A: torch.tensor(1.0)}, {}, r".*expected A and B of rank 2 as in adapter_config.json, got shapes \(\) and \(8, 2\); use"),
    "vector": (
        lambda base: {f"base_model.model.model.norm.lora_{side}.weight": torch.ones(shape) for side, shape in {"A": (2, 16), "B": (16, 2)}.items()},
        {},
        r"module 'model.norm': expected A of shape .* that fit the weight's \(16,\), got \(2, 16\) and \(16, 2\); give",
    ),
    "embedding_unturned": (
        lambda base: {f"base_model.model.model.embed_tokens.lora_embedding_{side}": torch.ones(shape)
                      for side, shape in {"A": (2, 16), "B": (base.shapes[EMBEDDING][0], 2)}.items()},
        {},
        r"module 'model.embed_tokens': expected A of shape .* that fit the weight's \(\d+, 16\), got \(2, 16\) and \(\d+, 2\); give",
    ),
    "other_module": (
        lambda base: factors("model.layers.9.mlp.up_proj", 24, 16),
        {},
        r"tensor 'model.layers.9.mlp.up_proj.weight': expected in the model .*/base, got none; give the model that the adapter was trained on$",
    ),
    "unknown_key": (
        lambda base: {f"base_model.model.{K}.lora_magnitude_vector": torch.ones(8)},
        {},
        rf"expected only lora_A, lora_B and saved modules, got 'base_model.model.{K}.lora_magnitude_vector'; merge the adapter into its model with peft first$",
    ),
    "other_prefix": (lambda base: {f"{K}.lora_A.weight": torch.ones(2, 16)}, {}, rf"expected only lora_A, lora_B and saved modules, got '{K}.lora_A.weight'; merge"),
    "unasked_weight": (lambda base: {"base_model.model.model.norm.weight": torch.ones(16)}, {}, r"expected only lora_A, .*, got 'base_model.model.model.norm.weight'; merge"),
    "lone_copy": (lambda base: {f"base_model.model.{Q}.base_layer.weight": torch.ones(16, 16)}, {}, rf"expected only lora_A, .*, got 'base_model.model.{Q}.base_layer.weight'; merge"),
    "bias": (lambda base: {f"base_model.model.{K}.base_layer.bias": torch.ones(8)}, {"bias": "all"}, rf"expected no trained biases, got 'base_model.model.{K}.base_layer.bias'; merge"),
    "two_adapters": (
        lambda base: {A.replace(".weight", ".other.weight"): torch.ones(2, 16)},
        {},
        rf"module '{K}': expected one lora_A, got two; save one adapter alone$",
    ),
    "integers": (lambda base: {A: torch.ones(2, 16, dtype=torch.int8)}, {}, rf"tensor '{A}': expected floating-point values, got torch.int8; save the adapter again unquantised$"),
    "saved_missing": (
        lambda base: {},
        {"modules_to_save": ["lm_head"]},
        r"expected tensor 'lm_head.weight', which modules_to_save names, got none; save the adapter again$",
    ),
    "saved_foreign": (
        lambda base: {"base_model.model.score.weight": torch.ones(2, 16)},
        {"modules_to_save": ["score"]},
        r"tensor 'score.weight': expected in the model .*/base, got none; give the model that",
    ),
    "saved_and_adapted": (
        lambda base: {f"base_model.model.{K}.weight": torch.ones(8, 16)},
        {"modules_to_save": ["layers.0.self_attn.k_proj"]},
        rf"tensor '{K}.weight': expected one change of it, got lora_A and lora_B beside a whole tensor; save the adapter again$",
    ),
    "more_tokens": (
        lambda base: {HEAD: torch.ones(50, 16)},
        {},
        r"tensor 'lm_head.weight': expected shape \(\d+, 16\) as in the model, got \(50, 16\); resize the model's embeddings first, or",
    ),
    "copy_of_another_shape": (
        lambda base: {f"base_model.model.{K}.base_layer.weight": torch.ones(16, 8)},
        {},
        rf"tensor '{K}.base_layer.weight': expected shape \(8, 16\) as in the model, got \(16, 8\); resize",
    ),
    "linear_and_embedding": (
        lambda base: {f"base_model.model.{K}.lora_embedding_{side}": torch.ones(shape) for side, shape in {"A": (2, 8), "B": (16, 2)}.items()},
        {},
        rf"tensor '{K}.weight': expected one change of it, got those of '{K}' and '{K}'; untie the model's head or save the",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FILE_REFUSALS)
def test_file_that_does_not_fit_is_refused_in_one_line(tmp_path: Path, base: Checkpoint, case: str) -> None:
    edit, config, message = FILE_REFUSALS[case]
    tensors = {key: tensor for key, tensor in {**factors(K, 8, 16), **edit(base)}.items() if tensor is not None}
    folder = written(tmp_path / "adapter", tensors, **config)
    with pytest.raises(CheckpointError, match=rf"^{folder}/adapter_model.safetensors: {message}") as caught:
        Adapted.open(folder, base)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("whole", "got"),
    [
        ({EMBEDDING: 1.0}, "one of them"),
        ({"lm_head.weight": 1.0}, "one of them"),
        ({EMBEDDING: 1.0, "lm_head.weight": 2.0}, "two different ones"),
    ],
)
def test_adapter_that_unties_a_tied_model_is_refused(
    tmp_path: Path, tied: Checkpoint, whole: dict[str, float], got: str
) -> None:
    tensors = {f"base_model.model.{name}": torch.full(tied.shapes[EMBEDDING], value) for name, value in whole.items()}
    folder = written(tmp_path / "adapter", factors(K, 8, 16) | tensors)
    message = rf"expected '{EMBEDDING}' and 'lm_head.weight' saved with the same bits, or neither, .*, got {got}; untie the model first$"
    with pytest.raises(CheckpointError, match=message):
        Adapted.open(folder, tied)


def test_tied_copies_that_differ_in_their_last_value_or_dtype_are_refused(
    tmp_path: Path, tied: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merges.adapter_files.COMPARED_ELEMENTS", 7)
    one = torch.ones(tied.shapes[EMBEDDING])
    other = one.clone()
    other[-1, -1] = 1.5
    zeros = torch.zeros_like(one)
    for embedding, head in ((one, other), (zeros.to(torch.bfloat16), zeros.to(torch.float16))):
        folder = written(tmp_path / "adapter", {f"base_model.model.{EMBEDDING}": embedding, HEAD: head})
        with pytest.raises(CheckpointError, match=r"got two different ones; untie the model first$"):
            Adapted.open(folder, tied)


def test_embedding_and_tied_head_both_adapted_are_refused(tmp_path: Path, tied: Checkpoint) -> None:
    rows = tied.shapes[EMBEDDING][0]
    embedding = {f"base_model.model.model.embed_tokens.lora_embedding_{side}": torch.ones(shape) for side, shape in {"A": (2, rows), "B": (16, 2)}.items()}  # fmt: skip
    folder = written(tmp_path / "adapter", embedding | factors("lm_head", rows, 16))
    message = rf"tensor '{EMBEDDING}': expected one change of it, got those of '.*' and '.*'; untie the model's head or save the adapter again$"
    with pytest.raises(CheckpointError, match=message):
        Adapted.open(folder, tied)


def test_square_weight_whose_config_is_wrong_for_others_is_refused(tmp_path: Path, base: Checkpoint) -> None:
    folder = written(tmp_path / "adapter", factors(K, 8, 16) | factors(Q, 16, 16), fan_in_fan_out=True)
    message = rf"^{folder}/adapter_config.json: expected fan_in_fan_out to tell how the square weight of '{Q}' lies, got true, which is wrong for '{K}'; merge the adapter into its model with peft first$"
    with pytest.raises(CheckpointError, match=message):
        Adapted.open(folder, base)


def test_quantised_weight_is_refused(tmp_path: Path) -> None:
    origin = model_of(tmp_path / "model", {"a.weight": torch.ones(8, 16, dtype=torch.int8)})
    folder = written(tmp_path / "adapter", factors("a", 8, 16))
    with pytest.raises(
        CheckpointError,
        match=r"^tensor 'a.weight': expected floating-point values in .*/model, got torch.int8; dequantise the model first$",
    ):
        Adapted.open(folder, origin)


def test_folder_that_is_no_adapter_is_refused_in_one_line(tmp_path: Path, base: Checkpoint) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()

    def refused(given: Path | str, message: str) -> None:
        with pytest.raises(CheckpointError, match=message):
            Adapted.open(given, base)

    refused(
        folder,
        rf"^{folder}: expected an adapter's adapter_config.json, got none; give a folder that peft's save_pretrained wrote$",
    )
    (folder / "adapter_config.json").write_text("{")
    refused(
        folder,
        rf"^{folder}/adapter_config.json: expected an adapter's adapter_config.json, got unreadable JSON \(.*\); download it again$",
    )
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    refused(
        folder,
        rf"^{folder}/adapter_model.safetensors: expected a readable safetensors file, got No such file or directory; check the path$",
    )
    (folder / "adapter_model.bin").write_bytes(b"pickle")
    refused(
        folder,
        rf"^{folder}: expected adapter_model.safetensors, got only pickled weights \(adapter_model.bin\), which can run code when read; save",
    )
    (folder / "adapter_model.safetensors").write_bytes(b"\x00" * 20)
    refused(folder, rf"^{folder}/adapter_model.safetensors: expected a whole safetensors file, got a corrupt one")
    refused(
        folder / "adapter_config.json",
        r"^.*: expected an adapter folder or hub id, got a file; give the folder that holds it$",
    )
    refused(
        folder / "nothing", r"^.*/nothing: expected an adapter folder or hub id, got no such folder; check the path$"
    )
    refused("x" * 5000, r"^x+….*: expected a readable adapter folder, got File name too long; check the path$")
    refused("~nobody-at-all/x", r"^~nobody-at-all/x: expected a readable adapter folder, got .*; check the path$")
