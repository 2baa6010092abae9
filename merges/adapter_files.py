"""What an adapter's weight file holds, checked against the model that it is put on: which tensors change, and by what.

peft's `save_pretrained` writes two factors for every changed module, whole tensors for modules that were trained as they are, and copies of
embeddings that it changes or that have grown. Every key of the file is accounted for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from merges.adapter_config import AdapterConfig
from merges.errors import CheckpointError
from merges.headers import Span
from merges.weight_file import WeightFile
from merges.weights import Weights

__all__ = ["WEIGHTS", "AdapterFile", "Product", "read_adapter"]

WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"

COMPARED_ELEMENTS = 1 << 20
"""At a time, of two tensors that must be the same."""

_PREFIX = "base_model.model."
_FACTOR = re.compile(r"(.+)\.(lora)_([AB])(?:\.[^.]+)?\.weight|(.+)\.(lora_embedding)_([AB])(?:\.[^.]+)?")
"""Module, kind, which of the two; an adapter's name may stand behind."""
_COPY = ".base_layer.weight"
_HEAD = "lm_head.weight"
_EMBEDDINGS = ("embed_tokens.weight", "embed_in.weight", "embed_out.weight", "word_embeddings.weight", "wte.weight")


@dataclass(frozen=True)
class Product:
    """One tensor's change: scale * up @ down, or the transpose of that.

    Attributes:
        module: whose it is.
        down: lora_A, [rank, in].
        up: lora_B, [out, rank].
        scale: see `AdapterConfig.scale_of`.
        transposed: the tensor lies as [in, out].
        before: the tensor as it was before the change, where the file has a copy of it; None: the model's.
    """

    module: str
    down: Span
    up: Span
    scale: float
    transposed: bool
    before: Span | None = None


@dataclass(frozen=True)
class AdapterFile:
    """An adapter that fits its model.

    Attributes:
        config: see there.
        file: the open weight file.
        products: tensor of the model -> its change.
        whole: tensor of the model -> what takes its place.
    """

    config: AdapterConfig
    file: WeightFile
    products: Mapping[str, Product]
    whole: Mapping[str, Span]


def read_adapter(folder: Path, origin: Weights) -> AdapterFile:
    """Read an adapter's config and the header of its weight file. Of the values, only the two copies of a tied embedding are compared.

    Raises:
        CheckpointError: not a whole adapter, not of a kind that is read, or not one of this model.
    """
    config = AdapterConfig.read(folder)
    if not (folder / WEIGHTS).exists() and (folder / PICKLE).exists():
        raise CheckpointError(
            f"{folder}: expected {WEIGHTS}, got only pickled weights ({PICKLE}), which can run code when read; "
            "save the adapter again as safetensors on a machine you can lose"
        )
    file = WeightFile(folder / WEIGHTS)
    found = _Sorted(file, config)
    products = _products(found, config, origin)
    whole = _whole(found, config, origin)
    both = sorted(products.keys() & whole.keys())
    if both:
        raise CheckpointError(
            f"{file.path}: tensor {both[0]!r}: expected one change of it, got lora_A and lora_B beside a whole tensor; save the adapter again"
        )
    return AdapterFile(config, file, products, whole)


class _Sorted:
    """The file's keys by what they are.

    Attributes:
        factors: (module, kind) -> {"A": span, "B": span}, either of them perhaps missing.
        copies: module -> the copy of its weight.
        whole: tensor -> span.
    """

    def __init__(self, file: WeightFile, config: AdapterConfig) -> None:
        self.file = file
        self.factors: dict[tuple[str, str], dict[str, Span]] = {}
        self.copies: dict[str, Span] = {}
        self.whole: dict[str, Span] = {}
        for key, span in file.header.spans.items():
            if not span.dtype.is_floating_point:
                raise CheckpointError(
                    f"{file.path}: tensor {key!r}: expected floating-point values, got {span.dtype}; save the adapter again unquantised"
                )
            name = key.removeprefix(_PREFIX)
            if name == key or not self._placed(name, span, config):
                raise self._unknown(key)
        for module in self.copies:
            if not any(module == factored for factored, _ in self.factors):
                raise self._unknown(f"{_PREFIX}{module}{_COPY}")

    def is_linear(self, module: str) -> bool:
        """Whether a module's factors are those of a Linear or a Conv1D, not of an Embedding."""
        return (module, "lora") in self.factors

    def _placed(self, name: str, span: Span, config: AdapterConfig) -> bool:
        match = _FACTOR.fullmatch(name)
        if match:
            module, kind, side = (group for group in match.groups() if group is not None)
            pair = self.factors.setdefault((module, kind), {})
            if side in pair:
                raise CheckpointError(
                    f"{self.file.path}: module {module!r}: expected one {kind}_{side}, got two; save one adapter alone"
                )
            pair[side] = span
        elif name.endswith(_COPY):
            self.copies[name.removesuffix(_COPY)] = span
        elif config.saves(name) or name == _HEAD or f".{name}".endswith(tuple(f".{end}" for end in _EMBEDDINGS)):
            self.whole[name] = span
        else:
            return False
        return True

    def _unknown(self, key: str) -> CheckpointError:
        expected = "no trained biases" if key.endswith(".bias") else "only lora_A, lora_B and saved modules"
        return CheckpointError(
            f"{self.file.path}: expected {expected}, got {key!r}; merge the adapter into its model with peft first"
        )


def _products(found: _Sorted, config: AdapterConfig, origin: Weights) -> dict[str, Product]:
    products: dict[str, Product] = {}
    for (module, kind), pair in found.factors.items():
        stored = _stored(found, f"{module}.weight", origin)
        if stored in products:
            raise CheckpointError(
                f"{found.file.path}: tensor {stored!r}: expected one change of it, got those of {products[stored].module!r} and {module!r}; "
                "untie the model's head or save the adapter again"
            )
        product = _product(found, module, kind, pair, config, origin.shapes[stored])
        products[stored] = _with_copy(found, product, origin, stored)
    _check_square(found, products, config, origin)
    return products


def _product(
    found: _Sorted, module: str, kind: str, pair: Mapping[str, Span], config: AdapterConfig, shape: tuple[int, ...]
) -> Product:
    """The product of a module, if it fits; a square weight as the config says."""
    what = f"{found.file.path}: module {module!r}"
    if len(pair) < 2:
        here = next(iter(pair))
        missing = "B" if here == "A" else "A"
        raise CheckpointError(
            f"{what}: expected {kind}_A and {kind}_B, got no {kind}_{missing}; save the adapter again"
        )
    down, up = pair["A"], pair["B"]
    rank = config.rank_of(module)
    if down.shape[:1] != (rank,) or up.shape[1:2] != (rank,):
        raise CheckpointError(
            f"{what}: expected A and B of rank {rank} as in {config.path.name}, got shapes {down.shape} and {up.shape}; "
            "use the config that was saved with the file"
        )
    fits = {
        transposed
        for transposed in (False, True)
        if (len(down.shape), len(up.shape)) == (2, 2)
        and shape == ((down.shape[1], up.shape[0]) if transposed else (up.shape[0], down.shape[1]))
        and (transposed or kind == "lora")
    }
    if not fits:
        raise CheckpointError(
            f"{what}: expected A of shape [rank, in] and B of shape [out, rank] that fit the weight's {shape}, got {down.shape} and {up.shape}; "
            "give the model that the adapter was trained on"
        )
    transposed = config.transposed if len(fits) == 2 else fits.pop()
    return Product(module, down, up, config.scale_of(module), transposed)


def _with_copy(found: _Sorted, product: Product, origin: Weights, stored: str) -> Product:
    if not origin.dtypes[stored].is_floating_point:
        raise CheckpointError(
            f"tensor {stored!r}: expected floating-point values in {origin.path}, got {origin.dtypes[stored]}; dequantise the model first"
        )
    copy = found.copies.get(product.module)
    if copy is not None:
        _check_shape(found, f"{product.module}{_COPY}", copy, origin.shapes[stored])
    return replace(product, before=copy)


def _check_square(found: _Sorted, products: Mapping[str, Product], config: AdapterConfig, origin: Weights) -> None:
    """See that the config can be believed about square weights. peft takes for each module what its class needs, and leaves in the config what
    the last one needed; here the shape has to tell, and that of a square weight does not."""
    linear = [(product, origin.shapes[name]) for name, product in products.items() if found.is_linear(product.module)]
    square = [product.module for product, (rows, columns) in linear if rows == columns]
    against = [
        product.module
        for product, (rows, columns) in linear
        if rows != columns and product.transposed is not config.transposed
    ]
    if square and against:
        raise CheckpointError(
            f"{config.path}: expected fan_in_fan_out to tell how the square weight of {square[0]!r} lies, got "
            f"{str(config.transposed).lower()}, which is wrong for {against[0]!r}; merge the adapter into its model with peft first"
        )


def _whole(found: _Sorted, config: AdapterConfig, origin: Weights) -> dict[str, Span]:
    whole: dict[str, Span] = {}
    for name, span in found.whole.items():
        stored = _stored(found, name, origin)
        _check_shape(found, name, span, origin.shapes[stored])
        if stored == name:
            whole[name] = span
    missing = next((name for name in origin.names if config.saves(name) and name not in whole), None)
    if missing is not None:
        raise CheckpointError(
            f"{found.file.path}: expected tensor {missing!r}, which modules_to_save names, got none; save the adapter again"
        )
    _check_tie(found, origin)
    return whole


def _check_tie(found: _Sorted, origin: Weights) -> None:
    """An adapter that gives a tied model's embedding and head different values, or one of them alone, has untied them."""
    embedding = origin.resolve(_HEAD)
    if embedding in (None, _HEAD):
        return
    one, other = found.whole.get(embedding or ""), found.whole.get(_HEAD)
    if one is None and other is None:
        return
    if one is None or other is None or not _same(found.file, one, other):
        raise CheckpointError(
            f"{found.file.path}: expected {embedding!r} and {_HEAD!r} saved with the same bits, or neither, for they are one tensor in "
            f"{origin.path}, got {'two different ones' if one and other else 'one of them'}; untie the model first"
        )


def _same(file: WeightFile, one: Span, other: Span) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    for start in range(0, one.elements, COMPARED_ELEMENTS):
        stop = min(start + COMPARED_ELEMENTS, one.elements)
        a, b = (file.read(span, start, stop).view(torch.uint8) for span in (one, other))
        if not torch.equal(a, b):
            return False
    return True


def _stored(found: _Sorted, name: str, origin: Weights) -> str:
    stored = origin.resolve(name)
    if stored is None:
        raise CheckpointError(
            f"{found.file.path}: tensor {name!r}: expected in the model {origin.path}, got none; "
            "give the model that the adapter was trained on"
        )
    return stored


def _check_shape(found: _Sorted, name: str, span: Span, shape: tuple[int, ...]) -> None:
    if span.shape != shape:
        raise CheckpointError(
            f"{found.file.path}: tensor {name!r}: expected shape {shape} as in the model, got {span.shape}; "
            "resize the model's embeddings first, or give the model that the adapter was trained on"
        )
