"""Human-made merges as plain programs under the contract: the baselines of every campaign, and ready to `apply`.

Each file beside this one is a program: source text for the sandbox, never imported. A new method is a new file.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib.resources import files

from merges.errors import UnknownProgramError

__all__ = ["names", "source"]


def names() -> tuple[str, ...]:
    """Names of the library's programs, sorted."""
    found = (entry.name for entry in files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".py") for name in found if name.endswith(".py") and name != "__init__.py"))


def source(name: str) -> str:
    """Source text of a library program.

    Raises:
        UnknownProgramError: no such name; says which there are.
    """
    known = names()
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "choose one of these"
        raise UnknownProgramError(f"program {name!r}: expected one of {', '.join(known)}, got an unknown name; {hint}")
    return (files(__name__) / f"{name}.py").read_text(encoding="utf-8")
