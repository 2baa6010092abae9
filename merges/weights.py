"""What a merge reads of a model: names and shapes first, values part by part. A folder of safetensors is one such (`Checkpoint`); others are
views that compute or rearrange what they give: a LoRA adapter on a model, layers in another order, an embedding for another vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["Identity", "View", "Weights"]


@dataclass(frozen=True)
class Identity:
    """What a checkpoint was, for provenance.

    Attributes:
        given: the path or hub id as the user wrote it.
        commit: the hub's commit, or None for a folder.
        bytes: size of the weight files together.
        headers: BLAKE3 (hex) over names, dtypes, shapes of all tensors and the sizes of the weight files; it does not
            cover the weights themselves.
        on: of an adapter, the model that it is on; None for a whole model.
    """

    given: str
    commit: str | None
    bytes: int
    headers: str
    on: Identity | None = None

    def __str__(self) -> str:
        """The model as a recipe would name it."""
        return f"{self.on}+{self.given}" if self.on else self.given


class Weights(Protocol):
    """A model's parameters.

    Attributes:
        path: the folder it comes from, which error messages name.
        names: tensor names, in the order in which they are best read.
        shapes, dtypes: name -> shape, and dtype in which values are given.
        config: the parsed config.json.
        identity: for provenance.
    """

    @property
    def identity(self) -> Identity: ...
    @property
    def path(self) -> Path: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...
    @property
    def dtypes(self) -> Mapping[str, torch.dtype]: ...
    @property
    def config(self) -> Mapping[str, Any]: ...
    @property
    def n_layers(self) -> int: ...

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files that decide the values."""

    def resolve(self, name: str) -> str | None:
        """The name in `shapes` behind `name` (a tied head is the embedding), or None."""

    def read(self, name: str) -> Tensor:
        """One tensor, a private copy on the CPU.

        Raises:
            CheckpointError: no such tensor, or a file cannot be read.
        """

    def read_part(self, name: str, start: int, stop: int, into: Tensor | None = None) -> Tensor:
        """Elements `start` to `stop` in row-major order: 1-D, in `into` (of this dtype, with room for them) where it is given."""

    def change(self, name: str, start: int, stop: int, base: Weights) -> Tensor | None:
        """The same part of the task vector over `base` as float32, where it is known by itself (an adapter's product), else None."""

    def expect(self, name: str) -> None:
        """Tell the system that this tensor will be read soon."""

    def held(self, name: str) -> int:
        """Bytes that a thread keeps while it reads this tensor, beside what it asked for."""

    def tied_duplicate(self) -> str | None:
        """`lm_head.weight` where a tied model has it beside the embedding, with the same bits, else None; may read both."""


class View:
    """Weights that come from others; a kind of view overrides what it changes.

    Args:
        origin: what they come from.
        shapes, dtypes: name -> shape, dtype, where they are others than the origin's.
    """

    def __init__(
        self,
        origin: Weights,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        dtypes: Mapping[str, torch.dtype] | None = None,
    ) -> None:
        self.origin = origin
        self._shapes = origin.shapes if shapes is None else shapes
        self._dtypes = origin.dtypes if dtypes is None else dtypes
        self._names = origin.names if shapes is None else tuple(shapes)

    @property
    def identity(self) -> Identity:
        return self.origin.identity

    @property
    def path(self) -> Path:
        return self.origin.path

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._shapes

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        return self._dtypes

    @property
    def config(self) -> Mapping[str, Any]:
        return self.origin.config

    @property
    def n_layers(self) -> int:
        return self.origin.n_layers

    @property
    def paths(self) -> tuple[Path, ...]:
        return self.origin.paths

    def resolve(self, name: str) -> str | None:
        return self.origin.resolve(name)

    def read(self, name: str) -> Tensor:
        shape = self.shapes[self.resolve(name) or name]
        return self.read_part(name, 0, torch.Size(shape).numel()).clone().reshape(shape)

    def read_part(self, name: str, start: int, stop: int, into: Tensor | None = None) -> Tensor:
        return self.origin.read_part(name, start, stop, into)

    def change(self, name: str, start: int, stop: int, base: Weights) -> Tensor | None:
        return self.origin.change(name, start, stop, base)

    def expect(self, name: str) -> None:
        self.origin.expect(name)

    def held(self, name: str) -> int:
        return self.origin.held(name)

    def tied_duplicate(self) -> str | None:
        return self.origin.tied_duplicate()
