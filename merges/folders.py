"""What a user may mean by a model, and which files of its folder hold the weights: decided from the listing and the shard index alone.

An index is somebody else's text: a file name in it must be a plain name, so it can lead nowhere outside the folder.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from merges.errors import CheckpointError

__all__ = ["looks_like_hub_id", "read_json", "weight_files"]

MAX_JSON_BYTES = 128 * 1024 * 1024
"""Largest config or index that is parsed; the index of a 20,000-tensor mixture of experts has 2 MB."""

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(?:@[\w./-]{1,255})?")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")


def looks_like_hub_id(text: str) -> bool:
    """True for ``owner/name`` and ``owner/name@revision``."""
    return _HUB_ID.fullmatch(text) is not None


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object from a file that may be anything.

    Raises:
        CheckpointError: missing, too large, not JSON, not an object.
    """
    try:
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path}: expected {what}, got no regular file; give a Hugging Face model folder")
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise CheckpointError(
                f"{path}: expected {what} of at most {MAX_JSON_BYTES} bytes, got {size}; check the file"
            )
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent}: expected {what}, got none; give a Hugging Face model folder") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected {what}, got unreadable JSON ({error}); download it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected {what} with an object, got {type(value).__name__}; download it again")
    return value


def weight_files(path: Path) -> dict[str, frozenset[str] | None]:
    """Find the safetensors files of a model folder.

    Returns:
        File name -> the tensors that the index wants from it, or None for all of them.

    Raises:
        CheckpointError: no weights, pickled weights only, an adapter, shards without index or not all there.
    """
    if (path / INDEX).exists():
        return _indexed(path)
    if (path / SINGLE).is_file():
        return {SINGLE: None}
    present = sorted(entry.name for entry in path.iterdir() if entry.is_file())
    tensors = [name for name in present if name.endswith(".safetensors")]
    if "adapter_config.json" in present:
        raise CheckpointError(
            f"{path}: expected a whole model, got a LoRA adapter; give it as an expert, or as MODEL+ADAPTER in a recipe"
        )
    if len(tensors) == 1:
        return {tensors[0]: None}
    if tensors:
        raise CheckpointError(f"{path}: expected {INDEX} beside {len(tensors)} shards, got none; download it too")
    pickles = [name for name in present if name.endswith(_PICKLES)]
    if pickles:
        raise CheckpointError(
            f"{path}: expected safetensors, got only pickled weights ({pickles[0]}), which can run code when read; "
            "get the model's safetensors revision or convert it on a machine you can lose"
        )
    raise CheckpointError(f"{path}: expected *.safetensors, got none; give a Hugging Face model folder")


def _indexed(path: Path) -> dict[str, frozenset[str] | None]:
    weight_map = read_json(path / INDEX, "a shard index").get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path / INDEX}: expected a weight_map, got none; download the index again")
    wanted: dict[str, list[str]] = {}
    for name, file in weight_map.items():
        known = wanted.get(file) if isinstance(file, str) else None
        if known is None:
            if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
                raise CheckpointError(
                    f"{path / INDEX}: expected plain *.safetensors file names, got {file!r} for {name!r}; "
                    "download the index again"
                )
            known = wanted[file] = []
        known.append(name)
    missing = sorted(file for file in wanted if not (path / file).is_file())
    if missing:
        raise CheckpointError(
            f"{path}: expected {len(wanted)} shards, got {len(wanted) - len(missing)} "
            f"({missing[0]} is missing); finish the download"
        )
    return {file: frozenset(wanted[file]) for file in sorted(wanted)}
