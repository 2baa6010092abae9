"""LoRA adapters as models: what peft's `save_pretrained` writes, added to a model while it is read, without a merged copy on disk.

Covered: Linear, Conv1D and Embedding modules, ranks and scales by pattern, rank-stabilised scales, modules saved whole, tied embeddings.
Not covered, and refused: adapters of other kinds, variants of LoRA that compute something else (DoRA), starts that change the model (PiSSA),
biases, convolutions, added tokens, pickles.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from blake3 import blake3
from torch import Tensor

from merges.adapter_config import CONFIG
from merges.adapter_files import WEIGHTS, AdapterFile, Product, read_adapter
from merges.checkpoints import Checkpoint
from merges.compiled import kernel
from merges.errors import CheckpointError
from merges.folders import INDEX, SINGLE, looks_like_hub_id
from merges.headers import Span
from merges.weights import Identity, View, Weights

__all__ = ["Adapted", "is_adapter"]

Factors = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]

_FACTOR_BYTES = 3 * 4
"""For each value of a factor: as stored, as float32, and in the order of the sums."""

_PIECE = 1024
"""Columns that are summed at a time: they stay in the cache nearest to the core for the whole of the sum."""


def is_adapter(folder: Path | str) -> bool:
    """Whether a folder holds an adapter and no whole model. False for a hub id: what that is shows when it has been fetched."""
    path = Path(folder).expanduser()
    whole = any((path / name).exists() for name in (SINGLE, INDEX))
    return (path / CONFIG).is_file() and not whole


class Adapted(View):
    """A model with an adapter added: its names, shapes and config; changed tensors are given in float32, scale * B @ A added to the model's, those
    that the adapter holds whole in its own dtype.

    A value's bits depend on the files alone, not on where the caller cuts, on threads or on the machine: each sum runs over the rank in order.
    A thread keeps the factors of the tensor that it read last, in float32.

    Attributes:
        origin: the model without the adapter.
    """

    def __init__(self, adapter: AdapterFile, origin: Weights, identity: Identity) -> None:
        changed = {
            **dict.fromkeys(adapter.products, torch.float32),
            **{name: span.dtype for name, span in adapter.whole.items()},
        }
        super().__init__(origin, dtypes={**origin.dtypes, **changed})
        self._identity = identity
        self._adapter = adapter
        self._held = threading.local()

    @classmethod
    def open(cls, folder: Path | str, origin: Weights) -> Adapted:
        """Put an adapter on a model, from a folder or a hub id; reads headers only, and the two copies of a tied embedding if there are any.

        Raises:
            CheckpointError: one line: no whole LoRA adapter, one of a kind that is not read, or one of another model.
        """
        try:
            path, commit = _located(folder)
            adapter = read_adapter(path, origin)
        except (OSError, RuntimeError) as error:  # unreadable folders, over-long names, the ~ of nobody
            what = getattr(error, "strerror", None) or error
            raise CheckpointError(
                f"{folder}: expected a readable adapter folder, got {what}; check the path"
            ) from error
        return cls(adapter, origin, _identity(str(folder), commit, adapter, origin))

    @property
    def identity(self) -> Identity:
        """Of the adapter; its `headers` are a hash over the config too, which decides the scale. `on` is the model's."""
        return self._identity

    @property
    def path(self) -> Path:
        """The adapter's folder."""
        return self._adapter.config.path.parent

    @property
    def paths(self) -> tuple[Path, ...]:
        """The adapter's weights and config, then the model's files."""
        return (self._adapter.file.path, self._adapter.config.path, *self.origin.paths)

    def read_part(self, name: str, start: int, stop: int, into: Tensor | None = None) -> Tensor:
        """Elements `start` to `stop` of a tensor in row-major order, as `Weights.read_part`."""
        stored = self._stored(name)
        if stored in self._adapter.whole:
            return self._adapter.file.read(self._adapter.whole[stored], start, stop, into)
        product = self._adapter.products.get(stored)
        if product is None:
            return self.origin.read_part(stored, start, stop, into)
        values = self._added(stored, product, start, stop)
        if product.before is None:
            values += self.origin.read_part(stored, start, stop).to(torch.float32)
        else:
            values += self._adapter.file.read(product.before, start, stop).to(torch.float32)
        return values if into is None else into[: stop - start].copy_(values)

    def change(self, name: str, start: int, stop: int, base: Weights) -> Tensor | None:
        """Where `base` is the model under the adapter: the product's part, zeros where the adapter has none; not a difference of rounded sums.

        None for another base, and for tensors that the adapter holds whole.
        """
        stored = self._stored(name)
        if not self._is_origin(base) or stored in self._adapter.whole:
            return None
        product = self._adapter.products.get(stored)
        if product is None:
            return torch.zeros(stop - start)
        values = self._added(stored, product, start, stop)
        if product.before is not None:
            before = self._adapter.file.read(product.before, start, stop).to(torch.float32)
            values += before - self.origin.read_part(stored, start, stop).to(torch.float32)
        return values

    def expect(self, name: str) -> None:
        """Tell the system that this tensor will be read soon, and what is added to it."""
        stored, file = self._stored(name), self._adapter.file
        if stored in self._adapter.whole:
            file.expect(self._adapter.whole[stored])
            return
        self.origin.expect(stored)
        product = self._adapter.products.get(stored)
        for span in (product.down, product.up, product.before) if product else ():
            if span is not None:
                file.expect(span)

    def held(self, name: str) -> int:
        """Of a changed tensor both factors, as they are read and as they are used."""
        stored = self._stored(name)
        product = self._adapter.products.get(stored)
        factors = product.down.elements + product.up.elements if product else 0
        return _FACTOR_BYTES * factors + self.origin.held(stored)

    def tied_duplicate(self) -> str | None:
        """The model's, unless the adapter changes it: a head that was trained apart is no duplicate any more."""
        twin = self.origin.tied_duplicate()
        return None if twin in self._adapter.products or twin in self._adapter.whole else twin

    def _added(self, stored: str, product: Product, start: int, stop: int) -> Tensor:
        """The product's elements `start` to `stop`: 1-D, float32, new."""
        left, right = self._factors(stored, product)
        values = np.empty(stop - start, np.float32)
        _multiply(left, right, np.float32(product.scale), start, values)
        return torch.from_numpy(values)

    def _factors(self, stored: str, product: Product) -> Factors:
        """[rows, rank] and [rank, columns] of the tensor as it lies; kept until the thread asks for another's."""
        held: tuple[str, Factors] | None = getattr(self._held, "factors", None)
        if held is None or held[0] != stored:
            self._held.factors = None  # before the next ones are read: never two
            up, down = self._matrix(product.up), self._matrix(product.down)
            left, right = (down.T, up.T) if product.transposed else (up, down)
            held = stored, (left.contiguous().numpy(), right.contiguous().numpy())
            self._held.factors = held
        return held[1]

    def _matrix(self, span: Span) -> Tensor:
        return self._adapter.file.read(span).reshape(span.shape).to(torch.float32)

    def _stored(self, name: str) -> str:
        stored = self.resolve(name)
        if stored is None:
            raise CheckpointError(
                f"tensor {name!r}: expected in {self.origin.path}, got none; is it the same architecture?"
            )
        return stored

    def _is_origin(self, base: Weights) -> bool:
        """A view with the origin's path may give other values, so a path speaks for folders alone."""
        folders = isinstance(base, Checkpoint) and isinstance(self.origin, Checkpoint)
        return base is self.origin or (folders and base.path == self.origin.path)


@kernel
def _multiply(
    left: npt.NDArray[np.float32],
    right: npt.NDArray[np.float32],
    scale: np.float32,
    start: int,
    values: npt.NDArray[np.float32],
) -> None:
    """Fill `values` with elements from `start` on of (left @ right) * scale, row-major; as in peft, the scale comes last."""
    rank, columns = right.shape
    done = 0
    while done < values.size:
        row, first = (start + done) // columns, (start + done) % columns
        size = min(_PIECE, columns - first, values.size - done)
        here = values[done : done + size]
        here[:] = np.float32(0)
        for k in range(rank):
            factor, line = left[row, k], right[k, first : first + size]
            for i in range(size):
                here[i] += factor * line[i]
        for i in range(size):
            here[i] *= scale
        done += size


def _located(given: Path | str) -> tuple[Path, str | None]:
    path = Path(given).expanduser()
    if path.is_dir():
        return path, None
    if path.exists():
        raise CheckpointError(
            f"{given}: expected an adapter folder or hub id, got a file; give the folder that holds it"
        )
    if isinstance(given, str) and looks_like_hub_id(given):
        from merges.hub import download  # slow to import, and most models are folders

        return download(given)
    raise CheckpointError(f"{given}: expected an adapter folder or hub id, got no such folder; check the path")


def _identity(given: str, commit: str | None, adapter: AdapterFile, origin: Weights) -> Identity:
    config = adapter.config
    header = adapter.file.header
    tensors = sorted((key, str(span.dtype), list(span.shape)) for key, span in header.spans.items())
    deciding = [config.path.read_text("utf-8", "replace"), [[WEIGHTS, header.bytes]], tensors]
    return Identity(given, commit, header.bytes, blake3(json.dumps(deciding).encode()).hexdigest(), on=origin.identity)
