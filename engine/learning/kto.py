"""KTO (https://arxiv.org/abs/2402.01306) by TRL, for sparse runs: no pairs, every program is desirable or not.

Desirable are the better half of the latest iteration's scored programs and the elite of the earlier ones; undesirable the bottom share below that half, and
every program that was refused or failed. The two sides weigh alike, however many there are of each, and come mixed: TRL takes the rows in their order, and
the divergence that it holds a batch against is estimated on the batch.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from engine.config import CampaignConfig
from engine.config_learning import LearnSection
from engine.generators import LanguageModelGenerator
from engine.learning.lesson import Lesson, Row
from engine.learning.pairs import Past, elite
from engine.ranking import scored_best_first
from engine.records import Candidate, Outcome

LEAST_BATCH = 2  # a batch estimates its own divergence from programs that are not each other's


class Kto:
    """Desirable and undesirable programs."""

    start: Literal["previous", "base"] = "previous"

    def lessons(self, past: Past, config: CampaignConfig, generator: LanguageModelGenerator) -> Iterator[Lesson]:
        """See `Method.lessons`."""
        section = config.learn
        latest = past.by_iteration[past.latest]
        ranked = scored_best_first(latest)
        half = ranked[: -(-len(ranked) // 2)]
        good = half + elite(past, section.elite)
        low = [c for c in ranked[len(half) :] if c.score != half[-1].score]
        failed = [c for c in latest if c.assessment.outcome in (Outcome.REJECTED, Outcome.FAILED)]
        bad = low[-section.bottom(len(ranked)) :] + failed
        if not good or not bad:
            return
        rows = _mixed(good, bad, random.Random(past.seed))
        record = {"desirable": [c.number for c in good], "undesirable": [c.number for c in bad]}
        yield Lesson(rows, kto_trainer, record=record, least_batch=LEAST_BATCH, compares=True)


def _mixed(good: Sequence[Candidate], bad: Sequence[Candidate], rng: random.Random) -> list[Row]:
    """Each side in any order, and the two spread evenly over each other."""
    placed = [
        ((index + 0.5) / len(side), label, candidate)
        for label, side in ((True, good), (False, bad))
        for index, candidate in enumerate(rng.sample(side, len(side)))
    ]
    placed.sort(key=lambda one: one[:2])
    return [{"prompt": c.program.prompt, "completion": c.program.text, "label": label} for _, label, c in placed]


def kto_trainer(model: Any, lesson: Lesson, section: LearnSection, common: Mapping[str, Any], **more: Any) -> Any:
    """See `MakeTrainer`; rows of prompt, completion, label."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    good = sum(bool(row["label"]) for row in lesson.rows)
    bad = len(lesson.rows) - good
    config = KTOConfig(
        **common,
        beta=section.beta,
        desirable_weight=max(1.0, bad / good),
        undesirable_weight=max(1.0, good / bad),
        max_length=None,
        precompute_ref_log_probs=True,  # as in dpo.py
    )
    return KTOTrainer(model=model, args=config, train_dataset=Dataset.from_list(list(lesson.rows)), **more)
