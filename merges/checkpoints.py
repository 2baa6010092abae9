"""Model folders and hub ids, read as safetensors and nothing else.

Covered: one file or shards with an index, tied output embeddings, a folder or a hub id. Not covered on purpose:
pickled weights (reading them runs code), custom model code (`trust_remote_code` does not exist here), GGUF.

Every failure of a file, a parser or the network is translated here into one `CheckpointError` line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3
from safetensors import SafetensorError, safe_open
from torch import Tensor

from merges.errors import CheckpointError
from merges.folders import read_json, weight_files
from merges.hub import download, looks_like_hub_id

__all__ = ["Checkpoint", "Identity", "depth_of", "layer_count"]

_LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(\d+)(?:\.|$)")
_FIRST = re.compile(r"(?:^|\.)(?:embed\w*|wte|wpe|word_embeddings\w*)(?:\.|$)")
_HEAD = "lm_head.weight"
_EMBEDDINGS = (".embed_tokens.weight", ".wte.weight", ".embed_in.weight", ".word_embeddings.weight")

_DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Identity:
    """What a checkpoint was, for provenance.

    Attributes:
        given: the path or hub id as the user wrote it.
        commit: the hub's commit, or None for a folder.
        bytes: size of the weight files together.
        headers: BLAKE3 (hex) over names, dtypes, shapes of all tensors and the sizes of the weight files; it does not
            cover the weights themselves.
    """

    given: str
    commit: str | None
    bytes: int
    headers: str


@dataclass(frozen=True)
class Checkpoint:
    """One model on disk: an index of its tensors, read lazily.

    Attributes:
        path: the folder.
        names: tensor names, in the order of the files and, inside a file, of its header.
        shapes: name -> shape.
        dtypes: name -> torch dtype as stored.
        files: name -> file name inside the folder.
        config: the parsed config.json.
        identity: see `Identity`.
    """

    path: Path
    names: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, torch.dtype]
    files: Mapping[str, str]
    config: Mapping[str, Any]
    identity: Identity
    _open: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, given: str | Path) -> Checkpoint:
        """Index a model folder, or download a hub id (safetensors, JSON and tokenizer files only) and index that.

        Raises:
            CheckpointError: one line: what was expected, what was found, what to do.
        """
        try:
            path, commit = _locate(given)
            config = read_json(path / "config.json", "a model's config.json")
            files = weight_files(path)
        except (OSError, RuntimeError) as error:  # unreadable folders, over-long names, the ~ of nobody
            what = getattr(error, "strerror", None) or error
            raise CheckpointError(f"{given}: expected a readable model folder, got {what}; check the path") from error
        _check_plain(given, config)
        shapes: dict[str, tuple[int, ...]] = {}
        dtypes: dict[str, torch.dtype] = {}
        where: dict[str, str] = {}
        opened: dict[str, Any] = {}
        for file, wanted in files.items():
            opened[file] = _open_file(path / file)
            for name, shape, dtype in _entries(path / file, opened[file], wanted):
                shapes[name], dtypes[name], where[name] = shape, dtype, file
        identity = _identity(str(given), commit, path, shapes, dtypes, sorted(files))
        return cls(path, tuple(shapes), shapes, dtypes, where, config, identity, opened)

    @property
    def n_layers(self) -> int:
        """Number of layers: the highest layer number among the names plus one, or 0."""
        return layer_count(self.names)

    @property
    def tied(self) -> bool:
        """True when the config says that output and input embeddings are one tensor."""
        return bool(self.config.get("tie_word_embeddings", False))

    def resolve(self, name: str) -> str | None:
        """The stored name behind `name`: itself, or the input embedding for a tied `lm_head.weight`, else None."""
        if name in self.shapes:
            return name
        return self._embedding() if self.tied and name == _HEAD else None

    def tied_duplicate(self) -> str | None:
        """`lm_head.weight` where a tied model stores it a second time with the embedding's very bits, else None.

        Merged apart, the two copies could come to differ, and the tie would be broken in the output.
        """
        embedding = self._embedding()
        if not self.tied or _HEAD not in self.shapes or embedding is None:
            return None
        return _HEAD if torch.equal(self.read(_HEAD), self.read(embedding)) else None

    def read(self, name: str) -> Tensor:
        """Read one tensor: a private copy on the CPU in the stored dtype; a tied `lm_head.weight` gives the embedding.

        Raises:
            CheckpointError: no such tensor, or the file can no longer be read.
        """
        stored = self.resolve(name)
        if stored is None:
            raise CheckpointError(f"tensor {name!r}: expected in {self.path}, got none; is it the same architecture?")
        try:
            # safe_open maps the file: without the copy a file changed on disk would change the tensor.
            tensor: Tensor = self._open[self.files[stored]].get_tensor(stored).clone()
        except (SafetensorError, OSError) as error:
            raise _unreadable(self.path / self.files[stored], error) from error
        return tensor

    def _embedding(self) -> str | None:
        return next((name for name in self.names if f".{name}".endswith(_EMBEDDINGS)), None)


def layer_count(names: Iterable[str]) -> int:
    """The highest layer number among parameter names plus one, or 0 where none has a number."""
    return max((int(match.group(1)) + 1 for match in map(_LAYER.search, names) if match), default=0)


def depth_of(name: str, n_layers: int) -> float:
    """Position of a parameter in the model: 0.0 for the embedding and the first layer, 1.0 for the last and the head.

    Args:
        name: parameter name; the first number after ``layers.``, ``h.``, ``blocks.`` is its layer.
        n_layers: number of layers, >= 0.
    """
    match = _LAYER.search(name)
    if match:
        return min(int(match.group(1)) / (n_layers - 1), 1.0) if n_layers > 1 else 0.0
    return 0.0 if _FIRST.search(name) else 1.0


def _locate(given: str | Path) -> tuple[Path, str | None]:
    path = Path(given).expanduser()
    if path.is_dir():
        return path, None
    if path.exists():
        raise CheckpointError(f"{given}: expected a model folder or hub id, got a file; give the folder that holds it")
    if isinstance(given, str) and looks_like_hub_id(given):
        return download(given)
    raise CheckpointError(f"{given}: expected a model folder or hub id, got no such folder; check the path")


def _check_plain(given: str | Path, config: Mapping[str, Any]) -> None:
    quantised = config.get("quantization_config")
    if quantised:
        method = quantised.get("quant_method", "unknown") if isinstance(quantised, dict) else "unknown"
        raise CheckpointError(
            f"{given}: expected plain weights, got quantised ones ({method}), whose numbers mean nothing without their "
            "scales; dequantise the model first"
        )


def _open_file(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _entries(path: Path, handle: Any, wanted: frozenset[str] | None) -> list[tuple[str, tuple[int, ...], torch.dtype]]:
    names = list(handle.offset_keys())
    absent = sorted(wanted.difference(names)) if wanted is not None else []
    if absent:
        raise CheckpointError(f"{path}: expected tensor {absent[0]!r} as its index says, got none; download it again")
    entries = []
    for name in names:
        if wanted is not None and name not in wanted:
            continue
        view = handle.get_slice(name)
        dtype = view.get_dtype()
        if dtype not in _DTYPES:
            raise CheckpointError(f"{path}: tensor {name!r}: expected a known dtype, got {dtype}; convert it first")
        entries.append((name, tuple(view.get_shape()), _DTYPES[dtype]))
    return entries


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: expected a whole safetensors file, got a corrupt one ({error}); download it again")


def _identity(
    given: str,
    commit: str | None,
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, torch.dtype],
    files: list[str],
) -> Identity:
    sizes = [(file, (path / file).stat().st_size) for file in files]
    tensors = [(name, str(dtypes[name]), list(shapes[name])) for name in sorted(shapes)]
    headers = blake3(json.dumps([sizes, tensors]).encode()).hexdigest()
    return Identity(given, commit, sum(size for _, size in sizes), headers)
