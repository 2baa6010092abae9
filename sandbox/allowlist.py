"""The modules a merge program may import and the names it finds there: one table, made of the data files beside it."""

from __future__ import annotations

import difflib

from sandbox.names_numpy import NUMPY
from sandbox.names_python import STANDARD
from sandbox.names_torch import TORCH

MODULES: dict[str, frozenset[str]] = {**STANDARD, **NUMPY, **TORCH}
"""Dotted module path -> the names it has (submodules included)."""

TOP_LEVEL = tuple(sorted({path.split(".")[0] for path in MODULES} - {"__future__"}))


def nearest(name: str, path: str) -> str:
    """The hint for a refused name of module `path`: the nearest allowed name if there is one, else an empty text."""
    close = difflib.get_close_matches(name, MODULES[path], n=1, cutoff=0.7)
    return f"the nearest allowed name is '{path}.{close[0]}'" if close else ""
