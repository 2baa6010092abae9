"""A recipe (mergekit's YAML) as a plan: every tensor of the output with the models, layers and parameter values that make it.

Tensors go by their names: a layer is whatever stands under `layers.N.` or the like, so architectures that nobody has described work too. What comes before
the first layer (embeddings) is made as the first slice says, what comes after the last (norm, head) as the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from merges.adapters import Adapted
from merges.blocks import BLOCK_ELEMENTS
from merges.chat_templates import chosen_template
from merges.checkpoints import FIRST, LAYER, Checkpoint
from merges.errors import MergeUserError, OptionError, ShapeError
from merges.layout import MAX_SHARD_BYTES, Entry, plan_shards
from merges.mergekit_methods import METHODS, REQUIRED, Given, Method, known_parameters
from merges.plan import DEFAULT_MEMORY_BYTES, Plan, Step, TokenizerPlan, too_large
from merges.provenance import RECIPE
from merges.recipes import ModelName, Recipe, Settings, Slice, Source, Tokenizer, parameter
from merges.revocabularied import revocabulary
from merges.streamed import FORMS
from merges.task_vectors import misfits
from merges.tokenizer_output import config_for
from merges.views import Nothing, Renamed, folder_of
from merges.vocabulary import plan_vocabulary, read_vocabulary, token_settings
from merges.weights import Weights

__all__ = ["plan_recipe"]

Open = Callable[[ModelName], Weights]

_DTYPES = {
    "bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32, "float64": torch.float64,
    "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32,
}  # fmt: skip


@dataclass(frozen=True)
class _Part:
    """One slice of the output, its sources opened.

    Attributes:
        sources: model and, of its layers, which.
        base: its base, if it has one.
        scopes: settings for all its models, from the narrowest to the widest.
    """

    sources: Sequence[tuple[Source, Weights, range]]
    base: ModelName | None
    scopes: Sequence[Settings | None]


@dataclass
class _Building:
    """The plan while it grows."""

    recipe: Recipe
    method: Method
    models: Mapping[ModelName, Weights]
    entries: dict[str, Entry] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)
    copied: dict[str, Weights] = field(default_factory=dict)
    problems: list[MergeUserError] = field(default_factory=list)


def plan_recipe(
    recipe: Recipe,
    open_model: Open,
    *,
    run_seed: int = 0,
    max_memory_bytes: int | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    block: int = BLOCK_ELEMENTS,
) -> Plan:
    """Plan a recipe. Reads headers only, but for a tied head that is stored twice.

    Args:
        recipe: what to make.
        open_model: opens a model that it names.
        run_seed, max_memory_bytes: as in `apply_program`.
        max_shard_bytes, block: as in `make_plan`.

    Raises:
        OptionError: the method, a parameter or a range cannot be used.
        CheckpointError: a model cannot be opened.
    """
    method = METHODS.get(recipe.merge_method)
    if method is None:
        raise OptionError(
            f"merge_method {recipe.merge_method!r}: expected one of {', '.join(METHODS)}, got another; correct it"
        )
    _check_names(recipe)
    stored = {name: open_model(name) for name in recipe.named}
    donor_name = recipe.base_model or recipe.named[0]
    donor = stored[donor_name]
    tokenizer, models = _tokenizer(recipe, stored, donor_name)
    building = _Building(recipe, method, stored)
    parts = _parts(recipe, models)
    for part in parts:
        _check_count(method, part, recipe)
    _outer(building, parts, donor)
    counts = _layers(building, parts)
    shards = plan_shards(building.entries.values(), max_shard_bytes)
    plan = Plan(
        recipe.text, f"{RECIPE}{recipe.merge_method}", {}, run_seed, donor,
        {str(name): model for name, model in stored.items() if name != donor_name}, ("all",), building.steps, shards,
        max_memory_bytes or DEFAULT_MEMORY_BYTES, block, (), building.copied,
        _config(recipe, stored, donor_name, parts, counts, tokenizer), tokenizer,
    )  # fmt: skip
    problems = building.problems + (too_large(plan, max_memory_bytes) if max_memory_bytes is not None else [])
    return replace(plan, problems=tuple(problems))


def _check_names(recipe: Recipe) -> None:
    """See that no parameter is a slip of the pen."""
    known = known_parameters()
    for scope in _all_scopes(recipe):
        for name in scope or ():
            if name not in known:
                raise OptionError(
                    f"parameter {name!r}: expected one of {', '.join(sorted(known))}, got an unknown name; correct it"
                )


def _all_scopes(recipe: Recipe) -> Iterator[Settings | None]:
    output = recipe.output
    yield from (recipe.parameters, output.parameters)
    yield from (source.parameters for source in output.models or ())
    for part in output.slices or ():
        yield part.parameters
        yield from (source.parameters for source in part.sources)


def _parts(recipe: Recipe, models: Mapping[ModelName, Weights]) -> list[_Part]:
    output = recipe.output
    if output.models:
        sources = list(output.models)
        if recipe.base_model and recipe.base_model not in [source.model for source in sources]:
            sources.append(Source(model=recipe.base_model))
        slices = [Slice(sources=sources)]
    else:
        slices = list(output.slices or ())
    return [_part(recipe, part, models, place) for place, part in enumerate(slices)]


def _part(recipe: Recipe, part: Slice, models: Mapping[ModelName, Weights], place: int) -> _Part:
    found = []
    for source in part.sources:
        model = models[source.model]
        first, last = source.layer_range or (0, model.n_layers)
        if last > model.n_layers:
            raise OptionError(
                f"slices.{place}: expected layers of {source.model} up to {model.n_layers}, got {[first, last]}; correct layer_range"
            )
        found.append((source, model, range(first, last)))
    lengths = {len(layers) for _, _, layers in found}
    if len(lengths) > 1:
        raise OptionError(
            f"slices.{place}: expected as many layers from every source, got {sorted(lengths)}; correct layer_range"
        )
    return _Part(
        found, part.base_model or recipe.base_model, (part.parameters, recipe.output.parameters, recipe.parameters)
    )


def _check_count(method: Method, part: _Part, recipe: Recipe) -> None:
    names = [source.model for source, _, _ in part.sources]
    others = [name for name in names if method.base == "input" or name != part.base]
    if len(set(names)) < len(names):
        raise OptionError(
            f"models: expected each once, got {', '.join(map(str, names))}; give a model one entry, with the sum of its weights"
        )
    if method.base == "over" and (part.base is None or part.base not in names):
        raise OptionError(
            f"base_model: expected one for {recipe.merge_method}, among the sources of every slice, got none; name it"
        )
    if recipe.merge_method == "slerp" and part.base not in names:
        raise OptionError(
            "base_model: expected one of the two models that slerp interpolates, got none; name the model at t = 0"
        )
    if method.takes is not None and len(others) != method.takes:
        raise OptionError(
            f"{recipe.merge_method}: expected {method.takes} models beside the base where it is over one, got {len(others)}; name as many"
        )


def _outer(building: _Building, parts: Sequence[_Part], donor: Weights) -> None:
    """Tensors outside the layers."""
    twin = donor.tied_duplicate() if isinstance(donor, Checkpoint) else None
    for name in donor.names:
        if LAYER.search(name) or name == twin:
            continue
        part = parts[0] if FIRST.search(name) else parts[-1]
        views = [(source, Renamed(model, {name: name}), name) for source, model, _ in part.sources]
        _add(building, part, name, views, t=0.0)


def _layers(building: _Building, parts: Sequence[_Part]) -> int:
    """Tensors of all layers; returns how many layers there are."""
    out = 0
    for part in parts:
        _, reference, layers = part.sources[0]
        by_layer = _by_layer(reference)
        for number, layer in enumerate(layers):
            t = number / (len(layers) - 1) if len(layers) > 1 else 1.0
            for old in by_layer.get(layer, ()):
                name = _in_layer(old, out)
                stored = [(source, model, _in_layer(old, own[number])) for source, model, own in part.sources]
                _add(
                    building,
                    part,
                    name,
                    [(source, Renamed(model, {name: own}), own) for source, model, own in stored],
                    t,
                )
            out += 1
    return out


def _by_layer(model: Weights) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for name in model.names:
        match = LAYER.search(name)
        if match:
            found.setdefault(int(match[1]), []).append(name)
    return found


def _in_layer(name: str, number: int) -> str:
    match = LAYER.search(name)
    assert match is not None
    return f"{name[: match.start(1)]}{number}{name[match.end(1) :]}"


def _add(building: _Building, part: _Part, name: str, views: Sequence[tuple[Source, Renamed, str]], t: float) -> None:
    """Plan one tensor of the output."""
    recipe, method = building.recipe, building.method
    reference = next((view for _, view, _ in views if name in view.shapes), None)
    if reference is None:
        if name != "lm_head.weight" or not building.models[views[0][0].model].config.get("tie_word_embeddings"):
            building.problems.append(
                ShapeError(
                    f"tensor {name!r}: expected in {views[0][0].model}, got none; merge models of one architecture"
                )
            )
        return
    absent = [source.model for source, view, _ in views if name not in view.shapes]
    kinds = [_stored_dtype(building, source, old) for source, view, old in views if name in view.shapes]
    promoted = _promoted(name, kinds)
    shape, wanted = reference.shapes[name], recipe.out_dtype or recipe.dtype
    dtype = _dtype(wanted) if wanted and promoted.is_floating_point else promoted
    building.entries[name] = Entry(name, shape, dtype)
    if not promoted.is_floating_point:
        building.copied[name] = reference
        return
    inputs = [(source, view, stored) for source, view, stored in views]
    shared = {key: _value(key, kind, part.scopes, name, t, None) for key, kind in method.shared.items()}
    base = next((view for source, view, _ in inputs if source.model == part.base), None) if part.base else None
    over = base is not None and method.base != "input"
    merged = [(source, view, stored) for source, view, stored in inputs if not over or view is not base]
    if recipe.merge_method == "slerp":
        merged.sort(key=lambda row: row[1] is not base)
    each = [
        {
            key: _value(key, kind, (source.parameters, *part.scopes), stored, t, source.model)
            for key, kind in method.each.items()
        }
        for source, _, stored in merged
    ]
    if recipe.merge_method == "passthrough" and each[0]["scale"] is None and dtype == reference.dtypes[name]:
        building.copied[name] = merged[0][1]
        return
    experts: dict[str, Weights] = {str(source.model): view for source, view, _ in merged}
    if absent:
        building.problems.append(ShapeError(
            f"tensor {name!r}: expected in every model, got none in {', '.join(map(str, absent))}; merge models of one architecture"
        ))  # fmt: skip
        return
    origin: Weights = base if over and base is not None else Nothing(reference)
    building.problems += [ShapeError(text) for text in misfits(origin, experts, [name])]
    form, hyper = method.form, method.hyper(Given(shared, each))
    if not experts:  # the base alone
        form, hyper, experts = (
            FORMS["weighted_task_arithmetic"],
            {"scale": 0.0, "weights": [1.0]},
            {str(part.base): origin},
        )
    building.steps[name] = Step(origin, experts, form, hyper)


def _promoted(name: str, kinds: Sequence[torch.dtype]) -> torch.dtype:
    """The least dtype that holds all of these; integers have to be of one."""
    if len(set(kinds)) == 1:
        return kinds[0]
    if not all(kind.is_floating_point for kind in kinds):
        raise OptionError(
            f"tensor {name!r}: expected one dtype of whole numbers in all models, got {', '.join(map(str, kinds))}; merge models of one architecture"
        )
    eight = [kind for kind in kinds if kind.itemsize == 1]
    wide = [kind for kind in kinds if kind.itemsize > 1] or [torch.bfloat16]
    found = wide[0]
    for kind in (*wide[1:], *(torch.bfloat16 for _ in eight)):
        found = torch.promote_types(found, kind)
    return found


def _stored_dtype(building: _Building, source: Source, name: str) -> torch.dtype:
    """As on disk: a view may compute in a wider one, and so does an adapter."""
    model = building.models[source.model]
    if isinstance(model, Adapted) and model.origin.resolve(name) is not None:
        model = model.origin
    return model.dtypes[model.resolve(name) or name]


def _value(
    name: str, kind: tuple[type, Any], scopes: Sequence[Settings | None], tensor: str, t: float, model: ModelName | None
) -> Any:
    found = parameter(name, scopes, tensor, t, kind[0])
    if found is None and kind[1] is REQUIRED:
        where = f" of {model}" if model else ""
        raise OptionError(
            f"parameter {name!r}{where}: expected a value for tensor {tensor!r}, got none; give one under parameters"
        )
    return kind[1] if found is None else found


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
    recipe: Recipe,
    models: Mapping[ModelName, Weights],
    donor_name: ModelName,
    parts: Sequence[_Part],
    layers: int,
    tokenizer: TokenizerPlan | None,
) -> dict[str, Any]:
    """The output's config.json: the donor's, with the dtype, the layers and the vocabulary that the output has."""
    donor = models[donor_name]
    config = dict(donor.config)
    if tokenizer is not None and tokenizer.vocabulary is not None:
        origin = next(model for name, model in models.items() if str(name) == tokenizer.vocabulary.origin)
        config = config_for(tokenizer.vocabulary, config, origin.config)
    wanted = recipe.out_dtype or recipe.dtype
    if wanted:
        config["dtype" if "dtype" in config else "torch_dtype"] = str(_dtype(wanted)).removeprefix("torch.")
    if recipe.output.slices:
        key = next((key for key in _LAYER_COUNTS if config.get(key) == donor.n_layers), None)
        if key is None:
            raise OptionError(
                f"slices: expected the number of layers ({donor.n_layers}) in config.json as one of {', '.join(_LAYER_COUNTS)}, got none; "
                "merge whole models, or mend the config"
            )
        config[key] = layers
        order = [number for part in parts for number in part.sources[0][2]]
        for name, value in config.items():  # one entry a layer, as layer_types
            if (
                isinstance(value, list)
                and len(value) == donor.n_layers
                and max(order, default=0) < len(value)
                and name.startswith("layer")
            ):
                config[name] = [value[number] for number in order]
    return config
