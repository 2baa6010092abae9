"""The run-time half of the language gate: what every attribute read, attribute target, item target, class and import passes through.

A refusal is raised as `PolicyViolation` and also noted in `Guards.violation`, so that a program that catches everything
still ends with the verdict `policy`. Where the object has no such attribute at all, Python's own AttributeError is
raised: a typo is the program's exception, not a violation.

What may be read depends on the class that defines the name: what a program's own class defines is its own affair, what it inherits
from a library has the library's table (`sandbox.readable`).
"""

from __future__ import annotations

import builtins
import functools
import string
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import torch
from RestrictedPython.transformer import INSPECT_ATTRIBUTES

from sandbox import copies
from sandbox.classes import CANDIDATE_MODULE, TYPE, StandInType, base_of, build, class_of, is_own, real_of
from sandbox.facade import Facade
from sandbox.gate import CANDIDATE_FILE
from sandbox.inert import QUIET_METHODS, Logger, Switches
from sandbox.names_python import BUILTINS, READABLE_SPECIALS
from sandbox.names_torch import TENSOR_WRITABLE
from sandbox.readable import FORMATTERS, names_of
from sandbox.replacements import TENSOR_METHODS, is_own_function, takes_items
from sandbox.rules import PolicyViolation, Refusal
from sandbox.transformer import CASES_GUARD, ITEM_GUARD, READ_GUARD, WRAPPERS, WRITE_GUARD

_NAMED_TUPLE_METHODS = frozenset({"_replace", "_asdict", "_fields", "_make"})
_OF_EVERY_CLASS = frozenset({"__name__", "__qualname__", "__doc__", "__module__", "__class__"})
_CLASS_KEYWORDS = frozenset({"total"})
_this_class: Callable[[super], Any] = super.__dict__["__thisclass__"].__get__
_self_class: Callable[[super], Any] = super.__dict__["__self_class__"].__get__
_bound_object: Callable[[super], Any] = super.__dict__["__self__"].__get__
_class_names: Callable[[type], Mapping[str, Any]] = type.__dict__["__dict__"].__get__
_mro: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
_class_name: Callable[[type], str] = type.__dict__["__name__"].__get__
# By the descriptors themselves: a program's own class may define attributes of these names.


class OutputLimit(Exception):
    """The program printed more than `Limits.output_bytes`."""


@functools.cache
def _plain_builtins() -> dict[str, Any]:
    return {name: getattr(builtins, name) for name in BUILTINS if hasattr(builtins, name)}


class _GuardedFormatter(string.Formatter):
    """`str.format` with attribute fields read through the guard."""

    def __init__(self, read: Callable[[Any, str], Any]) -> None:
        self._read = read

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        first, rest = string._string.formatter_field_name_split(field_name)  # type: ignore[attr-defined]
        value = self.get_value(first, args, kwargs)
        for is_attribute, key in rest:
            value = self._read(value, key) if is_attribute else value[key]
        return value, first

    def get_value(self, key: int | str, args: Any, kwargs: Any) -> Any:
        if key == "":
            raise ValueError("number the fields, or leave all of them empty")
        return super().get_value(key, args, kwargs)


def throw(generator: types.GeneratorType[Any, Any, Any], *arguments: Any) -> Any:
    """`generator.throw`. Where a generator is done, an exception thrown into it begins here, and is the program's own all the same."""
    return types.GeneratorType.throw(generator, *arguments)


class Cases:
    """Holds the values of `case` patterns that are written with a dot, read through the guard before the match."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        for number, value in enumerate(values):
            setattr(self, f"v{number}", value)


class Guards:
    """The guards of one child, shared by all its jobs.

    Args:
        facades: module stand-ins by dotted path (`sandbox.facade.build_facades`).
        output_bytes: how much the program may print before it is stopped.

    Attributes:
        violation: the first refusal and the program's line, whatever the program made of the exception.
        flooded: it printed too much, likewise.
    """

    def __init__(self, facades: Mapping[str, Facade], output_bytes: int) -> None:
        self._facades = facades
        self._output_left = output_bytes
        self._formatter = _GuardedFormatter(self.read)
        self.violation: tuple[Refusal, int | None] | None = None
        self.flooded = False
        self._names = self._make_names()

    def namespace(self) -> dict[str, Any]:
        """A fresh global namespace for one job."""
        builtin, guards = self._names
        return {
            "__builtins__": dict(builtin), "__name__": CANDIDATE_MODULE, "__doc__": None, "__file__": CANDIDATE_FILE, **guards,
        }  # fmt: skip

    def _make_names(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Built-ins and guards. Plain functions, not methods of ours: a method can be copied together with its object."""

        def plain(method: Callable[..., Any], name: str) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                return method(*arguments, **options)

            call.__name__ = call.__qualname__ = name
            return call

        own: dict[str, Callable[..., Any]] = {"__build_class__": self.build_class, "__import__": self.import_module, "getattr": self.getattr,
               "hasattr": self.hasattr, "setattr": self.setattr, "delattr": self.delattr, "print": self.print}  # fmt: skip
        guards: dict[str, Callable[..., Any]] = {READ_GUARD: self.read, WRITE_GUARD: self.write, ITEM_GUARD: self.items}
        builtin = {**_plain_builtins(), **{name: plain(method, name) for name, method in own.items()}, "type": TYPE}
        wrappers = {WRAPPERS["__new__"]: copies.making, WRAPPERS["__deepcopy__"]: copies.copying}
        return builtin, {
            CASES_GUARD: Cases,
            **wrappers,
            **{name: plain(method, name) for name, method in guards.items()},
        }

    def refuse(self, rule: str, name: str, hint: str = "") -> PolicyViolation:
        """The violation to raise; also noted, in case the program catches it."""
        frame: types.FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename != CANDIDATE_FILE:
            frame = frame.f_back
        line = frame.f_lineno if frame else None
        refusal = Refusal(rule, name[:200], line, hint)
        self.violation = self.violation or (refusal, line)
        return PolicyViolation(refusal)

    # Attribute reads.

    def read(self, obj: Any, name: str) -> Any:
        """`obj.name`, if the gate allows it."""
        if self._allowed(obj, name):
            return self._get(obj, name)
        if self._absent(obj, name):
            raise AttributeError(f"'{_owner(obj)}' object has no attribute '{name}'", name=name, obj=obj)
        raise self.refuse("name" if type(obj) is Facade else "attribute", f"{_owner(obj)}.{name}")

    def _get(self, obj: Any, name: str) -> Any:
        """An attribute that may be read; some are not what the library has."""
        kind = type(obj)
        if kind is Facade:
            return object.__getattribute__(obj, "_names")[name]
        if name == "__class__":
            return class_of(obj)
        if name == "__setattr__":
            return self._setter(obj)
        if name in FORMATTERS and _is_text(obj):
            return self._format_of(obj, name)
        if name == "throw" and kind is types.GeneratorType:
            return functools.partial(throw, obj)
        if name == "throw" and kind is StandInType:
            return throw
        if name in TENSOR_METHODS:
            if kind is StandInType and issubclass(obj.real, torch.Tensor):
                return TENSOR_METHODS[name]
            if isinstance(obj, torch.Tensor):
                return functools.partial(TENSOR_METHODS[name], obj)
        if isinstance(obj, type) and name not in _OF_EVERY_CLASS:
            return _of_class(real_of(obj), name)
        return getattr(obj, name)

    def _format_of(self, obj: Any, name: str) -> Callable[..., str]:
        if isinstance(obj, type):  # str.format itself, or by way of a class of the program's own
            if name == "format_map":
                return lambda text, mapping: self._formatter.vformat(text, (), mapping)
            return lambda text, *args, **kwargs: self._formatter.vformat(text, args, kwargs)
        text = str.__str__(_bound_object(obj) if type(obj) is super else obj)
        if name == "format_map":
            return lambda mapping: self._formatter.vformat(text, (), mapping)
        return lambda *args, **kwargs: self._formatter.vformat(text, args, kwargs)

    def _allowed(self, obj: Any, name: Any) -> bool:
        """Whether a program may read this attribute; runs nothing of the program."""
        if type(name) is not str:  # a subclass could say of itself what it likes
            raise TypeError("attribute name must be a plain string")
        kind = type(obj)
        if kind is Facade:
            return name in object.__getattribute__(obj, "_names")
        if name == "__setattr__":  # how a frozen dataclass sets its fields in __post_init__
            return obj is object or (kind is super and is_own(_this_class(obj)))
        if name in INSPECT_ATTRIBUTES or (name.startswith("__") and name not in READABLE_SPECIALS):
            return False
        if name in FORMATTERS and _is_text(obj):
            return True
        if kind is StandInType:
            return name in _OF_EVERY_CLASS or _of_library(obj.real, name)
        if isinstance(obj, type):
            return name in _OF_EVERY_CLASS or _of_classes(_mro(obj), name)
        if kind is super:
            this, bound = _this_class(obj), _self_class(obj)
            if not is_own(this) or bound is None:
                return False
            mro = _mro(bound)
            return name == "__class__" or _of_classes(mro[mro.index(this) + 1 :], name)
        if is_own_function(obj):
            return name in READABLE_SPECIALS or name in vars(obj)
        if kind is Logger or kind is Switches:
            return name in QUIET_METHODS or (not name.startswith("_") and hasattr(kind, name))
        if kind is types.SimpleNamespace:
            return not name.startswith("_") and name in vars(obj)
        if is_own(kind):
            return _of_instance(obj, name) or _of_classes(_mro(kind), name)
        if issubclass(kind, tuple) and kind is not tuple:
            return name in _NAMED_TUPLE_METHODS or not name.startswith("_") or name in READABLE_SPECIALS
        return _of_library(kind, name)

    def _absent(self, obj: Any, name: str) -> bool:
        """Whether there is no such attribute, so that Python's own error is due. Runs nothing of the program."""
        kind = type(obj)
        if kind is Facade:
            return False
        if is_own(kind) or (isinstance(obj, type) and kind is not StandInType):
            places = (*_mro(kind), *(_mro(obj) if isinstance(obj, type) else ()))
            return not any(name in _class_names(place) for place in places)
        return not hasattr(obj.real if kind is StandInType else obj, name)

    def getattr(self, obj: Any, name: str, *default: Any) -> Any:
        if default and not self._allowed(obj, name):
            return default[0]
        try:
            return self.read(obj, name)
        except AttributeError:
            if default:
                return default[0]
            raise

    def hasattr(self, obj: Any, name: str) -> bool:
        """Asking is no violation: what may not be read is not there."""
        if not self._allowed(obj, name):
            return False
        try:
            self._get(obj, name)
        except AttributeError:
            return False
        return True

    # Targets.

    def write(self, obj: Any, name: str) -> Any:
        """`obj`, if its attribute `name` may be set or deleted."""
        plain = (
            type(name) is str
            and not name.startswith("__")
            and name not in INSPECT_ATTRIBUTES
            and not _internal(obj, name)
        )
        own = is_own(type(obj)) or is_own(obj) or is_own_function(obj)
        if plain and (own or (isinstance(obj, torch.Tensor) and name in TENSOR_WRITABLE)):
            return obj
        if plain and isinstance(obj, torch.nn.Module) and name in object.__getattribute__(obj, "_parameters"):
            return obj  # `layer.weight = nn.Parameter(...)`; torch takes nothing else there
        if plain and (type(obj) is Switches or (type(obj) is types.SimpleNamespace and not name.startswith("_"))):
            return obj
        raise self.refuse("attribute-write", f"{_owner(obj)}.{name}")

    def _setter(self, obj: Any) -> Callable[..., None]:
        """`object.__setattr__`, or `super().__setattr__` of a class of the program's own, with the guard before it."""
        if obj is object:
            return lambda target, name, value: object.__setattr__(self.write(target, name), name, value)

        def set_by_super(name: str, value: Any) -> None:
            self.write(_bound_object(obj), name)
            obj.__setattr__(name, value)

        return set_by_super

    def setattr(self, obj: Any, name: str, value: Any) -> None:
        setattr(self.write(obj, name), name, value)

    def delattr(self, obj: Any, name: str) -> None:
        delattr(self.write(obj, name), name)

    def items(self, obj: Any) -> Any:
        """`obj`, if its items may be set or deleted."""
        if takes_items(obj):
            return obj
        raise self.refuse("item-write", _owner(obj))

    # Classes.

    def build_class(self, body: Any, name: str, *bases: Any, **keywords: Any) -> Any:
        """What a `class` statement calls: bases from a finite list, no metaclass, and the result is noted as the program's own."""
        for keyword in keywords:
            if keyword not in _CLASS_KEYWORDS and not any(is_own(base) for base in bases):
                raise self.refuse("class", keyword)
        if "metaclass" in keywords:
            raise self.refuse("class", "metaclass")
        found = [base_of(base) for base in bases]
        for base, real in zip(bases, found, strict=True):
            if real is None:
                raise self.refuse("class", getattr(base, "__name__", None) or _owner(base))
        return build(body, name, tuple(found), keywords)

    # Imports and output.

    def import_module(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> Facade:
        """`__import__` of a program: stand-ins only."""
        if level == 0 and name in self._facades:
            return self._facades[name if fromlist else name.split(".")[0]]
        if name in sys.modules and name.split(".")[0] in ("numpy", "torch"):
            # numpy's C code imports its own parts through the calling frame and then reads sys.modules: let it,
            # empty-handed.
            return Facade(name, {})
        raise self.refuse("import", name)

    def print(self, *values: Any, **_: Any) -> None:
        """Discards what is printed, and counts it; tensors and other objects count as a line each, unformatted."""
        self._output_left -= sum(str.__len__(v) if isinstance(v, str) else 80 for v in values) + 1
        if self._output_left < 0:
            self.flooded = True
            raise OutputLimit


def _of_class(kind: type, name: str) -> Any:
    """`kind.name`. A library's method that is written in Python takes no other object than one of its class: on one of the program's own
    its steps would be the program's."""
    definer = next((place for place in _mro(kind) if name in _class_names(place)), None)
    found = getattr(kind, name)
    if definer is None or is_own(definer) or type(_class_names(definer)[name]) is not types.FunctionType:
        return found

    def method(self: Any, *arguments: Any, **options: Any) -> Any:
        if not any(place is definer for place in _mro(type(self))):
            raise TypeError(f"'{name}' requires a '{_class_name(definer)}' object, got '{_class_name(type(self))}'")
        return found(self, *arguments, **options)

    return method


_MODULE_TABLES = frozenset(name for name in vars(torch.nn.Module()) if name.startswith("_"))


def _internal(obj: Any, name: str) -> bool:
    """Whether the library keeps its books under this name: what an abstract class remembers of others, an Enum of its members, a
    torch module of its parts."""
    if name == "_abc_impl" or (name.startswith("_") and name.endswith("_") and isinstance(obj, type)):
        return True
    return isinstance(obj, torch.nn.Module) and name in _MODULE_TABLES


def _owner(obj: Any) -> str:
    """What a refusal calls the object: the module's path, the class's name, or that of the object's class."""
    if type(obj) is Facade:
        return str(object.__getattribute__(obj, "_path"))
    kind = obj.real if type(obj) is StandInType else obj if isinstance(obj, type) else type(obj)
    return _class_name(kind)


def _is_text(obj: Any) -> bool:
    """Whether `obj` is a text, a class of texts, or a text by way of `super`."""
    kind = _self_class(obj) if type(obj) is super else obj if isinstance(obj, type) else type(obj)
    return isinstance(kind, type) and issubclass(kind, str)


def _of_library(kind: type, name: str) -> bool:
    return name in names_of(kind)


def _of_classes(mro: tuple[type, ...], name: str) -> bool:
    """Whether the first class of `mro` that defines `name` is the program's own, or a library's that gives it."""
    for kind in mro:
        if name in _class_names(kind):
            return is_own(kind) or _of_library(kind, name)
    return False


def _of_instance(obj: Any, name: str) -> bool:
    """Whether the program set it on this object, or as a parameter or part of this nn.Module."""
    try:
        own = object.__getattribute__(obj, "__dict__")
    except AttributeError:  # __slots__
        return False
    if name in own:
        return not (isinstance(obj, torch.nn.Module) and name.startswith("_"))
    return isinstance(obj, torch.nn.Module) and any(
        name in own.get(kind, ()) for kind in ("_parameters", "_buffers", "_modules")
    )
