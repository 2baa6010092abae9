"""A walk over everything that a program can reach by reading attributes, looking for what it must not have in hand."""

from __future__ import annotations

import builtins
import functools
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from sandbox import warmup
from sandbox.classes import TYPE, StandInType, class_of
from sandbox.facade import Facade
from sandbox.guards import Guards
from sandbox.rules import PolicyViolation

FORBIDDEN_TYPES = (
    types.ModuleType,
    types.FrameType,
    types.CodeType,
    types.TracebackType,
    types.CellType,
    Guards,
)
FORBIDDEN = {
    *(getattr(builtins, name) for name in ("open", "eval", "exec", "compile", "__import__", "getattr", "setattr", "delattr", "globals",
                                           "locals", "vars", "type", "super", "__build_class__", "memoryview", "input", "breakpoint")),
    torch.save, torch.load, np.ndarray, np.save, np.load, np.random.RandomState, torch.Tensor, types.FunctionType, types.ModuleType,
    types.MethodType, types.SimpleNamespace, Facade, StandInType, object.__getattribute__, type.__getattribute__,
}  # fmt: skip
# `super` is a built-in that programs have; what it gives goes through the guard.
GIVEN_ANYWAY = {builtins.super}


def values(names: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a program has in hand at the start, and specimens of what it can make."""
    yield from names["__builtins__"].items()
    for path, facade in names["facades"].items():
        for name in object.__getattribute__(facade, "_names"):
            yield f"{path}.{name}", object.__getattribute__(facade, "_names")[name]
    tensor = torch.ones(2, 2, requires_grad=True)
    generator = (i for i in [1])
    specimens = (1, 1.5, 1j, True, None, "a", b"a", bytearray(b"a"), [1], (1,), {1: 2}, {1}, frozenset({1}), range(3), slice(1), generator,
                 tensor, tensor * 2, (tensor * 2).grad_fn, tensor.detach().numpy(), np.float32(1), np.random.default_rng(0),
                 np.random.RandomState(0), torch.Generator(), torch.Size([1]), torch.float32, torch.device("cpu"), ValueError("x"), KeyError("k"),
                 torch.linalg.svd(torch.eye(2)), np.linalg.svd(np.eye(2)), torch.nn.Linear(2, 2), torch.nn.ReLU(), functools.partial(len), lambda: 0,
                 iter([1]), {}.keys(), {}.values(), enumerate([]), zip(), map(len, []), property(len), staticmethod(len), types.SimpleNamespace(a=1))  # fmt: skip
    for specimen in specimens:
        yield f"a {type(specimen).__name__}", specimen


def key_of(value: Any) -> Any:
    """Objects of one type are alike, but for classes and functions; methods are made anew at each read, so they go by name."""
    if isinstance(value, type):
        return id(value)
    if callable(value):
        return type(value), getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return type(value)


@pytest.fixture(scope="module")
def guards() -> Guards:
    return Guards(warmup.build_facades(), 1000)


@pytest.mark.filterwarnings("ignore")
def test_nothing_forbidden_can_be_reached_by_reading(guards: Guards) -> None:
    namespace = {**guards.namespace(), "facades": guards._facades}
    left = list(values(namespace))
    seen: set[Any] = set()
    kept: list[Any] = []  # so that no number of a dead object is met again
    steps = 0
    while left:
        path, value = left.pop()
        key = key_of(value)
        if key in seen:
            continue
        seen.add(key)
        kept.append(value)
        assert not isinstance(value, FORBIDDEN_TYPES), path
        assert value is TYPE or not (
            isinstance(value, type) and issubclass(value, type) and type(value) is not StandInType
        ), path
        if isinstance(value, type) or callable(value):
            assert not any(value is forbidden for forbidden in FORBIDDEN - GIVEN_ANYWAY), path
        left.append((f"type({path})", class_of(value)))
        for name in dir(value.real if type(value) is StandInType else value):
            steps += 1
            try:
                left.append((f"{path}.{name}", guards.read(value, name)))
            except (PolicyViolation, AttributeError, TypeError, RuntimeError, ValueError, NotImplementedError):
                continue
    assert steps > 20_000
