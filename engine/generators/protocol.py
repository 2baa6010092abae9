"""What writes programs, behind one protocol.

A generator gets the places of a batch, each with its seed and its task, and answers with drafts. Batches are fixed by the campaign, so the same
seed gives the same drafts. To add one: implement `Generator`, add it to `open_generator`, and to the contract suite in
tests/engine/generators/test_contract.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from engine.records import Candidate, ProgramId, Sampling, Task

if TYPE_CHECKING:
    from engine.generators.language_model import Forms


@dataclass(frozen=True)
class Draft:
    """What a generator wrote: the prompt it was shown, its whole text, and the program found in it (may be empty)."""

    prompt: str
    text: str
    source: str
    parents: tuple[ProgramId, ...] = ()


class Generator(Protocol):
    """Writes programs.

    Attributes:
        origin: of its programs, for the archive.
        told: whether it has to be told how the programs of a batch fared (`tell`) before it writes the next one.
    """

    origin: str
    told: bool

    def write(self, places: Sequence[Sampling], tasks: Sequence[Task]) -> list[Draft]:
        """One draft for every place of one batch, the same for the same places and tasks; all share temperature, top-p and top-k."""

    def tell(self, assessed: Sequence[Candidate]) -> None:
        """The programs that it wrote before, assessed, a whole batch at a time and in order. Of no use to most generators."""

    def adopt(self, folder: str) -> None:
        """Take over the weights of another version of itself. Nothing where there are no weights."""

    def close(self) -> None:
        """Free what it holds."""


class Writer(Protocol):
    """A generator that is a language model: it continues any text, so it can be asked for more than programs."""

    @property
    def forms(self) -> Forms:
        """How it is asked."""

    def write(self, places: Sequence[Sampling], tasks: Sequence[Task]) -> list[Draft]:
        """See `Generator.write`."""

    def complete(
        self, asked: Sequence[str], places: Sequence[Sampling], *, max_new_tokens: int | None = None
    ) -> list[str]:
        """What it writes after each prompt, sampled as its place says."""
