"""Options that several commands have in common: what they are called, what they say, and how their text is read."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.errors import UserError

__all__ = ["Json", "Merge", "Param", "Seed", "numbers"]

Merge = Annotated[
    str | None, typer.Option(help="Which parameters: all, mlp, or a pattern. Default: as in the archive, else all.")
]
Param = Annotated[list[str] | None, typer.Option(metavar="NAME=NUMBER", help="Set a hyper-parameter. Repeatable.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the program's random numbers.")]


def numbers(settings: list[str] | None) -> dict[str, float]:
    """Hyper-parameters as `--param` gives them: NAME=NUMBER, the last one counts.

    Raises:
        UserError: one is not of that form.
    """
    found: dict[str, float] = {}
    for setting in settings or []:
        name, equals, text = setting.partition("=")
        try:
            found[name.strip()] = float(text)
        except ValueError:
            equals = ""
        if not equals or not name.strip():
            raise UserError(f"--param '{setting}': expected NAME=NUMBER, as density=0.3; got no such form")
    return found
