"""A recipe (mergekit's YAML) as a plan: every tensor of the output with the models, layers and parameter values that make it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any, cast

import torch

from merges.adapters import Adapted
from merges.blocks import BLOCK_ELEMENTS
from merges.buffers import differ, is_recomputed, noted
from merges.chat_templates import chosen_template
from merges.checkpoints import HEAD
from merges.contract import RECIPE
from merges.errors import MergeUserError, OptionError, ShapeError
from merges.layout import MAX_SHARD_BYTES, Entry, plan_shards
from merges.mergekit_methods import METHODS, Given, Method
from merges.plan import DEFAULT_MEMORY_BYTES, Plan, Step, TokenizerPlan, too_large
from merges.recipe_layers import (
    Group,
    Layers,
    Part,
    Wanted,
    check_single_stack,
    layers_in,
    opened_parts,
    outer_tensors,
    rearranged,
    scopes,
)
from merges.recipe_parameters import check_names, check_types, out_of_range
from merges.recipes import ModelName, Recipe, Tokenizer
from merges.revocabularied import revocabulary
from merges.streamed import FORMS
from merges.task_vectors import misfits
from merges.tokenizer_output import config_for
from merges.views import Renamed, folder_of
from merges.vocabulary import plan_vocabulary, read_vocabulary, token_settings
from merges.weights import Weights

__all__ = ["plan_recipe"]

Open = Callable[[ModelName], Weights]

_DTYPES = {
    "bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32, "float64": torch.float64,
    "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32,
}  # fmt: skip


@dataclass
class _Building:
    """The plan while it grows.

    Attributes:
        wanted: the output's dtype for floating-point tensors, if the recipe names one.
        entries, steps, copied, problems: see `Plan`.
        recomputed, differing: see `buffers.noted`.
        promoted: dtypes on disk -> what they are merged in; None: whole numbers, which are copied.
        conflicts: what has been said of values.
    """

    recipe: Recipe
    method: Method
    wanted: torch.dtype | None
    entries: dict[str, Entry] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)
    copied: dict[str, Weights] = field(default_factory=dict)
    problems: list[MergeUserError] = field(default_factory=list)
    recomputed: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    promoted: dict[tuple[torch.dtype, ...], torch.dtype | None] = field(default_factory=dict)
    conflicts: set[str] = field(default_factory=set)


def plan_recipe(
    recipe: Recipe,
    open_model: Open,
    *,
    run_seed: int = 0,
    max_memory_bytes: int | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    block: int = BLOCK_ELEMENTS,
) -> Plan:
    """Plan a recipe. Reads headers only, but for a tied head that is stored twice and small tensors of whole numbers.

    Args:
        recipe: what to make.
        open_model: opens a model that it names.
        run_seed, max_memory_bytes: as in `apply_program`.
        max_shard_bytes, block: as in `make_plan`.

    Raises:
        OptionError: the method, a parameter or a range of layers cannot be used. What lies outside a parameter's range is among the problems.
        CheckpointError: a model cannot be opened.
    """
    method = _method(recipe.merge_method)
    check_names(scopes(recipe))
    wanted = recipe.out_dtype or recipe.dtype
    dtype = _dtype(wanted) if wanted else None
    stored = {name: open_model(name) for name in recipe.named}
    donor_name = recipe.base_model or recipe.named[0]
    donor = stored[donor_name]
    tokenizer, models = _tokenizer(recipe, stored, donor_name)
    on_disk = {name: model.origin if isinstance(model, Adapted) else model for name, model in stored.items()}
    layers = Layers()
    parts = opened_parts(recipe, method, {name: (model, on_disk[name]) for name, model in models.items()}, layers)
    building = _Building(recipe, method, dtype)
    _check_values(building, parts)
    check_single_stack(recipe, parts, layers)
    outer = _add_all(building, parts, donor, layers)
    experts = {str(name): model for name, model in stored.items() if name != donor_name}
    plan = Plan(
        recipe.text, f"{RECIPE}{recipe.merge_method}", {}, run_seed, donor, experts, ("all",), building.steps,
        plan_shards(building.entries.values(), max_shard_bytes), max_memory_bytes or DEFAULT_MEMORY_BYTES, block, (), building.copied,
        _config(building, stored, donor_name, parts, tokenizer), tokenizer,
        ignored=_ignored(outer, parts, layers), notes=noted(building.recomputed, building.differing, "the first that has them"),
    )  # fmt: skip
    problems = building.problems + (too_large(plan, max_memory_bytes) if max_memory_bytes is not None else [])
    return replace(plan, problems=tuple(problems))


def _method(name: str) -> Method:
    if name not in METHODS:
        raise OptionError(f"merge_method {name!r}: expected one of {', '.join(METHODS)}, got another; correct it")
    return METHODS[name]


def _check_values(building: _Building, parts: Sequence[Part]) -> None:
    """See that all values are of their types, and note those out of range, each once."""
    looked = [row for part in parts for row in part.values.looked()]
    check_types(looked)
    building.problems += {str(problem): problem for problem in out_of_range(looked)}.values()


def _add_all(building: _Building, parts: Sequence[Part], donor: Weights, layers: Layers) -> set[str]:
    """Plan every tensor of the output; returns the names of those outside the layers."""
    outer = list(outer_tensors(parts, donor, layers))
    for group, tensor in outer:
        _add(building, group, tensor)
    first = 0
    for part in parts:
        for group, tensor in layers_in(part, first, layers):
            _add(building, group, tensor)
        first += len(part.sources[0].layers)
    return {tensor.name for _, tensor in outer}


def _add(building: _Building, group: Group, tensor: Wanted) -> None:
    """Plan one tensor of the output."""
    name = tensor.name
    shapes = [table.get(name) for table in group.shapes]
    shape = shapes[0]
    if shape is None or None in shapes:
        _add_irregular(building, group, tensor)
        return
    kinds = _kinds(group, tensor)
    if kinds not in building.promoted:
        building.promoted[kinds] = _promoted(kinds) if all(kind.is_floating_point for kind in kinds) else None
    promoted, first = building.promoted[kinds], group.views[0]
    if promoted is None:
        _add_buffer(building, group, tensor)
        return
    dtype = building.wanted or promoted
    building.entries[name] = Entry(name, shape, dtype)
    given, step = _step(building, group, tensor)
    if building.recipe.merge_method == "passthrough" and given.each[0]["scale"] is None and dtype == first.dtypes[name]:
        building.copied[name] = first
        return
    if shapes.count(shape) < len(shapes):
        building.problems += [ShapeError(text) for text in misfits(step.base, step.experts, [name])]
    building.steps[name] = step


def _add_irregular(building: _Building, group: Group, tensor: Wanted) -> None:
    """One that some of the models do not have under its name: a tied head, a table that nobody needs, or a problem."""
    views, name, sources = group.views, tensor.name, group.part.sources
    having = [view for view in views if view.resolve(name) is not None]
    if len(having) == len(views):
        _add(building, Group(group.part, [Renamed(view, {name: name}) for view in views]), tensor)
    elif having and (is_recomputed(name) or not having[0].dtypes[having[0].resolve(name) or name].is_floating_point):
        building.entries[name] = Entry(name, having[0].shapes[name], having[0].dtypes[name])
        building.copied[name] = having[0]
        if is_recomputed(name):
            building.recomputed.append(name)
        elif differ(name, having):
            building.differing.append(name)
    else:
        absent = [str(source.name) for source, view in zip(sources, views, strict=True) if view.resolve(name) is None]
        where = "in every model" if having else f"in {sources[0].name}"
        got = f"none in {', '.join(absent)}" if having else "none"
        building.problems.append(
            ShapeError(f"tensor {name!r}: expected {where}, got {got}; merge models of one architecture")
        )


def _add_buffer(building: _Building, group: Group, tensor: Wanted) -> None:
    """Whole numbers are copied from the first model, whatever the others have."""
    first, name = group.views[0], tensor.name
    if any(view.dtypes[name].is_floating_point for view in group.views):
        kinds = ", ".join(str(view.dtypes[name]) for view in group.views)
        building.problems.append(
            ShapeError(
                f"tensor {name!r}: expected whole numbers in all models or in none, got {kinds}; merge models of one architecture"
            )
        )
    building.entries[name] = Entry(name, first.shapes[name], first.dtypes[name])
    building.copied[name] = first
    if differ(name, group.views):
        building.differing.append(name)


def _step(building: _Building, group: Group, tensor: Wanted) -> tuple[Given, Step]:
    """How a tensor is made, the same object for all that are made in one way."""
    part, method = group.part, building.method
    stored = tensor.stored and [tensor.stored[number] for number in part.merged]
    key = part.values.key(tensor.name, stored, tensor.t)
    if key not in group.made:
        given = part.values.given(tensor.name, stored, tensor.t)
        conflict = method.conflict(given)
        if conflict is not None and conflict not in building.conflicts:
            building.conflicts.add(conflict)
            building.problems.append(OptionError(f"{conflict}; correct them under parameters"))
        group.made[key] = given, _made(method, group, given)
    found: tuple[Given, Step] = group.made[key]
    return found


def _made(method: Method, group: Group, given: Given) -> Step:
    part, views = group.part, group.views
    base = views[part.base] if part.over and part.base is not None else None
    experts = {str(part.sources[number].name): views[number] for number in part.merged}
    if not experts:  # the base alone
        assert base is not None
        alone = {str(part.sources[0].name): base}
        return Step(base, alone, FORMS["weighted_task_arithmetic"], {"scale": 0.0, "weights": [1.0]})
    return Step(base or group.nothing, experts, method.form, method.hyper(given))


def _kinds(group: Group, tensor: Wanted) -> tuple[torch.dtype, ...]:
    """The dtypes of a tensor on disk."""
    stored = tensor.stored or repeat(tensor.name, len(group.dtypes))
    found = tuple([table.get(name) for table, name in zip(group.dtypes, stored, strict=True)])
    if None not in found:
        return cast(tuple[torch.dtype, ...], found)
    models = [source.on_disk for source in group.part.sources]
    names = tensor.stored or repeat(tensor.name, len(models))
    return tuple(model.dtypes[model.resolve(name) or name] for model, name in zip(models, names, strict=True))


def _promoted(kinds: Sequence[torch.dtype]) -> torch.dtype:
    """The least dtype that holds all of these; those of one byte count as bfloat16 beside others."""
    if len(set(kinds)) == 1:
        return kinds[0]
    found, *others = [torch.bfloat16 if kind.itemsize == 1 else kind for kind in kinds]
    for kind in others:
        found = torch.promote_types(found, kind)
    return found


def _ignored(outer: Set[str], parts: Sequence[Part], layers: Layers) -> dict[str, tuple[str, ...]]:
    """Source -> what it has outside the layers and the output does not; which layers are left out the recipe says itself."""
    known = {*outer, HEAD}
    sources = {str(source.name): source.model for part in parts for source in part.sources}
    found = {
        name: tuple(tensor for tensor in layers.outside(model) if tensor not in known)
        for name, model in sources.items()
    }
    return {name: tensors for name, tensors in found.items() if tensors}


def _dtype(name: str) -> torch.dtype:
    found = _DTYPES.get(name.removeprefix("torch."))
    if found is None:
        raise OptionError(f"dtype {name!r}: expected one of {', '.join(_DTYPES)}, got another; correct it")
    return found


_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


def _tokenizer(
    recipe: Recipe, models: Mapping[ModelName, Weights], donor: ModelName
) -> tuple[TokenizerPlan | None, Mapping[ModelName, Weights]]:
    """The output's tokenizer, and the models with its vocabulary."""
    settings = recipe.tokenizer or (Tokenizer(source=recipe.tokenizer_source) if recipe.tokenizer_source else None)
    folders = {str(name): folder_of(model) for name, model in models.items()}
    template = chosen_template(recipe.chat_template, list(folders.values())) if recipe.chat_template else None
    if settings is None:
        return (TokenizerPlan(None, folders, template) if template else None), models
    names = {str(name): str(name) for name in models}
    vocabulary = plan_vocabulary(
        str(settings.source),
        {name: read_vocabulary(folder) for name, folder in folders.items()},
        str(donor) if recipe.base_model else None,
        tokens=token_settings(settings.tokens, names) if settings.tokens else None,
        pad_to_multiple_of=settings.pad_to_multiple_of,
    )
    seen = revocabulary(vocabulary, {str(name): model for name, model in models.items()})
    return TokenizerPlan(vocabulary, folders, template), {name: seen[str(name)] for name in models}


def _config(
    building: _Building,
    models: Mapping[ModelName, Weights],
    donor_name: ModelName,
    parts: Sequence[Part],
    tokenizer: TokenizerPlan | None,
) -> dict[str, Any]:
    """The output's config.json: the donor's, with the dtype, the layers and the vocabulary that the output has."""
    donor = models[donor_name]
    config = dict(donor.config)
    if tokenizer is not None and tokenizer.vocabulary is not None:
        origin = next(model for name, model in models.items() if str(name) == tokenizer.vocabulary.origin)
        config = config_for(tokenizer.vocabulary, config, origin.config)
    if building.wanted is not None:
        config["dtype" if "dtype" in config else "torch_dtype"] = str(building.wanted).removeprefix("torch.")
    has_head = HEAD in donor.shapes and donor.tied_duplicate() is None
    if HEAD in building.entries and config.get("tie_word_embeddings") and not has_head:
        config["tie_word_embeddings"] = False  # another source has a head of its own
    if rearranged(building.recipe, parts):
        _set_layers(config, donor.n_layers, [number for part in parts for number in part.sources[0].layers])
    return config


def _set_layers(config: dict[str, Any], stored: int, order: Sequence[int]) -> None:
    """Write how many layers there are, and whatever has one entry a layer (as layer_types), in the order in which the layers now stand."""
    key = next((key for key in _LAYER_COUNTS if config.get(key) == stored), None)
    if key is None:
        raise OptionError(
            f"slices: expected the number of layers ({stored}) in config.json as one of {', '.join(_LAYER_COUNTS)}, got none; "
            "merge whole models, or mend the config"
        )
    config[key] = len(order)
    for name, value in config.items():
        lists_layers = isinstance(value, list) and len(value) == stored and name.startswith("layer")
        if lists_layers and max(order, default=0) < stored:
            config[name] = [value[number] for number in order]
