"""A zygote with walls missing, for the suite only (`switches.py` has the list; the environment says which).

Run in place of `sandbox/zygote.py`. It shows that an attack is real: what succeeds here and fails in the real sandbox was stopped by the
sandbox, not by a typo in the attack.
"""

from __future__ import annotations

import builtins
import enum
import mmap
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import CodeType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from sandbox import classes, clock, failures, fresh, runner, selftest, warmup, zygote
from sandbox.confinement import cgroups, namespaces
from sandbox.confinement.layers import LAYERS
from sandbox.guards import Guards
from sandbox.transfer import tensor_over

OFF = frozenset(os.environ.pop("OFF", "").split())


def compile_anything(source: str) -> CodeType:
    return compile(source, "<candidate>", "exec", dont_inherit=True)


guarded_namespace, warm_up = Guards.namespace, warmup.warm_up


def plain_namespace(guards: Guards) -> dict[str, Any]:
    return {**guarded_namespace(guards), "__builtins__": builtins}


def warm_up_and_open() -> Any:
    facades = warm_up()
    runner.compile_program = compile_anything
    runner._refuse_files = lambda event, arguments: None
    Guards.namespace = plain_namespace  # type: ignore[method-assign]
    enum.EnumType.__call__ = classes._enum_call  # type: ignore[method-assign]
    return facades


whole_measure = selftest.measure


def measure() -> selftest.Findings:
    """What this machine gives, without what is off."""
    held = tuple(name for name in whole_measure().held if name not in OFF)
    return selftest.Findings(held, tuple(f"{layer.name}: off" for layer in LAYERS if layer.name not in held))


def print_anything(guards: Guards, *values: object, **_: object) -> None:
    for value in values:
        str(value)


def take_anything(result: Any, shape: list[int], device: torch.device, memory: mmap.mmap | None, offset: int) -> None:
    """As much of a lie as fits."""
    with suppress(Exception):
        tensor_over(memory, offset, shape).copy_(torch.as_tensor(result).real)


@contextmanager
def remembered(*_: dict[Any, Any]) -> Iterator[None]:
    yield


def switch_off() -> None:
    if "gate" in OFF:
        warmup.warm_up = warm_up_and_open
    if "notes" in OFF:
        Guards.violation = property(lambda guards: None, lambda guards, value: None)  # type: ignore[assignment]
        Guards.flooded = property(lambda guards: False, lambda guards, value: None)  # type: ignore[assignment]
    if "deliver" in OFF:
        runner._deliver = take_anything
    if "output" in OFF:
        Guards.print = print_anything  # type: ignore[assignment, method-assign]
    if "clean" in OFF:
        runner.clean = lambda text, limit: text[:8000]
    if "own_raise" in OFF:
        failures._raised_by_the_program = lambda frames: False
        failures._OUT_OF_MEMORY = re.compile(".*not enough memory")
        failures._OUT_OF_THREADS = re.compile(".*(can't start new thread|Resource temporarily unavailable)")
    if "time" in OFF:
        clock.stop = lambda: None
    if "fresh" in OFF:
        fresh.start = lambda: None
        fresh.forgotten = remembered
        fresh.seed = lambda number: None
        fresh.run = lambda call: call()
    if "namespaces" in OFF:
        namespaces.enter = lambda close: None
    if "cgroups" in OFF:
        cgroups.enter = lambda: None
    selftest.measure = measure


if __name__ == "__main__":
    switch_off()
    zygote.main(int(sys.argv[1]), sys.argv[2])
