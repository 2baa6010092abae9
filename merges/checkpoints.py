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
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3
from torch import Tensor

from merges.errors import CheckpointError
from merges.folders import looks_like_hub_id, read_json, weight_files
from merges.headers import Span
from merges.weight_file import WeightFile
from merges.weights import Identity, Weights

__all__ = ["Checkpoint", "Identity", "depth_of", "layer_count"]

LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(\d+)(?:\.|$)")
FIRST = re.compile(r"(?:^|\.)(?:embed\w*|tok_embeddings|shared|wte|wpe|word_embeddings\w*)(?:\.|$)")
HEAD = "lm_head.weight"
"""The output embedding, which a tied model shares with the input's."""
_quoted = json.JSONEncoder().encode
_EMBEDDINGS = (".embed_tokens.weight", ".wte.weight", ".embed_in.weight", ".word_embeddings.weight")


@dataclass(frozen=True)
class Checkpoint:
    """One model on disk: an index of its tensors, read lazily.

    Attributes:
        path: the folder.
        names: tensor names, in the order of the files and, inside a file, of the bytes.
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
    _open: Mapping[str, WeightFile] = field(default_factory=dict, repr=False, compare=False)

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
        opened = {file: WeightFile(path / file) for file in files}
        for file, wanted in files.items():
            header = opened[file].header
            unwanted = _unwanted(opened[file], wanted)
            shapes.update(_without(header.shapes, unwanted))
            dtypes.update(_without(header.dtypes, unwanted))
            where.update(dict.fromkeys(_without(header.shapes, unwanted), file))
        identity = _identity(str(given), commit, path, shapes, dtypes, sorted(files))
        return cls(path, tuple(shapes), shapes, dtypes, where, config, identity, opened)

    @cached_property
    def n_layers(self) -> int:
        """Number of layers: the highest layer number among the names plus one, or 0."""
        return layer_count(self.names)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The weight files, in the order of their names."""
        return tuple(self.path / file for file in sorted(self._open))

    @property
    def tied(self) -> bool:
        """True when the config says that output and input embeddings are one tensor."""
        return bool(self.config.get("tie_word_embeddings", False))

    def resolve(self, name: str) -> str | None:
        """The stored name behind `name`: itself, or the input embedding for a tied `lm_head.weight`, else None."""
        if name in self.shapes:
            return name
        return self._embedding() if self.tied and name == HEAD else None

    def tied_duplicate(self) -> str | None:
        """`lm_head.weight` where a tied model stores it a second time with the embedding's very bits, else None.

        Merged apart, the two copies could come to differ, and the tie would be broken in the output.
        """
        embedding = self._embedding() if self.tied and HEAD in self.shapes else None
        if embedding is None:
            return None
        return HEAD if torch.equal(self.read(HEAD), self.read(embedding)) else None

    def read(self, name: str) -> Tensor:
        """Read one tensor: a private copy on the CPU in the stored dtype; a tied `lm_head.weight` gives the embedding.

        Raises:
            CheckpointError: no such tensor, or the file can no longer be read.
        """
        file, span = self._find(name)
        return file.read(span).reshape(span.shape)

    def read_part(self, name: str, start: int, stop: int, into: Tensor | None = None) -> Tensor:
        """Elements `start` to `stop` of a tensor in row-major order, as `WeightFile.read` gives them."""
        file, span = self._find(name)
        return file.read(span, start, stop, into)

    def change(self, name: str, start: int, stop: int, base: Weights) -> Tensor | None:
        """None: the weights are what is stored."""
        return None

    def expect(self, name: str) -> None:
        """Tell the system that this tensor will be read soon."""
        file, span = self._find(name)
        file.expect(span)

    def held(self, name: str) -> int:
        """Nothing."""
        return 0

    def _find(self, name: str) -> tuple[WeightFile, Span]:
        stored = self.resolve(name)
        if stored is None:
            raise CheckpointError(f"tensor {name!r}: expected in {self.path}, got none; is it the same architecture?")
        file = self._open[self.files[stored]]
        return file, file.header.span(stored)

    def _embedding(self) -> str | None:
        return next((name for name in self.names if f".{name}".endswith(_EMBEDDINGS)), None)


def layer_count(names: Iterable[str]) -> int:
    """The highest layer number among parameter names plus one, or 0 where none has a number."""
    return max((int(match.group(1)) + 1 for match in map(LAYER.search, names) if match), default=0)


def depth_of(name: str, n_layers: int) -> float:
    """Position of a parameter in the model: 0.0 for the embedding and the first layer, 1.0 for the last and the head.

    Args:
        name: parameter name; the first number after ``layers.``, ``h.``, ``blocks.`` is its layer.
        n_layers: number of layers, >= 0.
    """
    match = LAYER.search(name)
    if match:
        return min(int(match.group(1)) / (n_layers - 1), 1.0) if n_layers > 1 else 0.0
    return 0.0 if FIRST.search(name) else 1.0


def _locate(given: str | Path) -> tuple[Path, str | None]:
    path = Path(given).expanduser()
    if path.is_dir():
        return path, None
    if path.exists():
        raise CheckpointError(f"{given}: expected a model folder or hub id, got a file; give the folder that holds it")
    if isinstance(given, str) and looks_like_hub_id(given):
        from merges.hub import download  # slow to import, and most models are folders

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


def _unwanted(file: WeightFile, names: frozenset[str] | None) -> frozenset[str]:
    """The tensors of a file that the index does not want; without an index all are wanted."""
    if names is None:
        return frozenset()
    held = file.header.shapes.keys()
    absent = sorted(names - held)
    if absent:
        raise CheckpointError(
            f"{file.path}: expected tensor {absent[0]!r} as its index says, got none; download it again"
        )
    return frozenset(held - names)


def _without(table: Mapping[str, Any], unwanted: frozenset[str]) -> Mapping[str, Any]:
    return {name: value for name, value in table.items() if name not in unwanted} if unwanted else table


def _identity(
    given: str,
    commit: str | None,
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, torch.dtype],
    files: list[str],
) -> Identity:
    sizes = [(file, (path / file).stat().st_size) for file in files]
    kinds = set(zip(dtypes.values(), shapes.values(), strict=True))
    texts = {kind: f'"{kind[0]}", {list(kind[1])}]' for kind in kinds}
    tensors = ", ".join(f"[{_quoted(name)}, {texts[dtypes[name], shapes[name]]}" for name in sorted(shapes))
    headers = blake3(f"[{json.dumps(sizes)}, [{tensors}]]".encode()).hexdigest()  # as json.dumps would write them
    return Identity(given, commit, sum(size for _, size in sizes), headers)
