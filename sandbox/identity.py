"""Tensors hash by the order in which they were first hashed, not by their address in memory.

A set of tensors is walked in the order of their hashes. By address that order, and with it every sum over the set, would
differ from process to process. Strings are no trouble: the zygote's hash seed is fixed (`host._ENVIRONMENT`). Not covered:
sets of functions, of `None` or of objects of the program's own, which Python hashes by address and lets nobody change.
"""

from __future__ import annotations

import torch

_FIRST = 1 << 60
"""Far from any number a program would use as a key: equal hashes are compared by `==`, which on tensors is elementwise."""

_MARK = "_hash_number"
"""Attribute that remembers a tensor's number; programs can neither read nor set it (`sandbox.guards`)."""

_next = _FIRST


def _number(tensor: torch.Tensor) -> int:
    global _next
    owner, number = tensor.__dict__.get(_MARK, (None, 0))
    if owner != id(tensor):  # never hashed, or a deep copy that came with its original's mark
        number, _next = _next, _next + 1
        tensor.__dict__[_MARK] = (id(tensor), number)
    return int(number)


def number_tensors() -> None:
    """Replace `torch.Tensor.__hash__` in this process: for the zygote, once."""
    torch.Tensor.__hash__ = _number  # type: ignore[method-assign]


def restart() -> None:
    """Count from the start again: between jobs, so that their order does not matter."""
    global _next
    _next = _FIRST
