"""What a merge program gets in place of some library functions: those that write attributes of what they are handed, give memory as
it was left, ask the operating system for chance, or compute in an order nobody fixed (what does nothing at all: `inert.py`).
"""

from __future__ import annotations

import abc
import collections
import contextlib
import dataclasses
import functools
import inspect
import operator
import random
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from RestrictedPython.transformer import INSPECT_ATTRIBUTES

from sandbox import copies
from sandbox.classes import BASE_FUNCTIONS, BaseFunction, adopt, given_class, is_own, plain_name, real_of, stand_in
from sandbox.gate import CANDIDATE_FILE
from sandbox.inert import inert


def is_own_function(value: object) -> bool:
    """Whether `value` is a function whose code is the program's."""
    return getattr(getattr(value, "__code__", None), "co_filename", None) == CANDIDATE_FILE


# Decorators that write.


def _own_class(decorator: Callable[[type], type]) -> Callable[[type], type]:
    """A class decorator that refuses classes of libraries (it would write attributes on them)."""

    def decorate(kind: type) -> type:
        if not is_own(kind):
            raise TypeError(f"{decorator.__name__} takes a class of the program itself")
        return adopt(decorator(kind))

    return decorate


def _wraps(wrapped: Any, *_: object, **__: object) -> Callable[[Any], Any]:
    def keep_name(function: Any) -> Any:
        if is_own_function(function):
            for name in ("__name__", "__qualname__", "__doc__"):
                text = getattr(wrapped, name, None)
                if isinstance(text, str):
                    setattr(function, name, text)
            if is_own_function(wrapped):
                vars(function).update(vars(wrapped))
        return function

    return keep_name


def _dataclass(kind: type | None = None, /, **options: Any) -> Any:
    """`dataclasses.dataclass`, which puts field names into source text that it then executes."""

    def checked(own: type) -> type:
        for base in own.__mro__:
            for name in inspect.get_annotations(base):
                plain_name(name, private=True)
        return dataclasses.dataclass(own, **options)

    decorate = _own_class(checked)
    return decorate if kind is None else decorate(kind)


def _update_wrapper(wrapper: Any, wrapped: Any, *_: object, **__: object) -> Any:
    return _wraps(wrapped)(wrapper)


def _abstractmethod(function: Any) -> Any:
    if is_own_function(function):
        function.__isabstractmethod__ = True
    return function


def _itself(value: Any) -> Any:
    return value


def _namedtuple(
    typename: str, field_names: Any, *, rename: bool = False, defaults: Any = None, module: Any = None
) -> type:
    """`collections.namedtuple`, which says of itself that it is the program's; `module` is what nobody else may say."""
    names = (
        field_names.replace(",", " ").split() if isinstance(field_names, str) else [str(name) for name in field_names]
    )
    if INSPECT_ATTRIBUTES & set(names):
        raise TypeError("these cannot be the names of fields")
    return adopt(collections.namedtuple(typename, names, rename=rename, defaults=defaults, module="candidate"))


# What would give a class, or write items, past the guards.

_ITEM_TYPES = (
    list, dict, bytearray, collections.deque, collections.ChainMap, collections.UserDict, collections.UserList,
    torch.Tensor, np.ndarray, np.flatiter, torch.nn.Sequential,
)  # fmt: skip
_IMMUTABLE = (str, bytes, tuple, int, float, complex, frozenset, set, range, type(None))
"""Python itself raises TypeError."""


def takes_items(obj: Any) -> bool:
    """Whether a program may set or delete items of it, or Python itself says that nobody can."""
    return isinstance(obj, (*_ITEM_TYPES, *_IMMUTABLE)) or is_own(type(obj))


def _setitem(obj: Any, key: Any, value: Any) -> None:
    if not takes_items(obj):
        raise TypeError(f"'{type(obj).__name__}' object does not support item assignment")
    operator.setitem(obj, key, value)


def _delitem(obj: Any, key: Any) -> None:
    if not takes_items(obj):
        raise TypeError(f"'{type(obj).__name__}' object does not support item deletion")
    operator.delitem(obj, key)


def _get_origin(hint: Any) -> Any:
    return given_class(typing.get_origin(hint))


def _get_args(hint: Any) -> tuple[Any, ...]:
    return tuple(given_class(part) for part in typing.get_args(hint))


# Chance.


class SeededRandom(random.Random):
    """`random.Random` whose default seed comes from the seeded global generator instead of the operating system."""

    def seed(self, a: Any = None, version: int = 2) -> None:
        super().seed(random.getrandbits(64) if a is None else a, version)


def _seed_random(a: Any = None, version: int = 2) -> None:
    if a is not None:
        random.seed(a, version)


def _seed_numpy(seed: Any = None) -> None:
    if seed is not None:
        np.random.seed(seed)


def _numpy_entropy(seed: Any) -> Any:
    return int(np.random.randint(0, 2**31 - 1)) if seed is None else seed


def _default_rng(seed: Any = None) -> np.random.Generator:
    return np.random.default_rng(_numpy_entropy(seed))


def _random_state(seed: Any = None) -> np.random.RandomState:
    return np.random.RandomState(_numpy_entropy(seed))


def _seed_torch(seed: int) -> torch.Generator:
    return torch.default_generator.manual_seed(int(seed))


# Memory as it was left, and what is made of other people's objects.

_PLAIN = (int, float, bool, complex, torch.Tensor, torch.nn.Parameter, np.ndarray, range, type(None))


def _data(value: Any) -> Any:
    """`value` as nested lists of plain things. torch walks lists by pointers and calls `__float__` on the way, so a list that
    changes meanwhile would be read after it was freed."""
    if isinstance(value, list | tuple):
        return [_data(item) for item in list(value)]
    if type(value) in _PLAIN or isinstance(value, np.generic):
        return value
    return float(value)


def _from_data(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @functools.wraps(function)
    def made(data: Any, *arguments: Any, **options: Any) -> torch.Tensor:
        return function(_data(data), *arguments, **options)

    return made


def _zeroed(function: Callable[..., Any], fill: Callable[[Any], object]) -> Callable[..., Any]:
    @functools.wraps(function)
    def made(*arguments: Any, **options: Any) -> Any:
        fresh = function(*arguments, **options)
        fill(fresh)
        return fresh

    return made


def _fill_tensor(tensor: torch.Tensor) -> None:
    with torch.no_grad():
        tensor.zero_()


def _fill_array(array: np.ndarray[Any, Any]) -> None:
    array.fill(0)


def _tensor_class(real: Any) -> Any:
    """A tensor class whose constructor fills what it makes by size alone."""

    def make(*arguments: Any, **options: Any) -> torch.Tensor:
        by_size = (
            not arguments
            or all(type(argument) is int for argument in arguments)
            or isinstance(arguments[0], torch.Size)
        )
        made: torch.Tensor = real(*(arguments if by_size else map(_data, arguments)), **options)
        if by_size:
            _fill_tensor(made)
        return made

    return stand_in(real, make)


TENSOR_METHODS: dict[str, Callable[..., Any]] = {
    "new_tensor": lambda tensor, data, *rest, **options: torch.Tensor.new_tensor(tensor, _data(data), *rest, **options),
    "new_empty": _zeroed(torch.Tensor.new_empty, _fill_tensor),
    "gather": lambda tensor, dim, index, **options: _gather(tensor, dim, index),
    "type": lambda tensor, kind=None, **options: torch.Tensor.type(
        tensor, *(() if kind is None else (real_of(kind),)), **options
    ),
}
"""Methods of tensors that are replaced; functions of the tensor and the arguments. By the class: a program may hand them another object."""


def _gather(input: torch.Tensor, dim: int, index: torch.Tensor, *, out: Any = None, **_: Any) -> torch.Tensor:
    """Without `sparse_grad`: nobody checks the indices of a sparse tensor."""
    return torch.gather(input, dim, index, out=out)


def _embedding(
    input: torch.Tensor,
    weight: torch.Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> torch.Tensor:
    """Likewise without `sparse`."""
    return F.embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq)


def _finite(function: Callable[..., Any]) -> Callable[..., Any]:
    """MKL answers NaN by a message for which it opens files, and then writes past the matrix."""

    @functools.wraps(function)
    def checked(A: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        if not torch.isfinite(A).all():
            raise torch.linalg.LinAlgError(  # type: ignore[attr-defined]
                f"torch.linalg.{function.__name__.removeprefix('linalg_')}: the matrix contains infs or NaNs"
            )
        return function(A, *arguments, **options)

    return checked


def _lstsq(A: torch.Tensor, B: torch.Tensor, rcond: Any = None, *, driver: Any = None) -> Any:
    """torch's default driver reads a pivot array that it never set (pytorch issue 71222): its result differs from run to run."""
    return torch.linalg.lstsq(A, B, rcond, driver="gelsd" if driver in (None, "gelsy") else driver)


def _errstate(**options: Any) -> np.errstate:
    return np.errstate(**{name: value for name, value in options.items() if name != "call"})


def _default_dtype(dtype: torch.dtype) -> None:
    if dtype is not torch.float32:
        raise TypeError("the default dtype is float32; name another where a tensor is made")


@contextlib.contextmanager
def _fork_rng(*_: object, **__: object) -> Iterator[None]:
    """`torch.random.fork_rng` of the CPU's generator alone."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)


def _namespace(**values: Any) -> types.SimpleNamespace:
    """An attribute such as `__array_interface__` would tell numpy where in memory to look."""
    for name in values:
        plain_name(name)
    return types.SimpleNamespace(**values)


def replacements(modules: Mapping[str, frozenset[str]]) -> dict[str, Any]:
    """Full name -> what a program gets for it. `modules`: the allow-list."""
    tensor_classes = [name for name in modules["torch"] if name.endswith("Tensor")]
    return {
        **inert(modules),
        **{f"torch.{name}": _tensor_class(getattr(torch, name)) for name in tensor_classes},
        **{f"torch.{name}": _from_data(getattr(torch, name)) for name in ("tensor", "as_tensor", "asarray")},
        **{f"torch.{name}": _zeroed(getattr(torch, name), _fill_tensor) for name in ("empty", "empty_like")},
        "torch.set_default_dtype": _default_dtype,
        "torch.random.fork_rng": _fork_rng,
        **{f"numpy.{name}": _zeroed(getattr(np, name), _fill_array) for name in ("empty", "empty_like")},
        **{f"typing.{name}": _itself for name in ("final", "overload", "override")},
        **{f"typing.{name}": BaseFunction(real) for real, name in BASE_FUNCTIONS.items()},
        "numpy.ndarray": stand_in(np.ndarray),
        "numpy.errstate": _errstate,
        "numpy.random.seed": _seed_numpy,
        "numpy.random.default_rng": _default_rng,
        "numpy.random.RandomState": stand_in(np.random.RandomState, _random_state),
        "numpy.random.Generator": stand_in(np.random.Generator),
        "torch.manual_seed": _seed_torch,
        "torch.random.manual_seed": _seed_torch,
        "torch.linalg.lstsq": _lstsq,
        "torch.linalg.eig": _finite(torch.linalg.eig),
        "torch.linalg.eigvals": _finite(torch.linalg.eigvals),
        "numpy.typing.NDArray": stand_in(np.ndarray),
        "numpy.typing.ArrayLike": typing.Any,
        "numpy.typing.DTypeLike": typing.Any,
        "types.SimpleNamespace": stand_in(types.SimpleNamespace, _namespace),
        "functools.wraps": _wraps,
        "functools.update_wrapper": _update_wrapper,
        "typing.runtime_checkable": _own_class(typing.runtime_checkable),
        "abc.ABCMeta": stand_in(abc.ABCMeta),
        "functools.total_ordering": _own_class(functools.total_ordering),
        "dataclasses.dataclass": _dataclass,
        "collections.namedtuple": _namedtuple,
        "copy.deepcopy": copies.deepcopy,
        "operator.setitem": _setitem,
        "operator.delitem": _delitem,
        "torch.gather": _gather,
        "torch.nn.functional.embedding": _embedding,
        "typing.get_args": _get_args,
        "typing.get_origin": _get_origin,
        "abc.abstractmethod": _abstractmethod,
        "random.Random": SeededRandom,
        "random.seed": _seed_random,
    }  # fmt: skip
