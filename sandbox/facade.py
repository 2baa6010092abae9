"""The modules that a merge program sees: read-only stand-ins that hold the allow-listed names and nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sandbox import classes
from sandbox.allowlist import MODULES
from sandbox.replacements import replacements


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


def build_facades() -> dict[str, Facade]:
    """One stand-in per allow-listed module, by dotted path. Imports the real modules; names a version lacks are
    skipped."""
    replaced = replacements(MODULES)
    facades: dict[str, Facade] = {}
    for path in sorted(MODULES, key=lambda p: -p.count(".")):  # submodules first: parents hold them
        module = importlib.import_module(path)
        names: dict[str, Any] = {}
        for name in MODULES[path]:
            full = f"{path}.{name}"
            real = getattr(module, name, None)
            if full in facades:
                names[name] = facades[full]
            elif full in replaced:
                names[name] = replaced[full]
            elif hasattr(module, name):
                names[name] = real
            if isinstance(real, type) and full not in facades:
                classes.give(real, names[name])
        facades[path] = Facade(path, names)
    return facades
