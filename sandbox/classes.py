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
import contextlib
import enum
import functools
import typing
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import torch
from RestrictedPython.transformer import INSPECT_ATTRIBUTES

from sandbox.names_python import BUILTINS

CANDIDATE_MODULE = "candidate"
"""`__module__` of everything a program defines."""

_own: WeakSet[type] = WeakSet()
"""Classes made by `class` statements of the program in this process. Not told by `__module__`, which anybody can set."""


_building = 0
_module_of: Callable[[type], Any] = type.__dict__["__module__"].__get__


def is_own(kind: object) -> bool:
    """Whether `kind` is a class that the program made, or is making (an Enum makes its members before it is done)."""
    return isinstance(kind, type) and (kind in _own or (_building > 0 and _module_of(kind) == CANDIDATE_MODULE))


def build(body: Any, name: str, bases: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Make a class of the program's own."""
    global _building
    _building += 1
    try:
        made = builtins.__build_class__(body, name, *bases, **keywords)
    finally:
        _building -= 1
    return adopt(made) if isinstance(made, type) else made


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


def given_class(kind: Any) -> Any:
    """`kind`, if it is no class; otherwise the class as a program may have it."""
    if not isinstance(kind, type):
        return kind
    if kind is type or type(kind) is StandInType:
        return TYPE if kind is type else kind
    if kind in _CALLABLE or kind in _own or kind is type(None):
        return kind
    given: Any = kind
    return _given[kind] if kind in _given else stand_in(given)


def class_of(value: Any) -> Any:
    """`type(value)`, as a program may have it."""
    kind = type(value)
    return TYPE if kind is StandInType or issubclass(kind, type) else given_class(kind)


# Bases.

_PLAIN_BASES: tuple[Any, ...] = (
    object, list, dict, tuple, set, frozenset, str, int, float, complex, torch.nn.Module, typing.Generic, typing.Protocol,
    abc.ABC, enum.Enum, enum.IntEnum, enum.Flag, enum.IntFlag, enum.StrEnum,
    collections.OrderedDict, collections.defaultdict, collections.Counter, collections.deque, collections.UserDict,
    collections.UserList, contextlib.AbstractContextManager, contextlib.ContextDecorator,
)  # fmt: skip

BASES = frozenset(
    (*_PLAIN_BASES, *(getattr(collections.abc, name) for name in collections.abc.__all__ if name != "Buffer"))
)
"""Library classes that a program may derive from, beside Python's own exceptions."""

BASE_FUNCTIONS: dict[Any, str] = {typing.NamedTuple: "NamedTuple", typing.TypedDict: "TypedDict"}
"""Functions that stand as bases. Called as they are, they make classes with fields of any text."""


class BaseFunction:
    """Stands for one of those: a base, or called with plain names."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def __call__(self, name: str, fields: Any = (), **options: Any) -> Any:
        """The functional form, for names that could stand in a class's body."""
        pairs = [(plain_name(key), kind) for key, kind in (fields.items() if isinstance(fields, dict) else fields)]
        made = self.real(plain_name(name), dict(pairs) if isinstance(fields, dict) else pairs, **options)
        return adopt(made)


def base_of(base: Any) -> Any | None:
    """What to derive from where a program writes `base`; None if it may not."""
    if type(base) is BaseFunction:
        return base.real
    plain = typing.get_origin(base) or base
    plain = real_of(plain)
    if not isinstance(plain, type) and plain is not typing.Generic and plain is not typing.Protocol:
        return None
    raisable = isinstance(plain, type) and issubclass(plain, Exception) and plain.__module__ == "builtins"
    if not (raisable or plain in BASES or plain in _own):
        return None
    return base if plain is not real_of(base) else plain


def plain_name(name: Any, *, private: bool = False) -> str:
    """`name`, if it could stand in a class's body as the name of a field; `private`: also with one underscore in front.

    Raises:
        TypeError: it could not.
    """
    hidden = "__" if private else "_"
    if type(name) is not str or not name.isidentifier() or name.startswith(hidden) or name in INSPECT_ATTRIBUTES:
        raise TypeError(f"expected a plain name for a field, without '{hidden}' in front")
    return name


_enum_call = enum.EnumType.__call__


def call_enum(kind: Any, value: Any, names: Any = None, **options: Any) -> Any:
    """`EnumType.__call__` with plain names only in its functional form: as it is it makes classes of any base, with any special
    method."""
    if names is None and not options:
        return kind.__new__(kind, value)
    if options:
        raise TypeError("write `class Name(Enum):` instead of calling Enum with options")
    if isinstance(names, str):
        names = names.replace(",", " ").split()
    pairs = names.items() if isinstance(names, dict) else names
    members = [plain_name(pair) if isinstance(pair, str) else (plain_name(pair[0]), pair[1]) for pair in pairs]
    return adopt(_enum_call(kind, plain_name(value), members, module=CANDIDATE_MODULE))
