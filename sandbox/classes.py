"""Classes as a merge program sees them: which are its own, which it may derive from, and what stands in for the rest.

A class in hand is a constructor and, through its metaclass, a way to make classes. So `type(x)` and `x.__class__` give the real class
only where a program may call it; for all others they give a stand-in that compares, prints and answers `isinstance` as the class
does, and no metaclass is ever given out.
"""

from __future__ import annotations

import abc
import builtins
import collections
import collections.abc
import enum
import functools
import typing
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import torch

from sandbox.names_python import BUILTINS

_own: WeakSet[type] = WeakSet()
"""Classes made by `class` statements of the program in this process. Not told by `__module__`, which anybody can set."""


def is_own(kind: object) -> bool:
    """Whether `kind` is a class that the program made."""
    return isinstance(kind, type) and kind in _own


def adopt(kind: type) -> type:
    """Note a class as the program's own; returns it."""
    _own.add(kind)
    return kind


# Stand-ins.


class StandInType(type):
    """The type of stand-ins. `real` is the class behind one; `make` what calling it does."""

    real: type
    make: Callable[..., Any] | None

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        if cls.make is None:
            raise TypeError(f"'{cls.__name__}' objects cannot be made by calling their class here")
        return cls.make(*arguments, **options)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(real_of(subclass), cls.real)

    def __repr__(cls) -> str:
        return repr(cls.real)

    def __getitem__(cls, item: Any) -> Any:
        return cls  # `np.ndarray[...]` and `type[int]` in annotations


@functools.cache
def stand_in(real: Any, make: Callable[..., Any] | None = None) -> StandInType:
    """The one stand-in of a class."""
    names = {"__module__": real.__module__, "__qualname__": real.__qualname__, "__doc__": None, "real": real}
    made: Any = StandInType(real.__name__, (), names)
    made.make = staticmethod(make) if make else None
    return typing.cast(StandInType, made)


def real_of(kind: Any) -> Any:
    """The class behind a stand-in; anything else as it is."""
    return kind.real if type(kind) is StandInType else kind


def _type_of_one(*arguments: Any, **options: Any) -> Any:
    if len(arguments) != 1 or options:
        raise TypeError("type() takes one argument here")
    return class_of(arguments[0])


TYPE = stand_in(type, _type_of_one)
"""The built-in `type`: one argument, and `isinstance(x, type)`."""

_given: dict[type, Any] = {}
"""Library class -> what a program gets for it, where its modules list one (`facade.build_facades` fills it)."""

_CALLABLE = frozenset(kind for name in BUILTINS if isinstance(kind := getattr(builtins, name, None), type)) - {
    super,
    type,
}


def give(real: type, given: Any) -> None:
    """Note what stands for a library class in the program's modules, so that `type(x) is torch.Tensor` holds."""
    _given.setdefault(real, given)


def class_of(value: Any) -> Any:
    """`type(value)`, as a program may have it."""
    kind = type(value)
    if kind is StandInType or issubclass(kind, type):
        return TYPE
    if kind in _CALLABLE or kind in _own or kind is type(None):
        return kind
    return _given[kind] if kind in _given else stand_in(kind)


# Bases.

BASES: frozenset[Any] = frozenset(
    {object, list, dict, tuple, set, frozenset, str, int, float, complex, abc.ABC, torch.nn.Module, typing.Generic, typing.Protocol}
    | {collections.OrderedDict, collections.defaultdict, collections.Counter, collections.deque}
    | {collections.UserDict, collections.UserList}
    | {enum.Enum, enum.IntEnum, enum.Flag, enum.IntFlag, enum.StrEnum}
    | {getattr(collections.abc, name) for name in collections.abc.__all__ if name != "Buffer"}
)  # fmt: skip
"""Library classes that a program may derive from, beside Python's own exceptions."""

CLASS_SYNTAX = {typing.NamedTuple: "NamedTuple", typing.TypedDict: "TypedDict"}
"""Functions that stand as bases. Called, they would make classes from texts that nobody checked."""


class ClassSyntaxOnly:
    """Stands for one of those: a base, and nothing else."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def __call__(self, *_: object, **__: object) -> Any:
        raise TypeError(f"write `class Name({CLASS_SYNTAX[self.real]}):` instead of calling it")


def base_of(base: Any) -> Any | None:
    """What to derive from where a program writes `base`; None if it may not."""
    if type(base) is ClassSyntaxOnly:
        return base.real
    plain = typing.get_origin(base) or base
    plain = real_of(plain)
    if not isinstance(plain, type) and plain is not typing.Generic and plain is not typing.Protocol:
        return None
    raisable = isinstance(plain, type) and issubclass(plain, Exception) and plain.__module__ == "builtins"
    if not (raisable or plain in BASES or plain in _own):
        return None
    return base if plain is not real_of(base) else plain


def look_up_only(kind: Any, value: Any, *more: Any, **options: Any) -> Any:
    """`EnumType.__call__` without its functional form, which makes classes of any base with any special method."""
    if more or options:
        raise TypeError("write `class Name(Enum):` instead of calling Enum")
    return kind.__new__(kind, value)
