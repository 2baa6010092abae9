"""What visitors ask for, read strictly: a mistake is one line that says what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.cells import Axis
from engine.config import ExploreSection
from engine.descriptors import NUMBERS
from engine.errors import ConfigError
from engine.search import Query, question

PAGE = 50
"""Candidates on a page."""
MOST_CELLS = 40
"""Cells on an axis of a map."""


@dataclass(frozen=True)
class Asked:
    """Filters of the list, as they stand in the form.

    Attributes:
        verdict, iteration, generator, operation, text, where, sort: as in `mergewright archive list`; "" for none. Several operations or conditions: between commas.
        ancestors_of, descendants_of: what the visitor calls a program, as in `archive list`; "" for anybody.
        page: 1-based.
    """

    verdict: str = ""
    iteration: str = ""
    generator: str = ""
    operation: str = ""
    text: str = ""
    where: str = ""
    ancestors_of: str = ""
    descendants_of: str = ""
    sort: str = ""
    page: str = "1"

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Asked:
        """From an address; what else stands there is ignored."""
        return cls(**{name: values[name].strip() for name in cls.__dataclass_fields__ if name in values})

    @property
    def filters(self) -> dict[str, str]:
        """Those in force, without the page."""
        return {name: value for name, value in vars(self).items() if value and name != "page"}

    @property
    def number(self) -> int:
        """The page."""
        return _count("page", self.page, 1_000_000)

    def query(self) -> Query:
        """The question to the archive; families by what the visitor calls their programs (`Run.within_families`).

        Raises:
            ConfigError: one of them is not what it should be.
        """
        return question(
            where=_parts(self.where),
            sort=self.sort,
            verdict=self.verdict or None,
            iteration=_count("iteration", self.iteration, 1_000_000) if self.iteration else None,
            generator=self.generator or None,
            operations=_parts(self.operation),
            text=self.text,
            ancestors_of=self.ancestors_of or None,
            descendants_of=self.descendants_of or None,
            limit=PAGE,
            offset=(self.number - 1) * PAGE,
        )


def axes(values: Mapping[str, str], section: ExploreSection) -> tuple[Axis, Axis]:
    """The two axes of a map: those asked for, else the first two of the campaign's.

    Raises:
        ConfigError: an unknown descriptor, or too many cells.
    """
    names = [*section.axes, *(name for name in NUMBERS if name not in section.axes)]
    across, down = values.get("across") or names[0], values.get("down") or names[1]
    size = dict(zip(section.axes, section.cells, strict=False)) if section.layout == "grid" else {}

    def cells(of: str, side: str) -> int:
        given = values.get(side)
        return _count(side, given, MOST_CELLS) if given else min(MOST_CELLS, size.get(of, 10))

    return Axis(across, cells(across, "columns")), Axis(down, cells(down, "rows"))


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _count(what: str, text: str, most: int) -> int:
    short = len(text) <= len(str(most))  # checked before it is read: Python takes its time over long ones
    if not (short and text.isascii() and text.isdecimal() and 1 <= int(text) <= most):
        raise ConfigError(f"{what}: expected a whole number of 1 to {most}, got '{text}'; correct it")
    return int(text)
