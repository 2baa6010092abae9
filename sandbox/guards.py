"""The run-time half of the language gate: what every attribute read, attribute target, item target and import passes
through.

A refusal is raised as `PolicyViolation` and also noted in `Guards.violation`, so that a program that catches everything
still ends with the verdict `policy`. Where the object has no such attribute at all, Python's own AttributeError is
raised: a typo is the program's exception, not a violation.
"""

from __future__ import annotations

import builtins
import collections
import functools
import itertools
import random
import re
import string
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from RestrictedPython.transformer import INSPECT_ATTRIBUTES

from sandbox.facade import CANDIDATE_MODULE, Facade, is_candidate_class, is_candidate_function
from sandbox.gate import CANDIDATE_FILE
from sandbox.names_numpy import NDARRAY_NAMES
from sandbox.names_python import BUILTINS, READABLE_SPECIALS, STANDARD
from sandbox.names_torch import TENSOR_NAMES, TENSOR_WRITABLE
from sandbox.rules import PolicyViolation, Refusal
from sandbox.transformer import BASES_GUARD, ITEM_GUARD, READ_GUARD, WRITE_GUARD
from sandbox.words import words

_FORMATTERS = frozenset({"format", "format_map"})
_NAMED_TUPLE_METHODS = frozenset({"_replace", "_asdict", "_fields", "_make", "_field_defaults"})
_ITEM_TYPES = (list, dict, bytearray, collections.deque, collections.ChainMap, torch.Tensor, np.ndarray)
_IMMUTABLE = (
    str,
    bytes,
    tuple,
    int,
    float,
    complex,
    frozenset,
    set,
    range,
    type(None),
)  # Python itself raises TypeError
_BASE_CLASSES = frozenset(
    {object, list, dict, tuple, set, frozenset, str, int, float, complex, collections.OrderedDict}
)
_BASE_MODULES = frozenset({"typing", "enum", "abc", "collections.abc"})


class OutputLimit(Exception):
    """The program printed more than `Limits.output_bytes`."""


def _public(kind: type, without: frozenset[str] = frozenset()) -> frozenset[str]:
    return frozenset(n for n in dir(kind) if not n.startswith("_") and n not in INSPECT_ATTRIBUTES) - without


def _dict_views() -> tuple[type, ...]:
    empty: dict[int, int] = {}
    return type(empty.keys()), type(empty.values()), type(empty.items())


@functools.cache
def _type_table() -> dict[type, frozenset[str]]:
    numbers_and_text = (int, float, complex, bytes, bytearray, range, slice, property)
    containers = (list, tuple, dict, set, frozenset, *_dict_views())
    more = (
        collections.deque,
        collections.defaultdict,
        collections.OrderedDict,
        collections.Counter,
        collections.ChainMap,
    )
    plain: tuple[type, ...] = (*numbers_and_text, *containers, *more)
    table = {kind: _public(kind) for kind in plain}
    table[str] = _public(str, _FORMATTERS)
    table[BaseException] = frozenset({"args", "add_note", "value", "name", "obj"})
    table[types.GeneratorType] = frozenset({"send", "throw", "close"})
    table[functools.partial] = frozenset({"func", "args", "keywords"})
    table[type(functools.lru_cache(lambda: None))] = frozenset({"cache_clear", "cache_info"})
    table[random.Random] = STANDARD["random"] - {"Random"}
    table[itertools.chain] = frozenset({"from_iterable"})
    table[re.Pattern] = words("search match fullmatch split findall finditer sub subn pattern flags groups groupindex")
    table[re.Match] = words("group groups groupdict start end span expand string re pos endpos lastindex lastgroup")
    table[torch.nn.Module] = words("forward eval train")
    table[torch.Tensor] = TENSOR_NAMES
    table[torch.dtype] = words("is_floating_point is_complex is_signed itemsize to_real to_complex")
    table[torch.device] = frozenset({"type", "index"})
    table[torch.Size] = frozenset({"numel", "count", "index"})
    table[torch.Generator] = frozenset({"manual_seed", "initial_seed", "device", "get_state", "set_state"})
    for limits in (torch.finfo, torch.iinfo, np.finfo, np.iinfo):
        table[limits] = words("bits dtype eps max min tiny smallest_normal resolution precision")
    table[np.ndarray] = table[np.generic] = NDARRAY_NAMES
    table[np.dtype] = words("name kind itemsize type char num str")
    table[np.ufunc] = words("reduce accumulate outer at reduceat nin nout")
    table[np.random.Generator] = _public(np.random.Generator, frozenset({"bit_generator", "spawn", "bytes"}))
    table[np.random.RandomState] = _public(np.random.RandomState, frozenset({"bytes"}))
    return table


@functools.cache
def _plain_builtins() -> dict[str, Any]:
    return {name: getattr(builtins, name) for name in BUILTINS if hasattr(builtins, name)}


class _OneArgumentType(type):
    """Makes `type` callable with one argument only, and still good in `isinstance(x, type)`."""

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        if len(arguments) != 1 or options:
            raise TypeError("type() takes one argument here")
        return builtins.type(arguments[0])

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, builtins.type)


class _Type(metaclass=_OneArgumentType):
    pass


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


class Guards:
    """The guards of one child, shared by all its jobs.

    Args:
        facades: module stand-ins by dotted path (`sandbox.facade.build_facades`).
        output_bytes: how much the program may print before it is stopped.
    """

    def __init__(self, facades: Mapping[str, Facade], output_bytes: int) -> None:
        self._facades = facades
        self._table = dict(_type_table())
        self._output_left = output_bytes
        self._formatter = _GuardedFormatter(self.read)
        self.violation: tuple[Refusal, int | None] | None = None

    def namespace(self) -> dict[str, Any]:
        """A fresh global namespace for one job."""
        names = dict(_plain_builtins())
        names.update(
            __import__=self.import_module, getattr=self.getattr, hasattr=self.hasattr, setattr=self.setattr,
            delattr=self.delattr, print=self.print, type=_Type,
        )  # fmt: skip
        guards = {READ_GUARD: self.read, WRITE_GUARD: self.write, ITEM_GUARD: self.items, BASES_GUARD: self.bases}
        return {
            "__builtins__": names,
            "__name__": CANDIDATE_MODULE,
            "__doc__": None,
            "__file__": CANDIDATE_FILE,
            **guards,
        }

    def refuse(self, rule: str, name: str, hint: str = "") -> PolicyViolation:
        """The violation to raise; also noted, in case the program catches it."""
        frame: types.FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename != CANDIDATE_FILE:
            frame = frame.f_back
        line = frame.f_lineno if frame else None
        refusal = Refusal(rule, name, line, hint)
        self.violation = self.violation or (refusal, line)
        return PolicyViolation(refusal)

    # Attribute reads.

    def read(self, obj: Any, name: str) -> Any:
        """`obj.name`, if the gate allows it."""
        kind = type(obj)
        names = self._table.get(kind)
        if names is not None and name in names:
            return getattr(obj, name)
        if kind is Facade:
            content = object.__getattribute__(obj, "_names")
            if name in content:
                return content[name]
        if name in _FORMATTERS and (isinstance(obj, str) or obj is str):
            return self._format_of(obj, name)
        if self._may_read(obj, name):
            return getattr(obj, name)
        if kind is not Facade and not hasattr(obj, name):
            return getattr(obj, name)  # raises Python's own AttributeError
        owner = (
            object.__getattribute__(obj, "_path")
            if kind is Facade
            else (obj if isinstance(obj, type) else kind).__name__
        )
        raise self.refuse("name" if kind is Facade else "attribute", f"{owner}.{name}")

    def _format_of(self, obj: str | type[str], name: str) -> Callable[..., str]:
        if name == "format_map" and not isinstance(obj, type):
            return lambda mapping: self._formatter.vformat(obj, (), mapping)
        if isinstance(obj, type):
            return lambda text, *args, **kwargs: self._formatter.vformat(text, args, kwargs)
        return lambda *args, **kwargs: self._formatter.vformat(obj, args, kwargs)

    def _may_read(self, obj: Any, name: str) -> bool:
        if not isinstance(name, str) or name in INSPECT_ATTRIBUTES:
            return False
        if name.startswith("__"):
            return name in READABLE_SPECIALS and not isinstance(obj, Facade)
        if isinstance(obj, type):
            return is_candidate_class(obj) or name in self._names_of(obj)
        kind = type(obj)
        if is_candidate_class(kind) or kind is super or (is_candidate_function(obj) and name in vars(obj)):
            return True
        if isinstance(obj, tuple):
            return name in _NAMED_TUPLE_METHODS or not name.startswith("_")
        return name in self._names_of(kind)

    def _names_of(self, kind: type) -> frozenset[str]:
        """Names allowed on instances of a library type; found by its bases once, then remembered."""
        names = self._table.get(kind)
        if names is None:
            names = frozenset().union(*(self._table[base] for base in kind.__mro__ if base in self._table))
            if not is_candidate_class(kind):
                self._table[kind] = names
        return names

    def getattr(self, obj: Any, name: str, *default: Any) -> Any:
        try:
            return self.read(obj, name)
        except AttributeError:
            if default:
                return default[0]
            raise

    def hasattr(self, obj: Any, name: str) -> bool:
        noted = self.violation
        try:
            self.read(obj, name)
        except (AttributeError, PolicyViolation):
            self.violation = noted  # asking is not a violation; the answer is no
            return False
        return True

    # Targets.

    def write(self, obj: Any, name: str) -> Any:
        """`obj`, if its attribute `name` may be set or deleted."""
        plain = isinstance(name, str) and not name.startswith("__") and name not in INSPECT_ATTRIBUTES
        own = is_candidate_class(type(obj)) or is_candidate_class(obj) or is_candidate_function(obj)
        if plain and (own or (isinstance(obj, torch.Tensor) and name in TENSOR_WRITABLE)):
            return obj
        raise self.refuse("attribute-write", f"{type(obj).__name__}.{name}")

    def setattr(self, obj: Any, name: str, value: Any) -> None:
        setattr(self.write(obj, name), name, value)

    def delattr(self, obj: Any, name: str) -> None:
        delattr(self.write(obj, name), name)

    def items(self, obj: Any) -> Any:
        """`obj`, if its items may be set or deleted."""
        if isinstance(obj, (*_ITEM_TYPES, *_IMMUTABLE)) or is_candidate_class(type(obj)):
            return obj
        raise self.refuse("item-write", type(obj).__name__)

    def bases(self, classes: tuple[Any, ...]) -> tuple[Any, ...]:
        """The base classes, if a program may derive from each of them."""
        for base in classes:
            exception = isinstance(base, type) and issubclass(base, Exception) and base.__module__ == "builtins"
            known = exception or is_candidate_class(base) or (isinstance(base, type) and base in _BASE_CLASSES)
            if not known and getattr(base, "__module__", None) not in _BASE_MODULES:
                raise self.refuse("class", getattr(base, "__name__", str(type(base))))
        return classes

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
        self._output_left -= sum(len(v) if isinstance(v, str) else 80 for v in values) + 1
        if self._output_left < 0:
            raise OutputLimit
