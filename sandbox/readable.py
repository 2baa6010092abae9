"""Which attributes of library objects a merge program may read: one table, by type; a subclass has what its bases have."""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import dataclasses
import enum
import functools
import itertools
import random
import re
import types

import numpy as np
import torch
from RestrictedPython.transformer import INSPECT_ATTRIBUTES

from sandbox.classes import BASES
from sandbox.names_numpy import NDARRAY_NAMES
from sandbox.names_python import IDENTITY, MAKING_METHODS, READABLE_SPECIALS, STANDARD
from sandbox.names_torch import MODULE_NAMES, TENSOR_NAMES
from sandbox.words import words

FORMATTERS = frozenset({"format", "format_map"})

_PLAIN = (
    object,
    int,
    float,
    complex,
    bytes,
    bytearray,
    str,
    range,
    slice,
    property,
    list,
    tuple,
    dict,
    set,
    frozenset,
    BaseException,
)


def _public(kind: type, without: frozenset[str] = frozenset()) -> frozenset[str]:
    return frozenset(n for n in dir(kind) if not n.startswith("_") and n not in INSPECT_ATTRIBUTES) - without


def _dict_views() -> tuple[type, ...]:
    empty: dict[int, int] = {}
    return type(empty.keys()), type(empty.values()), type(empty.items())


@functools.cache
def type_table() -> dict[type, frozenset[str]]:
    """Type -> the names that its instances have, without the special ones."""
    more = (collections.deque, collections.defaultdict, collections.OrderedDict, collections.Counter, collections.ChainMap,
            collections.UserDict, collections.UserList)  # fmt: skip
    table = {kind: _public(kind) for kind in (*_PLAIN, *_dict_views(), *more)}
    table[str] = _public(str, FORMATTERS)
    table[BaseException] = frozenset({"args", "add_note", "value", "name", "obj", "code"})
    for name in collections.abc.__all__:
        table[getattr(collections.abc, name)] = _public(getattr(collections.abc, name), frozenset({"register"}))
    table[contextlib.ExitStack] = words("enter_context callback push close pop_all")
    table[types.SimpleNamespace] = frozenset()
    table[enum.Enum] = frozenset({"name", "value"})
    table[dataclasses.Field] = words("name type default default_factory init repr compare metadata kw_only")
    table[types.GeneratorType] = frozenset({"send", "throw", "close"})
    table[functools.partial] = frozenset({"func", "args", "keywords"})
    table[type(functools.lru_cache(lambda: None))] = frozenset({"cache_clear", "cache_info"})
    table[random.Random] = STANDARD["random"] - {"Random"} | {"seed"}
    table[itertools.chain] = frozenset({"from_iterable"})
    table[re.Pattern] = words("search match fullmatch split findall finditer sub subn pattern flags groups groupindex")
    table[re.Match] = words("group groups groupdict start end span expand string re pos endpos lastindex lastgroup")
    table[torch.nn.Module] = MODULE_NAMES
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
    # `set_state` takes a position that is not checked; `seed()` asks the operating system.
    unsafe = frozenset({"bytes", "set_state", "get_state", "seed"})
    table[np.random.RandomState] = _public(np.random.RandomState, unsafe)
    return table


@functools.cache
def names_of(kind: type) -> frozenset[str]:
    """Every name that an instance of a library type may be asked for."""
    table = type_table()
    names = frozenset[str]().union(*(table[base] for base in kind.__mro__ if base in table))
    makes = (
        kind in BASES or kind in _PLAIN or issubclass(kind, Exception)
    )  # `super().__init__()`, `object.__new__(cls)`
    if makes:
        return names | READABLE_SPECIALS - {"__deepcopy__"}  # what is given to it holds what copies are made from
    if issubclass(
        kind, torch.nn.Module
    ):  # written in Python: called on other objects, they would set any attribute of theirs
        return names | IDENTITY
    return names | READABLE_SPECIALS - MAKING_METHODS - {"__deepcopy__"}
