"""Every tensor starts fresh: what a program can leave behind in the process is undone between two jobs.

Beside the module namespace, which is new for each job, that is: random generators; numpy's error and print state and whatever else lies
in context variables; torch's grad mode, inference mode and device contexts; caches of `re`, `typing` and numpy that compare keys by the
program's own methods; and objects whose end runs code. The collector is off while a program runs, so that such code runs at the job's
end and not somewhere in the next one's.
Not covered: text that a program leaves in memory that numpy hands out unfilled (`np.sqrt(x, where=mask)` without `out`).
"""

from __future__ import annotations

import contextvars
import gc
import random
import re
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.utils._device as device_context
from numpy._core import einsumfunc

from sandbox import identity

_EINSUM = [function for function in vars(einsumfunc).values() if hasattr(function, "cache_clear")]

_outer: list[object] = []
"""Guards that leave an inference mode which a program entered and never left; kept, since they end with their object."""


def start() -> None:
    """Once in the child, before the first job."""
    gc.disable()


def seed(number: int) -> None:
    """Seed every generator that a program can reach, and count tensors from the start."""
    torch.default_generator.manual_seed(number)
    np.random.seed(number & 0xFFFFFFFF)
    random.seed(number)
    identity.restart()


def run(call: Callable[[], Any]) -> Any:
    """The result of `call` in context variables of its own, with torch's switches as they are at first."""
    torch.set_grad_enabled(True)
    if torch.is_inference_mode_enabled():
        _outer.append(torch._C._InferenceMode(False))
    while torch._C._len_torch_function_stack():
        torch._C._pop_torch_function_stack()
    device_context.CURRENT_DEVICE = None
    return contextvars.Context().run(call)


@contextmanager
def forgotten(*holders: dict[Any, Any]) -> Iterator[None]:
    """Afterwards empty what held the program's objects, and let them end now."""
    yield
    for holder in holders:
        holder.clear()
    clear_caches()
    gc.collect(0)  # all that was made since the last time: nothing is promoted while the collector is off


def clear_caches() -> None:
    """Empty the caches of `re`, `typing` and `numpy.einsum`. Also once in the zygote: a child that throws away what importing torch left there would
    write to some 1,000 pages that it shares with the zygote, 4 ms a candidate."""
    re.purge()
    for cached in _EINSUM:
        cached.cache_clear()
    for clear in typing._cleanups:  # type: ignore[attr-defined]
        clear()
