"""What a learning method is: it chooses what to learn from, and says which trainer of TRL learns it.

To add one: a module with a class of this protocol, its name in `methods.py` and in `LearnSection.method`, and the contract suite in
tests/engine/learning/test_methods.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from engine.config import CampaignConfig
from engine.config_learning import LearnSection
from engine.generators import LanguageModelGenerator
from engine.learning.pairs import Past

Row = Mapping[str, str | bool]
"""One example, with the columns that the lesson's trainer wants."""


class MakeTrainer(Protocol):
    """Makes one of TRL's trainers."""

    def __call__(
        self, model: Any, lesson: Lesson, section: LearnSection, common: Mapping[str, Any], **more: Any
    ) -> Any:
        """A trainer that learns `lesson`.

        Args:
            model: of transformers, or of peft where an adapter goes on.
            lesson: with rows of the columns that this trainer wants.
            section: of the campaign.
            common: arguments that every trainer's configuration takes; each adds its own.
            more: for the trainer itself: `processing_class`, `peft_config`, `callbacks`.
        """


@dataclass(frozen=True)
class Lesson:
    """Something to be trained on at a time.

    Attributes:
        rows: for training.
        trainer: makes the trainer.
        held_out: for the loss that stops it early, where it has one.
        record: what the archive remembers of the choice; JSON.
        least_batch: smallest batch that the trainer takes.
        compares: whether its loss holds the model against a reference.
    """

    rows: Sequence[Row]
    trainer: MakeTrainer
    held_out: Sequence[Row] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    least_batch: int = 1
    compares: bool = False


class Method(Protocol):
    """One way to learn from measured programs.

    Attributes:
        start: whether an update goes on from the generator as it is, or from the untrained one, where the campaign does not say.
    """

    start: Literal["previous", "base"]

    def lessons(self, past: Past, config: CampaignConfig, generator: LanguageModelGenerator) -> Iterator[Lesson]:
        """What to learn, one after the other; nothing where there is nothing to learn from.

        Each lesson is asked for when the one before has been learnt, so a later one may be made with the generator as it is by then.
        """
