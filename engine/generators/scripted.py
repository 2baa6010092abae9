"""The deterministic double: the programs of a list in turn. For tests, and for replaying a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.errors import ConfigError
from engine.generators.protocol import Draft
from engine.records import Candidate, Sampling, Task


class ScriptedGenerator:
    """The deterministic double: gives the programs of a list in turn, over and over. For tests and for replaying a folder.

    Which program comes next follows from the sampling's batch and row alone, so a resumed run goes on at the right place.
    """

    origin = "scripted"
    told = False

    def __init__(self, sources: Sequence[str], batch: int) -> None:
        assert sources
        self._sources = tuple(sources)
        self._batch = batch

    @classmethod
    def from_folder(cls, folder: Path, batch: int) -> ScriptedGenerator:
        """The `.py` files of a folder in the order of their names.

        Raises:
            ConfigError: there are none, or one cannot be read as text.
        """
        files = sorted(folder.glob("*.py"))
        if not files:
            raise ConfigError(
                f"generator.script '{folder}': expected a folder with .py programs, got none; name such a folder"
            )
        return cls([_script(file) for file in files], batch)

    def write(self, places: Sequence[Sampling], tasks: Sequence[Task]) -> list[Draft]:
        """See `Generator.write`."""
        sources = [self._sources[(p.batch * self._batch + p.row) % len(self._sources)] for p in places]
        return [Draft("", source, source) for source in sources]

    def tell(self, assessed: Sequence[Candidate]) -> None:
        """See `Generator.tell`."""

    def adopt(self, folder: str) -> None:
        """See `Generator.adopt`."""

    def close(self) -> None:
        """See `Generator.close`."""


def _script(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        got = "text that is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise ConfigError(
            f"generator.script: '{file}': expected a readable Python program, got {got}; mend or remove it"
        ) from error
