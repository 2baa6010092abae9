"""How inner loops are compiled: by numba, at the first call (a second or two), and then kept on disk.

A torch or numpy expression walks over memory once for every operation in it; a compiled loop walks over a block in cache a few times in all,
outside Python's lock. Each operation is rounded on its own, in the order that is written (no fast-math, no fused multiply-add), so the bits
are those of the same operations in torch, on any machine. Arrays are contiguous.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy.typing as npt

__all__ = ["TILE", "Array", "kernel"]

Array = npt.NDArray[Any]
P = ParamSpec("P")
R = TypeVar("R")

TILE = 1024
"""Values that several loops walk over in turn, in the innermost cache. Slices with loops from 0 are what the compiler makes vector code of."""


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile at first call, without Python's lock; kept on disk where a place for that can be written."""
    compiler: Any = numba.njit
    try:
        compiled = compiler(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # no writable place
        compiled = compiler(nogil=True, error_model="numpy")(function)
    return cast("Callable[P, R]", compiled)
