"""Models seen through another vocabulary: embedding and head with the rows of a plan in its order, all else as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from merges.checkpoints import layer_count
from merges.errors import CheckpointError, OptionError, ShapeError
from merges.vocabulary import MEAN, REST, ZERO, RowPlan
from merges.weights import View, Weights

__all__ = ["Revocabularied", "common_rows", "plan_truncation", "revocabulary", "vocabulary_tensors", "with_rows"]

_EMBEDDINGS = (".embed_tokens.weight", ".wte.weight", ".embed_in.weight", ".word_embeddings.weight", ".tok_embeddings.weight",
               ".shared.weight", ".backbone.embeddings.weight")  # fmt: skip
_HEADS = (".lm_head.weight", ".lm_head.bias", ".lm_head.linear.weight", ".lm_head.linear.bias", ".lm_head.decoder.weight", ".lm_head.decoder.bias",
          ".embed_out.weight", ".transformer.output_layer.weight", ".cls.predictions.decoder.weight", ".cls.predictions.decoder.bias", ".cls.predictions.bias",
          ".vocab_projector.weight", ".vocab_projector.bias")  # fmt: skip
_NOT_TOKENS = ("wpe", "position", "token_type")

_MEAN_ELEMENTS = 1 << 18
"""Rows are summed in blocks of about this many values, cut in the same places whatever else is cut."""

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def vocabulary_tensors(models: Iterable[Weights]) -> tuple[str, ...]:
    """Names of the tensors whose rows stand for tokens, in any of the models.

    mergekit has a table of them by architecture; here it is the name that decides: embeddings, heads and heads' biases as that table calls them.
    A matrix of another name is one where it lies outside the layers, has as many rows as config.json has tokens, and is not named after positions.
    """
    found = {name: None for model in models for name in model.names if _stands_for_tokens(name, model)}
    return tuple(found)


def common_rows(models: Iterable[Weights], tensors: Sequence[str] | None = None) -> int:
    """The number of rows that all of the models have in all their embeddings and heads.

    Raises:
        CheckpointError: there is no such tensor.
    """
    models = list(models)
    names = vocabulary_tensors(models) if tensors is None else tensors
    stored = [(model, model.resolve(name)) for name in names for model in models]
    rows = [side for model, name in stored if name is not None for side in model.shapes[name][:1]]
    if not rows:
        raise CheckpointError(
            f"{', '.join(str(model.path) for model in models)}: expected an embedding, got none; name its tensor"
        )
    return min(rows)


def plan_truncation(models: Mapping[str, Weights], rows: int) -> RowPlan:
    """The first rows of every model, which must mean the same in all of them: for models that differ by padding alone."""
    own = np.arange(rows)
    nowhere = np.full(rows, ZERO, np.int64)
    return RowPlan(rows, tuple(models), dict.fromkeys(models, own), nowhere, np.zeros_like(own), np.zeros(rows, bool))


def with_rows(config: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """A config.json with this `vocab_size`, in its text model's part too where it has one."""
    inner = config.get("text_config")
    changed = {**config, "text_config": {**inner, "vocab_size": rows}} if isinstance(inner, dict) else dict(config)
    if "vocab_size" in config or not isinstance(inner, dict):
        changed["vocab_size"] = rows
    return changed


def revocabulary(
    plan: RowPlan, models: Mapping[str, Weights], tensors: Sequence[str] | None = None
) -> dict[str, Revocabularied]:
    """Every model of a merge seen through the plan; arguments and errors as of `Revocabularied`."""
    names = vocabulary_tensors(models.values()) if tensors is None else tensors
    return {name: Revocabularied(name, plan, models, names) for name in plan.models}


class Revocabularied(View):
    """One model of a merge with the merge's vocabulary.

    Rows that are only moved keep their bits, and the tensor its dtype, or the smallest one that holds the rows of all models that it is made of.
    Where rows are computed (`MEAN`, `REST`), the dtype is at least float32; the output's dtype is that of `origin.dtypes`.

    Args:
        name: which of the models.
        plan: where each row comes from.
        models: all models of the plan, as they are on disk.
        tensors: whose rows are meant; None: `vocabulary_tensors` of all models. A tensor that this model lacks is left out.

    Raises:
        OptionError: the plan is of other models.
        ShapeError: a model has fewer rows than its tokens need, or rows of another length.
        CheckpointError: a model that rows are taken from lacks a tensor.
    """

    def __init__(
        self, name: str, plan: RowPlan, models: Mapping[str, Weights], tensors: Sequence[str] | None = None
    ) -> None:
        if name not in plan.models or set(plan.models) - set(models):
            raise OptionError(
                f"model {name!r}: expected models {', '.join(plan.models)} as in the plan of the vocabulary, got {', '.join(models)}; "
                "plan it again"
            )
        super().__init__(models[name])
        self.plan = plan
        self._models = [models[other] for other in plan.models]
        self._own = plan.models.index(name)
        self._sources, self._rows = plan.origins(name)
        breaks = (np.diff(self._sources) != 0) | (np.diff(self._rows) != 1)
        self._starts = np.concatenate([np.zeros(1, np.int64), np.flatnonzero(breaks) + 1, np.full(1, plan.rows)])
        self._lock = threading.Lock()
        self._rests: dict[str, Tensor] = {}
        shapes, dtypes = dict(self.origin.shapes), dict(self.origin.dtypes)
        self._shapes, self._dtypes = shapes, dtypes
        self._changed: set[str] = set()
        for tensor in vocabulary_tensors(models.values()) if tensors is None else tensors:
            stored = self.origin.resolve(tensor)
            if stored is not None:
                self._check(tensor)
                dtypes[stored] = _wider(dtypes[stored], self._dtype(tensor))
                shapes[stored] = (plan.rows, *self.origin.shapes[stored][1:])
                self._changed.add(stored)

    @property
    def config(self) -> Mapping[str, Any]:
        return with_rows(self.origin.config, self.plan.rows)

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(path for model in (self.origin, *self._givers()) for path in model.paths))

    def read_part(self, name: str, start: int, stop: int, into: Tensor | None = None) -> Tensor:
        stored = self.resolve(name)
        if stored not in self._changed:
            return self.origin.read_part(name, start, stop, into)
        assert stored is not None
        width = prod(self._shapes[stored][1:])
        out = torch.empty(stop - start, dtype=self._dtypes[stored]) if into is None else into[: stop - start]
        for first, last in self._runs(start // width, -(-stop // width)):
            begin, end = max(start, first * width), min(stop, last * width)
            self._fill(name, first, begin, end, width, out[begin - start : end - start])
        return out

    def change(self, name: str, start: int, stop: int, base: Weights) -> Tensor | None:
        if self.resolve(name) in self._changed:
            return None
        return self.origin.change(name, start, stop, base.origin if isinstance(base, Revocabularied) else base)

    def _fill(self, name: str, first: int, begin: int, end: int, width: int, out: Tensor) -> None:
        """Elements `begin` to `end` of the run that starts with row `first`."""
        source, row = int(self._sources[first]), int(self._rows[first])
        if source == ZERO:
            out.zero_()
        elif source == MEAN:
            for at in range(begin // width, -(-end // width)):
                a, b = max(begin, at * width), min(end, (at + 1) * width)
                self._average(name, at, a - at * width, b - at * width, width, out[a - begin : b - begin])
        elif source == REST:
            out.copy_(self._rest(name, width)[torch.arange(begin, end) % width])
        else:
            shift = (row - first) * width
            _read(self._models[source], name, begin + shift, end + shift, out)

    def _average(self, name: str, row: int, begin: int, end: int, width: int, out: Tensor) -> None:
        total, count = torch.zeros_like(out), 0
        for other, model in zip(self.plan.models, self._models, strict=True):
            own = int(self.plan.permutations[other][row])
            if own >= 0:
                total += _read(model, name, own * width + begin, own * width + end, torch.empty_like(out))
                count += 1
        torch.div(total, count, out=out)

    def _rest(self, name: str, width: int) -> Tensor:
        """The mean row of all tokens, [width], once for each tensor; summed as float64."""
        with self._lock:
            if name not in self._rests:
                total = sum(part.numpy().reshape(-1, width).sum(0) for part in self._tokens(name, width))
                count = np.count_nonzero(self._sources != REST)
                self._rests[name] = torch.from_numpy(np.zeros(width) + total / max(1, count))
            return self._rests[name]

    def _tokens(self, name: str, width: int) -> Iterator[Tensor]:
        """The rows of all tokens but the zeros, some at a time, as float64; in the order of the files, whatever theirs is."""
        step = max(1, _MEAN_ELEMENTS // width)
        for number, model in enumerate(self._models):
            rows = np.sort(self._rows[self._sources == number])
            for block in np.split(rows, range(step, rows.size, step)):
                for first, last in _consecutive(block):
                    yield model.read_part(name, first * width, last * width).to(torch.float64)
        for row in np.flatnonzero(self._sources == MEAN):
            averaged = torch.empty(width, dtype=self._dtypes[self.resolve(name) or name])
            self._average(name, int(row), 0, width, width, averaged)
            yield averaged.to(torch.float64)

    def _runs(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Rows `first` to `last`, cut where what they are made of does not go on."""
        at = int(np.searchsorted(self._starts, first, "right"))
        while first < last:
            stop = min(last, int(self._starts[at]))
            yield first, stop
            first, at = stop, at + 1

    def _givers(self) -> list[Weights]:
        """The models that rows are taken from."""
        if (self._sources == MEAN).any():
            return self._models
        return [self._models[number] for number in np.unique(self._sources) if number >= 0]

    def _check(self, tensor: str) -> None:
        own = self.origin.shapes[self.origin.resolve(tensor) or tensor]
        if not own or not prod(own):
            raise ShapeError(
                f"tensor {tensor!r} of {self.path}: expected rows, got shape {own}; leave it out of the vocabulary"
            )
        for number, model in enumerate(self._models):
            taken = self._rows[self._sources == number]
            if (self._sources == MEAN).any():
                taken = np.append(taken, self.plan.permutations[self.plan.models[number]][self._sources == MEAN])
            if not taken.size or taken.max() < 0:
                continue
            stored = model.resolve(tensor)
            if stored is None:
                raise CheckpointError(
                    f"tensor {tensor!r}: expected in {model.path}, as tokens come from there, got none; use another source"
                )
            shape = model.shapes[stored]
            if shape[1:] != own[1:]:
                raise ShapeError(
                    f"tensor {tensor!r} of {model.path}: expected rows of shape {own[1:]} as in {self.path}, got {shape[1:]}; "
                    "merge models of one width"
                )
            if taken.max() >= shape[0]:
                raise ShapeError(
                    f"tensor {tensor!r} of {model.path}: expected at least {taken.max() + 1} rows for the ids that are used, got {shape[0]}; "
                    "see that vocab_size in its config.json is right"
                )

    def _dtype(self, tensor: str) -> torch.dtype:
        dtype = torch.float32 if np.isin(self._sources, (MEAN, REST)).any() else None
        for model in self._givers():
            given = model.dtypes[model.resolve(tensor) or tensor]
            dtype = given if dtype is None else _wider(dtype, given)
        return dtype or self.origin.dtypes[self.origin.resolve(tensor) or tensor]


def _stands_for_tokens(name: str, model: Weights) -> bool:
    dotted = f".{name}"
    if dotted.endswith(_EMBEDDINGS + _HEADS):
        return True
    inner = model.config.get("text_config")
    rows = model.config.get("vocab_size", inner.get("vocab_size") if isinstance(inner, dict) else None)
    shape = model.shapes[name]
    return (
        len(shape) == 2
        and shape[0] == rows
        and not layer_count([name])
        and not any(word in name for word in _NOT_TOKENS)
    )


def _read(model: Weights, name: str, start: int, stop: int, out: Tensor) -> Tensor:
    """A part of a stored tensor, in `out`'s dtype."""
    if model.dtypes[model.resolve(name) or name] is out.dtype:
        return model.read_part(name, start, stop, out)
    return out.copy_(model.read_part(name, start, stop))


def _wider(one: torch.dtype, other: torch.dtype) -> torch.dtype:
    """The smallest dtype that holds both, at least float32 where that is not clear."""
    if one is other:
        return one
    return torch.promote_types(one, other) if one in _FLOATS and other in _FLOATS else torch.float32


def _consecutive(rows: np.ndarray[Any, Any]) -> Iterator[tuple[int, int]]:
    for block in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
        if block.size:
            yield int(block[0]), int(block[-1]) + 1
