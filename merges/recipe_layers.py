"""The slices of a recipe over opened models: which tensors the output has, and what each is called in every source.

Tensors go by their names: a layer is whatever stands under `layers.N.` or the like, so architectures that nobody has described work too. What comes before
the first layer (embeddings) is made as the first slice says, what comes after the last (norm, head) as the last. A tensor is in the output where any source
of its slice has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch

from merges.checkpoints import FIRST, HEAD, LAYER
from merges.errors import OptionError
from merges.mergekit_methods import Method
from merges.recipe_parameters import Scope, Values
from merges.recipes import ModelName, Recipe, Settings, Slice, Source
from merges.views import Nothing, Renamed
from merges.weights import Weights

__all__ = [
    "Group",
    "Layers",
    "Opened",
    "Part",
    "Wanted",
    "check_single_stack",
    "layers_in",
    "opened_parts",
    "outer_tensors",
    "rearranged",
    "scopes",
]


@dataclass(frozen=True)
class Opened:
    """One source of a slice.

    Attributes:
        name, model: which.
        layers: which of its layers.
        scope: its own settings.
        on_disk: where its tensors have the dtype that counts: a view may compute in a wider one, and so does an adapter.
    """

    name: ModelName
    model: Weights
    layers: range
    scope: Scope | None
    on_disk: Weights


@dataclass(frozen=True)
class Part:
    """One slice of the output.

    Attributes:
        sources: with as many layers each.
        base: which of them is the base; None: no base, or it is none of them.
        scopes: settings for all its models, from the narrowest to the widest.
        over: whether task vectors over the base are merged.
        merged: the sources that are merged, in the order of the method; the base is not among them where they are over it.
        values: their parameters.
    """

    sources: Sequence[Opened]
    base: int | None
    scopes: Sequence[Scope]
    over: bool
    merged: Sequence[int]
    values: Values


@dataclass
class Group:
    """Tensors of one slice that are read through the same views, and made in the same ways.

    Attributes:
        part: the slice.
        views: its sources, with the output's names.
        made: see `Values.key`: how tensors with these values are made, as it becomes known.
    """

    part: Part
    views: Sequence[Weights]
    made: dict[object, Any] = field(default_factory=dict)

    @cached_property
    def shapes(self) -> Sequence[Mapping[str, tuple[int, ...]]]:
        """Of the views: name in the output -> shape."""
        return [view.shapes for view in self.views]

    @cached_property
    def dtypes(self) -> Sequence[Mapping[str, torch.dtype]]:
        """Of the models on disk: stored name -> dtype."""
        return [source.on_disk.dtypes for source in self.part.sources]

    @cached_property
    def nothing(self) -> Nothing:
        """What task vectors are over where the weights themselves are merged."""
        return Nothing(self.views[0])


class Wanted(NamedTuple):
    """A tensor of the output.

    Attributes:
        name: its name there.
        stored: its name in every source, where that is another one in any of them.
        t: place of its layer in the slice, 0 to 1.
    """

    name: str
    stored: Sequence[str] | None
    t: float


def scopes(recipe: Recipe) -> Iterator[Scope]:
    """Every place in the file that has parameters."""
    output, place = recipe.output, recipe.place
    yield from _scope("parameters", recipe.parameters)
    yield from _scope(f"{place}parameters", output.parameters)
    for number, source in enumerate(output.models or ()):
        yield from _scope(f"{place}models.{number}.parameters", source.parameters)
    for number, part in enumerate(output.slices or ()):
        yield from _scope(f"{place}slices.{number}.parameters", part.parameters)
        for other, source in enumerate(part.sources):
            yield from _scope(f"{place}slices.{number}.sources.{other}.parameters", source.parameters)


def _scope(place: str, settings: Settings | None) -> list[Scope]:
    return [] if settings is None else [Scope(place, settings)]


Models = Mapping[ModelName, tuple[Weights, Weights]]
"""Model -> as it is merged, and as `Opened.on_disk`."""


def opened_parts(recipe: Recipe, method: Method, models: Models, layers: Layers) -> list[Part]:
    """The slices of a recipe; models that are merged whole are one.

    Raises:
        OptionError: a range goes too far, sources differ in length, the method wants other sources, or layers of a model are moved that has
            more than one stack of them.
    """
    output, place = recipe.output, recipe.place
    wide = [*_scope(f"{place}parameters", output.parameters), *_scope("parameters", recipe.parameters)]
    if output.models:
        sources = list(output.models)
        if recipe.base_model and recipe.base_model not in [source.model for source in sources]:
            sources.append(Source(model=recipe.base_model))
        return [_part(recipe, method, Slice(sources=sources), models, layers, f"{place}models", f"{place}models", wide)]
    slices = list(enumerate(output.slices or ()))
    return [
        _part(recipe, method, part, models, layers, f"{place}slices.{number}", f"{place}slices.{number}.sources", wide)
        for number, part in slices
    ]


def _part(
    recipe: Recipe,
    method: Method,
    part: Slice,
    models: Models,
    layers: Layers,
    place: str,
    listed: str,
    wide: Sequence[Scope],
) -> Part:
    """A slice that stands at `place`, its sources at `listed`."""
    base = part.base_model or recipe.base_model
    _check_sources(recipe, method, [source.model for source in part.sources], base)
    found = []
    for number, source in enumerate(part.sources):
        model, on_disk = models[source.model]
        count = layers.count(model)
        first, last = source.layer_range or (0, count)
        if last > count:
            raise OptionError(
                f"{place}: expected layers of {source.model} up to {count}, got {[first, last]}; correct layer_range"
            )
        scope = next(iter(_scope(f"{listed}.{number}.parameters", source.parameters)), None)
        found.append(Opened(source.model, model, range(first, last), scope, on_disk))
    lengths = {len(source.layers) for source in found}
    if len(lengths) > 1:
        advice = "correct layer_range" if recipe.output.slices else "merge models of one architecture"
        raise OptionError(f"{place}: expected as many layers from every source, got {sorted(lengths)}; {advice}")
    at = next((number for number, source in enumerate(found) if source.name == base), None)
    over = at is not None and method.base != "input"
    merged = [number for number in range(len(found)) if not over or number != at]
    if recipe.merge_method == "slerp":
        merged.sort(key=lambda number: number != at)
    shared = [*_scope(f"{place}.parameters", part.parameters), *wide]
    values = Values(method, shared, [(found[number].name, found[number].scope) for number in merged])
    return Part(found, at, shared, over, merged, values)


def _check_sources(recipe: Recipe, method: Method, names: Sequence[ModelName], base: ModelName | None) -> None:
    others = [name for name in names if method.base == "input" or name != base]
    if len(set(names)) < len(names):
        raise OptionError(
            f"models: expected each once, got {', '.join(map(str, names))}; give a model one entry, with the sum of its weights"
        )
    if method.base == "over" and (base is None or base not in names):
        raise OptionError(
            f"base_model: expected one for {recipe.merge_method}, among the sources of every slice, got none; name it"
        )
    if recipe.merge_method == "slerp" and base not in names:
        raise OptionError(
            "base_model: expected one of the two models that slerp interpolates, got none; name the model at t = 0"
        )
    if method.takes is not None and len(others) != method.takes:
        raise OptionError(
            f"{recipe.merge_method}: expected {method.takes} models beside the base where it is over one, got {len(others)}; name as many"
        )


def rearranged(recipe: Recipe, parts: Sequence[Part]) -> bool:
    """Whether the output's layers are not simply those of whole models."""
    whole = len(parts) == 1 and all(source.layers == range(source.model.n_layers) for source in parts[0].sources)
    return bool(recipe.output.slices) and not whole


Key = tuple[str, str]
"""What stands before and behind the number of a layer."""


class Layers:
    """Which tensors models have, by layer; every name is looked at once, however many models have it."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, Key] | None] = {}
        self._found: dict[int, tuple[Weights, dict[int, dict[Key, str]], list[str]]] = {}

    def of(self, model: Weights) -> Mapping[int, Mapping[Key, str]]:
        """Layer -> key -> name."""
        return self._looked_at(model)[1]

    def outside(self, model: Weights) -> Sequence[str]:
        """The names that belong to no layer."""
        return self._looked_at(model)[2]

    def count(self, model: Weights) -> int:
        """As `Weights.n_layers`."""
        return max(self.of(model), default=-1) + 1

    def stacks(self, model: Weights) -> list[str]:
        """What stands before the numbers of layers: one text for each stack of them."""
        return sorted({before for layer in self.of(model).values() for before, _ in layer})

    def _looked_at(self, model: Weights) -> tuple[Weights, dict[int, dict[Key, str]], list[str]]:
        if id(model) not in self._found:
            table: dict[int, dict[Key, str]] = {}
            outside = []
            for name in model.names:
                place = self._places[name] if name in self._places else self._place(name)
                if place is None:
                    outside.append(name)
                elif place[0] in table:
                    table[place[0]][place[1]] = name
                else:
                    table[place[0]] = {place[1]: name}
            self._found[id(model)] = model, table, outside  # the model is kept, so that its id stays its own
        return self._found[id(model)]

    def _place(self, name: str) -> tuple[int, Key] | None:
        match = LAYER.search(name)
        found = (int(match[1]), (name[: match.start(1)], name[match.end(1) :])) if match else None
        self._places[name] = found
        return found


def check_single_stack(recipe: Recipe, parts: Sequence[Part], layers: Layers) -> None:
    """See that it is clear which layers a range means, where layers are moved.

    Raises:
        OptionError: a model has two stacks, as encoder and decoder.
    """
    if not rearranged(recipe, parts):
        return
    for source in (source for part in parts for source in part.sources):
        stacks = layers.stacks(source.model)
        if len(stacks) > 1:
            raise OptionError(
                f"slices: expected one stack of layers in {source.name}, or a layer_range that covers all of it, got {len(stacks)} stacks "
                f"({', '.join(f'{stack}N' for stack in stacks)}); merge whole models, with models in place of slices"
            )


def outer_tensors(parts: Sequence[Part], donor: Weights, layers: Layers) -> Iterator[tuple[Group, Wanted]]:
    """The tensors outside the layers; a head that only repeats the embedding of a tied model is none of them.

    Args:
        parts: the slices.
        donor: the model that the output's config comes from; what it has has to be there.
        layers: what is known of names.
    """
    first, last = (Group(part, [source.model for source in part.sources]) for part in (parts[0], parts[-1]))
    names = dict.fromkeys(name for model in (donor, *first.views, *last.views) for name in layers.outside(model))
    for name in names:
        group = first if FIRST.search(name) else last
        has = [view for view in group.views if name in view.shapes]
        if name == HEAD and all(view.tied_duplicate() == HEAD for view in has or [donor]):
            continue
        if has or name in donor.shapes:
            yield group, Wanted(name, None, 0.0)


def layers_in(part: Part, first: int, layers: Layers) -> Iterator[tuple[Group, Wanted]]:
    """The tensors of a slice's layers, which are numbered from `first` on in the output."""
    tables = [layers.of(source.model) for source in part.sources]
    count = len(part.sources[0].layers)
    rows: list[Wanted] = []
    for number in range(count):
        own = [source.layers[number] for source in part.sources]
        t = number / (count - 1) if count > 1 else 1.0
        keys = {key: None for table, layer in zip(tables, own, strict=True) for key in table.get(layer, ())}
        same = all(layer == first + number for layer in own)
        for before, behind in keys:
            name = f"{before}{first + number}{behind}"
            rows.append(Wanted(name, None if same else [f"{before}{layer}{behind}" for layer in own], t))
    views = [
        source.model
        if not rows or source.layers.start == first
        else Renamed(source.model, {row.name: row.stored[place] if row.stored else row.name for row in rows})
        for place, source in enumerate(part.sources)
    ]
    group = Group(part, views)
    for row in rows:
        yield group, row
