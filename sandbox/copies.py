"""What a program's `__new__` and `__deepcopy__` are wrapped in, since the library's way to copy trusts both.

It makes an object by the class's own `__new__` and sets the original's attributes on whatever that gave, past every guard; and it hands a
memo to `__deepcopy__`, in which the attribute tables lie that it is about to fill. So here a class makes only objects of its own kind,
and nobody sees the memo.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

_mro: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__


class Memo:
    """What a program's `__deepcopy__` gets, and gives on."""

    __slots__ = ("real",)

    def __init__(self, real: dict[int, Any]) -> None:
        self.real = real


def deepcopy(value: Any, memo: Any = None) -> Any:
    """`copy.deepcopy`, with the memo that a program's own method was given or a fresh one."""
    return copy.deepcopy(value, memo.real if type(memo) is Memo else None)


def _bound(method: Any, obj: Any, kind: type) -> Any:
    return method.__get__(obj, kind) if hasattr(method, "__get__") else method


def copying(method: Any) -> Callable[..., Any]:
    """Decorates `__deepcopy__`."""

    def deepcopy_method(self: Any, memo: Any) -> Any:
        return _bound(method, self, type(self))(memo if type(memo) is Memo else Memo(memo))

    return deepcopy_method


def making(method: Any) -> Callable[..., Any]:
    """Decorates `__new__`."""

    def new(cls: Any, *arguments: Any, **options: Any) -> Any:
        made = _bound(method, None, cls)(cls, *arguments, **options)
        if not any(kind is cls for kind in _mro(type(made))):
            raise TypeError("__new__ must give an object of its own class")
        return made

    return new
