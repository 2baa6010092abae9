"""An adapter's adapter_config.json: which ranks and scales its factors have, and whether they mean what LoRA means.

What a key means must be known here: an unknown one that is set is refused, for a later peft may compute something else with it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from merges.errors import CheckpointError
from merges.folders import read_json

__all__ = ["CONFIG", "AdapterConfig"]

CONFIG = "adapter_config.json"

_DECIDING = (
    "peft_type r lora_alpha rank_pattern alpha_pattern use_rslora fan_in_fan_out modules_to_save init_lora_weights"
)
_INDIFFERENT = (
    "auto_mapping base_model_name_or_path bias corda_config ensure_weight_tying eva_config exclude_modules inference_mode layers_pattern "
    "layers_to_transform loftq_config lora_dropout lora_ga_config megatron_config megatron_core modules_to_tie peft_version "
    "qalora_group_size revision runtime_config target_modules target_modules_to_tie task_type"
)
"""Where an adapter comes from, how it was trained, and which modules it has, which its file tells."""

_KNOWN = frozenset((_DECIDING + " " + _INDIFFERENT).split())

_STARTS = (True, False, None, "gaussian", "eva", "mica", "orthogonal")
"""Values of init_lora_weights that leave the model as it was; with others the factors add to a changed model."""

_LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class AdapterConfig:
    """What decides values.

    Attributes:
        path: the file.
        rank, alpha: of modules that no pattern fits.
        ranks, alphas: patterns with their values, in the order of the file; the first that fits counts, as when peft loads it (which sorts
            them as it saves: where two fit one module, it may have been trained with the other).
        stabilised: the scale is alpha / sqrt(rank), not alpha / rank (https://arxiv.org/abs/2312.03732).
        transposed: weights lie as [in, out].
        saved: ends of the names of modules that the file holds whole.
    """

    path: Path
    rank: int
    alpha: float
    ranks: tuple[tuple[re.Pattern[str], int], ...]
    alphas: tuple[tuple[re.Pattern[str], float], ...]
    stabilised: bool
    transposed: bool
    saved: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> AdapterConfig:
        """Read and check the config of an adapter's folder.

        Raises:
            CheckpointError: none there, not readable, or of an adapter that is not plain LoRA.
        """
        path = folder / CONFIG
        if not path.exists():
            raise CheckpointError(
                f"{folder}: expected an adapter's {CONFIG}, got none; give a folder that peft's save_pretrained wrote"
            )
        table = read_json(path, f"an adapter's {CONFIG}")
        _check_plain(path, table)

        def value(key: str, default: Any, fits: Callable[[Any], bool], expected: str) -> Any:
            found = default if table.get(key) is None else table[key]
            if not fits(found):
                raise CheckpointError(f"{path}: expected {key} to be {expected}, got {found!r}; save the adapter again")
            return found

        ranks = value("rank_pattern", {}, _table_of(_is_rank), "an object of whole numbers from 1 on")
        alphas = value("alpha_pattern", {}, _table_of(_is_finite), "an object of finite numbers")
        return cls(
            path,
            rank=value("r", 8, _is_rank, "a whole number from 1 on"),
            alpha=value("lora_alpha", 8, _is_finite, "a finite number"),
            ranks=tuple((_compiled(path, text), rank) for text, rank in ranks.items()),
            alphas=tuple((_compiled(path, text), alpha) for text, alpha in alphas.items()),
            stabilised=value("use_rslora", False, _is_bool, "true or false"),
            transposed=value("fan_in_fan_out", False, _is_bool, "true or false"),
            saved=tuple(value("modules_to_save", [], _is_texts, "a list of names")),
        )

    def rank_of(self, module: str) -> int:
        """The rank that a module's factors must have."""
        return next((rank for pattern, rank in self.ranks if pattern.match(module)), self.rank)

    def scale_of(self, module: str) -> float:
        """What a module's product is multiplied by; its rank must be known to be the factors', so that it is no absurd number."""
        alpha = next((alpha for pattern, alpha in self.alphas if pattern.match(module)), self.alpha)
        rank = self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.stabilised else rank)

    def saves(self, name: str) -> bool:
        """Whether a tensor belongs to a module that is saved whole; as in peft, the end of the module's name decides."""
        parts = name.split(".")
        modules = (".".join(parts[:end]) for end in range(1, len(parts)))
        return bool(self.saved) and any(module.endswith(self.saved) for module in modules)


def _check_plain(path: Path, table: Mapping[str, Any]) -> None:
    kind = table.get("peft_type")
    if kind != "LORA":
        raise CheckpointError(
            f"{path}: expected an adapter of peft_type 'LORA', got {kind!r}; merge it into its model with peft first"
        )
    strange = sorted(key for key, value in table.items() if value and key not in _KNOWN)
    if strange:
        raise CheckpointError(
            f"{path}: expected plain LoRA, got {strange[0]} = {table[strange[0]]!r}; merge it into its model with peft first"
        )
    start = table.get("init_lora_weights")
    if start not in _STARTS:
        raise CheckpointError(
            f"{path}: expected factors that add to the model as it was, got init_lora_weights = {start!r}, which changes the model too; "
            "save the adapter again with path_initial_model_for_weight_conversion"
        )


def _compiled(path: Path, text: str) -> re.Pattern[str]:
    """peft's `get_pattern_key`."""
    try:
        return re.compile(rf"(.*\.)?({text})$")
    except (re.error, OverflowError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: expected regular expressions as patterns, got {text!r} ({error}); save the adapter again"
        ) from error


def _is_rank(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and -_LARGEST <= value <= _LARGEST


def _is_bool(value: Any) -> bool:
    return type(value) is bool


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _table_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(fits(entry) for entry in value.values())
