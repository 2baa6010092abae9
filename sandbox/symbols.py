"""Stands in for `torch.fx.experimental.symbolic_shapes`, which torch imports to check an argument or the shape of a gradient.

The real one brings sympy: 600 modules and 40 MB, a fifth of the zygote, that every fork would have to map and every exit to
unmap. It gives meaning to shapes that are symbols, which a program here never has; on plain values its functions are these.
"""

from __future__ import annotations

import sys
import types

NAME = "torch.fx.experimental.symbolic_shapes"


def _plain(value: bool, *_: object) -> bool:
    """A comparison of plain numbers is known, so there is nothing to guard."""
    if type(value) is not bool:
        raise AssertionError(f"Expected bool, got {value}")  # as in torch
    return value


def stand_in() -> None:
    """Unless torch has loaded its own, have it find this."""
    module = types.ModuleType(NAME, __doc__)
    for name in ("expect_true", "guard_bool", "guard_or_false", "guard_or_true"):
        setattr(module, name, _plain)
    module.sym_eq = lambda left, right: tuple(left) == tuple(right)  # type: ignore[attr-defined]
    sys.modules.setdefault(NAME, module)
