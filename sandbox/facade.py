"""The modules that a merge program sees: read-only stand-ins that hold the allow-listed names and nothing else.

Some names are replaced by a plain function of ours, where the original would write attributes of library objects, draw
entropy from outside (results must depend on the seed alone), or ask for hardware that the sandbox does not give.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from sandbox.allowlist import MODULES
from sandbox.gate import CANDIDATE_FILE

CANDIDATE_MODULE = "candidate"
"""`__module__` of everything a program defines."""


class Facade:
    """A module stand-in. `names` is its whole content; there is no way to add to it."""

    __slots__ = ("_names", "_path")

    def __init__(self, path: str, names: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_path", path)
        object.__setattr__(self, "_names", MappingProxyType(dict(names)))

    def __getattr__(
        self, name: str
    ) -> Any:  # `import a.b as c` and `from a import b` read attributes without our guard
        try:
            return object.__getattribute__(self, "_names")[name]
        except KeyError:
            raise AttributeError(f"module '{object.__getattribute__(self, '_path')}' has no '{name}' here") from None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("modules cannot be changed")

    def __repr__(self) -> str:
        return f"<module '{object.__getattribute__(self, '_path')}'>"


def is_candidate_class(kind: object) -> bool:
    """Whether `kind` is a class that the program defined."""
    return isinstance(kind, type) and kind.__module__ == CANDIDATE_MODULE


def is_candidate_function(value: object) -> bool:
    """Whether `value` is a function whose code is the program's."""
    return getattr(getattr(value, "__code__", None), "co_filename", None) == CANDIDATE_FILE


def _own_class(decorator: Callable[[type], type]) -> Callable[[type], type]:
    """A class decorator that refuses classes of libraries (it would write attributes on them)."""

    def decorate(kind: type) -> type:
        if not is_candidate_class(kind):
            raise TypeError(f"{decorator.__name__} takes a class of the program itself")
        return decorator(kind)

    return decorate


def _wraps(wrapped: Any, *_: object, **__: object) -> Callable[[Any], Any]:
    def keep_name(function: Any) -> Any:
        if is_candidate_function(function) and is_candidate_function(wrapped):
            function.__name__, function.__doc__ = wrapped.__name__, wrapped.__doc__
        return function

    return keep_name


def _dataclass(kind: type | None = None, /, **options: Any) -> Any:
    import dataclasses

    decorate = _own_class(lambda own: dataclasses.dataclass(own, **options))
    return decorate if kind is None else decorate(kind)


def _abstractmethod(function: Any) -> Any:
    if is_candidate_function(function):
        function.__isabstractmethod__ = True
    return function


class SeededRandom(random.Random):
    """`random.Random` whose default seed comes from the seeded global generator instead of the operating system."""

    def __init__(self, x: Any = None) -> None:
        super().__init__(random.getrandbits(64) if x is None else x)


def _seed_random(a: Any = None, version: int = 2) -> None:
    if a is not None:
        random.seed(a, version)


def _seed_numpy(seed: Any = None) -> None:
    if seed is not None:
        np.random.seed(seed)


def _numpy_entropy(seed: Any) -> Any:
    return int(np.random.randint(0, 2**31 - 1)) if seed is None else seed


def _seed_torch(seed: int) -> torch.Generator:
    return torch.default_generator.manual_seed(int(seed))


def _false() -> bool:
    return False


def _zero() -> int:
    return 0


def _no_garbage(generation: int = 2) -> int:
    return 0


def _nothing(*_: object, **__: object) -> None:
    return None


def _replacements() -> dict[str, Any]:
    import functools

    return {
        "functools.wraps": _wraps,
        "functools.total_ordering": _own_class(functools.total_ordering),
        "dataclasses.dataclass": _dataclass,
        "abc.abstractmethod": _abstractmethod,
        "random.Random": SeededRandom,
        "random.seed": _seed_random,
        "numpy.random.seed": _seed_numpy,
        "numpy.random.default_rng": lambda seed=None: np.random.default_rng(_numpy_entropy(seed)),
        "numpy.random.RandomState": lambda seed=None: np.random.RandomState(_numpy_entropy(seed)),
        "torch.manual_seed": _seed_torch,
        "torch.random.manual_seed": _seed_torch,
        "gc.collect": _no_garbage,
        **{f"warnings.{name}": _nothing for name in MODULES["warnings"]},
        **{f"torch.cuda.{name}": _nothing for name in ("empty_cache", "synchronize", "manual_seed", "manual_seed_all")},
        **{f"{path}.is_available": _false for path in ("torch.cuda", "torch.mps")},
        **{f"torch.backends.{path}.is_available": _false for path in ("cuda", "mps")},
        "torch.cuda.device_count": _zero,
    }


def build_facades() -> dict[str, Facade]:
    """One stand-in per allow-listed module, by dotted path. Imports the real modules; names a version lacks are
    skipped."""
    replaced = _replacements()
    facades: dict[str, Facade] = {}
    for path in sorted(MODULES, key=lambda p: -p.count(".")):  # submodules first: parents hold them
        module = importlib.import_module(path)
        names: dict[str, Any] = {}
        for name in MODULES[path]:
            full = f"{path}.{name}"
            if full in facades:
                names[name] = facades[full]
            elif full in replaced:
                names[name] = replaced[full]
            elif hasattr(module, name):
                names[name] = getattr(module, name)
        facades[path] = Facade(path, names)
    return facades
