"""Direct preference optimisation (https://arxiv.org/abs/2305.18290) by TRL, with the loss variants that it has.

The reference is the model that the update starts from, or by `learn.reference` the untrained one. Its log-probabilities are taken once, before the first step: no
second copy of a model is held while it learns, and an update of several epochs asks it once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from engine.config import CampaignConfig
from engine.config_learning import LearnSection
from engine.generators import LanguageModelGenerator
from engine.learning.lesson import Lesson, Row
from engine.learning.pairs import Pair, Past, choose_pairs


class Dpo:
    """Pairs of a better and a worse program (`pairs.py` has the rules)."""

    start: Literal["previous", "base"] = "previous"

    def lessons(self, past: Past, config: CampaignConfig, generator: LanguageModelGenerator) -> Iterator[Lesson]:
        """See `Method.lessons`."""
        pairs = choose_pairs(past, config.learn)
        if pairs:
            yield Lesson(
                rows_of(pairs), dpo_trainer, record={"pairs": [_recorded(pair) for pair in pairs]}, compares=True
            )


def rows_of(pairs: Sequence[Pair]) -> list[Row]:
    """Pairs in the columns of `dpo_trainer`."""
    return [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs]


def _recorded(pair: Pair) -> list[float | None]:
    margin = None if pair.margin is None else round(pair.margin, 6)
    return [pair.chosen_number, pair.rejected_number, margin, round(pair.certainty, 4)]


def dpo_trainer(model: Any, lesson: Lesson, section: LearnSection, common: Mapping[str, Any], **more: Any) -> Any:
    """See `MakeTrainer`; rows of prompt, chosen, rejected."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    config = DPOConfig(
        **common,
        beta=section.beta,
        loss_type=[section.loss, *(["sft"] if section.sft else [])],
        loss_weights=[1.0, *([section.sft] if section.sft else [])],
        label_smoothing=section.label_smoothing,
        max_length=None,
        precompute_ref_log_probs=True,
    )
    return DPOTrainer(model=model, args=config, train_dataset=Dataset.from_list(list(lesson.rows)), **more)
