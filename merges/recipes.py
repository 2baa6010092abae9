"""mergekit's YAML, read as data: which models, which layers, which method, and its parameters tensor by tensor.

The format is mergekit 0.1.5's (https://github.com/arcee-ai/mergekit, docs/merge_configuration.md): parameters may be numbers, gradients over the layers,
or lists of values with name filters, and stand at a model, a slice or the whole. What we do not do is refused, never overlooked.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from merges.errors import OptionError

__all__ = [
    "Conditional",
    "ModelName",
    "Output",
    "Recipe",
    "Scalar",
    "Setting",
    "Settings",
    "Slice",
    "Source",
    "Tokenizer",
    "read_recipe",
]

Scalar = bool | int | float | str
MAX_BYTES = 1 << 20

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist, _SHORT.maxstring = 2, 3, 3, 60


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Conditional(_Part):
    """A value for tensors whose name has `filter` in it; None and * stand for all."""

    value: Scalar | list[Scalar]
    filter: str | None = None


Setting = Scalar | list[Scalar] | list[Conditional] | Conditional
Settings = Mapping[str, Setting]


class ModelName(_Part):
    """A model as recipes write it: `path`, `owner/name@revision`, `path+adapter`.

    Attributes:
        path: folder or hub id, with a revision.
        lora: likewise, of an adapter on it.
    """

    path: str
    lora: str | None = None

    def __str__(self) -> str:
        return f"{self.path}+{self.lora}" if self.lora else self.path


def _named(value: Any) -> Any:
    if isinstance(value, str):
        path, plus, lora = value.partition("+")
        return _checked(path, lora if plus else None)
    if isinstance(value, dict) and "model" in value:
        if value.get("override_architecture"):
            raise ValueError("override_architecture is not known here: tensors go by their names")
        if set(value) - {"model", "lora", "override_architecture"}:
            raise ValueError("a model may have the keys model and lora")
        return _checked(_path(value["model"]), None if value.get("lora") is None else _path(value["lora"]))
    return value


def _checked(path: Any, lora: Any) -> dict[str, Any]:
    if not isinstance(path, str) or not path or not (lora is None or (isinstance(lora, str) and lora)):
        raise ValueError("a model has to have a path, and an adapter too")
    return {"path": path, "lora": lora}


def _path(value: Any) -> Any:
    if isinstance(value, dict):
        path, revision = value.get("path"), value.get("revision")
        return f"{path}@{revision}" if isinstance(path, str) and revision else path
    return value


Model = Annotated[ModelName, BeforeValidator(_named)]


class Source(_Part):
    """Layers `layer_range` (first, last exclusive; None: all) of one model."""

    model: Model
    layer_range: tuple[int, int] | None = None
    parameters: Settings | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Source:
        if self.layer_range is not None and not 0 <= self.layer_range[0] < self.layer_range[1]:
            raise ValueError(f"layer_range {list(self.layer_range)} has to be [first, last + 1]")
        return self


class Slice(_Part):
    """Consecutive layers of the output, merged from as many layers of every source."""

    sources: list[Source] = Field(min_length=1)
    base_model: Model | None = None
    parameters: Settings | None = None


class Output(_Part):
    """Models merged whole, or slices one after the other."""

    models: list[Source] | None = None
    slices: list[Slice] | None = None
    parameters: Settings | None = None

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Output:
        if self.models is not None and self.slices is not None:
            raise ValueError("exactly one of models and slices has to be there")
        if any(source.layer_range is not None for source in self.models or ()):
            raise ValueError("models are merged whole: layer_range belongs under slices")
        return self


class Tokenizer(_Part):
    """Whose vocabulary the output has, and rules for single tokens."""

    source: Literal["union", "base"] | Model = "union"
    tokens: Mapping[str, Any] | None = None
    pad_to_multiple_of: int | None = Field(default=None, ge=1)


class Recipe(_Part):
    """A merge as a YAML file describes it."""

    merge_method: str
    models: list[Source] | None = None
    slices: list[Slice] | None = None
    modules: Mapping[str, Output] | None = None
    base_model: Model | None = None
    parameters: Settings | None = None
    dtype: str | None = None
    out_dtype: str | None = None
    tokenizer_source: Literal["union", "base"] | Model | None = None
    tokenizer: Tokenizer | None = None
    chat_template: str | None = None
    name: str | None = None
    _text: str = PrivateAttr(default="")  # no field: a file must not be able to set it

    @model_validator(mode="after")
    def _asks_for_one_thing(self) -> Recipe:
        if sum(part is not None for part in (self.models, self.slices, self.modules)) != 1:
            raise ValueError("exactly one of models, slices and modules has to be there")
        if self.modules is not None and len(self.modules) != 1:
            raise ValueError(
                f"modules: one module can be merged here, not {len(self.modules)} ({', '.join(self.modules)})"
            )
        if self.tokenizer is not None and self.tokenizer_source is not None:
            raise ValueError("tokenizer_source and tokenizer exclude each other")
        if not self.output.models and not self.output.slices:
            raise ValueError("models or slices: at least one has to be there")
        return self

    @property
    def text(self) -> str:
        """The file."""
        return self._text

    @property
    def output(self) -> Output:
        """What is merged, wherever it is written."""
        if self.modules is not None:
            return next(iter(self.modules.values()))
        return Output(models=self.models, slices=self.slices)

    @property
    def place(self) -> str:
        """Where the output stands in the file: nothing, or `modules.NAME.`."""
        return "" if self.modules is None else f"modules.{next(iter(self.modules))}."

    @property
    def named(self) -> tuple[ModelName, ...]:
        """Every model that is mentioned, the base first, each once."""
        found = [self.base_model] if self.base_model else []
        found += [source.model for source in self.output.models or ()]
        for part in self.output.slices or ():
            found += [*([part.base_model] if part.base_model else []), *(source.model for source in part.sources)]
        for source in (self.tokenizer_source, self.tokenizer.source if self.tokenizer else None):
            found += [source] if isinstance(source, ModelName) else []
        return tuple(dict.fromkeys(found))


def read_recipe(path: Path) -> Recipe:
    """Read a YAML file.

    Raises:
        OptionError: not readable, not YAML, or not such a recipe; names the place.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise OptionError(f"recipe '{path}': expected a readable file, got {error.strerror}; check the path") from error
    if len(content) > MAX_BYTES:
        raise OptionError(f"recipe '{path}': expected at most {MAX_BYTES:,} bytes, got more; is it a recipe?")
    try:
        text = content.decode()
        tree = yaml.safe_load(text)
    except (
        yaml.YAMLError,
        ValueError,
        KeyError,
        AttributeError,
        RecursionError,
    ) as error:  # some tags raise what they like
        raise OptionError(f"recipe '{path}': expected YAML, got {error}; mend that line") from error
    if not isinstance(tree, dict):
        raise OptionError(
            f"recipe '{path}': expected a mapping with merge_method, got {type(tree).__name__}; see mergekit's format"
        )
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-")) or "the file"
        got = _SHORT.repr(first.get("input"))  # bounded, however often an alias repeats itself
        raise OptionError(
            f"recipe '{path}', {where}: expected a mergekit recipe, got {got} ({first['msg']}); correct it"
        ) from error
    recipe._text = text
    return recipe
