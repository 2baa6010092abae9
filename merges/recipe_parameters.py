"""Parameter values of a recipe: which setting counts for a tensor, what filters and gradients make of it, and whether it is a value at all.

mergekit checks a value when its tensor's turn comes; here all are looked at before any work, and what is wrong is said in the file's own terms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from merges.errors import OptionError
from merges.mergekit_methods import REQUIRED, Given, Kind, Kinds, Method, known_parameters
from merges.recipes import Conditional, ModelName, Scalar, Setting, Settings

__all__ = ["Scope", "Values", "check_names", "check_types", "out_of_range", "parameter"]

_TRUTHS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
"""As mergekit reads texts; YAML itself has made of most of them what they say."""


@dataclass(frozen=True)
class Scope:
    """Settings, and where they stand in the file, as `models.1.parameters`."""

    place: str
    settings: Settings


Looked = tuple[Scope, Kinds]
"""A scope with the parameters that the method looks for in it."""


def check_names(scopes: Iterable[Scope]) -> None:
    """See that no parameter is a slip of the pen.

    Raises:
        OptionError: no method has one of that name.
    """
    known = known_parameters()
    for scope in scopes:
        for name in scope.settings:
            if name not in known:
                raise OptionError(
                    f"{scope.place}: parameter {name!r}: expected one of {', '.join(sorted(known))}, got an unknown name; correct it"
                )


def check_types(looked: Iterable[Looked]) -> None:
    """See that every value that may count is one of its parameter's type.

    Raises:
        OptionError: the first that is not.
    """
    for place, value, kind in _values(looked):
        _typed(place, value, kind.type)


def out_of_range(looked: Iterable[Looked]) -> list[OptionError]:
    """One problem for every value outside its parameter's range; ends of gradients stand for all between them."""
    return [
        OptionError(f"{place}: expected {kind}, got {value}; correct it")
        for place, value, kind in _values(looked)
        if not kind.holds(_typed(place, value, kind.type))
    ]


def _values(looked: Iterable[Looked]) -> Iterator[tuple[str, Scalar, Kind]]:
    for scope, kinds in looked:
        for name, setting in scope.settings.items():
            if name in kinds:
                yield from ((f"{scope.place}.{name}", value, kinds[name]) for value in _leaves(setting))


def _leaves(setting: Setting) -> Iterator[Scalar]:
    for part in setting if isinstance(setting, list) else [setting]:
        if isinstance(part, Conditional):
            yield from _leaves(part.value)
        else:
            yield part


def parameter(name: str, scopes: Iterable[Scope | None], tensor: str, t: float, kind: type) -> Any:
    """The value of a parameter for one tensor, or None where nobody gives one.

    Args:
        scopes: from the narrowest (a model's) to the widest (the recipe's).
        tensor: name of the tensor, for filters (which look for a part of it; * is any).
        t: place of the layer in its slice, 0 to 1, for gradients.
        kind: float, int or bool; values of gradients are interpolated where they are numbers, else the nearest before is taken.

    Raises:
        OptionError: the value is not of this kind.
    """
    for scope in scopes:
        if scope is not None and name in scope.settings:
            value = _evaluated(f"{scope.place}.{name}", scope.settings[name], tensor, t, kind)
            if value is not None:
                return value
    return None


def _evaluated(place: str, setting: Setting, tensor: str, t: float, kind: type) -> Any:
    if isinstance(setting, Conditional):
        setting = [setting]
    if not isinstance(setting, list):
        return _typed(place, setting, kind)
    conditions = [part for part in setting if isinstance(part, Conditional)]
    if conditions:
        for condition in conditions:
            if condition.filter in (None, "*") or condition.filter in tensor:
                return _evaluated(place, condition.value, tensor, t, kind)
        return None
    values = [_typed(place, part, kind) for part in setting if not isinstance(part, Conditional)]
    return _gradient(values, t, kind) if values else None


def _gradient(values: Sequence[Any], t: float, kind: type) -> Any:
    """Linear between values that stand at equal distances from t = 0 to t = 1."""
    place = t * (len(values) - 1)
    if kind is bool:
        return values[int(place)]
    below = int(place)
    above = min(below + 1, len(values) - 1)
    share = place - below
    return kind((1 - share) * values[below] + share * values[above])


_TYPES = {bool: "true or false", int: "a whole number", float: "a finite number"}


def _typed(place: str, value: Scalar, kind: type) -> Any:
    try:
        if kind is bool:
            return _TRUTHS[str(int(value)) if value in (0, 1) else str(value).lower()]
        number = kind(value)
        if not math.isfinite(number) or (kind is int and number != float(value)):
            raise ValueError(value)
        return number
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise OptionError(f"{place}: expected {_TYPES[kind]}, got {value!r}; correct it") from error


class Values:
    """The values that a method gets in one slice. Tensors that no filter and no gradient tells apart get the same.

    Args:
        method: which parameters are looked for.
        shared: scopes for all models, from the narrowest to the widest.
        own: the models that are merged, each with its own scope if it has one.
    """

    def __init__(self, method: Method, shared: Sequence[Scope], own: Sequence[tuple[ModelName, Scope | None]]) -> None:
        self._method, self._shared, self._own = method, shared, own
        settings = [
            setting for scope, kinds in self.looked() for name, setting in scope.settings.items() if name in kinds
        ]
        parts = [part for setting in settings for part in (setting if isinstance(setting, list) else [setting])]
        filters = {part.filter for part in parts if isinstance(part, Conditional)} - {None, "*"}
        self._filters = tuple(sorted(text for text in filters if text is not None))
        inner = [part.value if isinstance(part, Conditional) else part for part in parts]
        self._graded = any(isinstance(value, list) for value in (*settings, *inner))

    def looked(self) -> list[Looked]:
        """The scopes, each with the parameters that are looked for in it."""
        everywhere = {**self._method.shared, **self._method.each}
        own = [(scope, self._method.each) for _, scope in self._own if scope is not None]
        return [*own, *((scope, everywhere) for scope in self._shared)]

    def key(self, name: str, stored: Sequence[str] | None, t: float) -> object:
        """Equal for tensors that get the same values.

        Args:
            name: the tensor in the output.
            stored: its name in every model that is merged; None: the same.
            t: place of its layer in the slice.
        """
        place = t if self._graded else 0.0
        if not self._filters:
            return place
        return place, *[text in tensor for tensor in (name, *(stored or ())) for text in self._filters]

    def given(self, name: str, stored: Sequence[str] | None, t: float) -> Given:
        """The values; arguments as of `key`.

        Raises:
            OptionError: a parameter that has no default has no value.
        """
        shared = {key: self._value(key, kind, self._shared, name, t, None) for key, kind in self._method.shared.items()}
        each = [
            {
                key: self._value(key, kind, (scope, *self._shared), tensor, t, model)
                for key, kind in self._method.each.items()
            }
            for (model, scope), tensor in zip(self._own, stored or repeat(name, len(self._own)), strict=True)
        ]
        return Given(shared, each)

    def _value(
        self, name: str, kind: Kind, scopes: Sequence[Scope | None], tensor: str, t: float, model: ModelName | None
    ) -> Any:
        found = parameter(name, scopes, tensor, t, kind.type)
        if found is None and kind.default is REQUIRED:
            where = f" of {model}" if model else ""
            raise OptionError(
                f"parameter {name!r}{where}: expected a value for tensor {tensor!r}, got none; give one under parameters"
            )
        return kind.default if found is None else found
