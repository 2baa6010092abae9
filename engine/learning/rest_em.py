"""ReST-EM (https://arxiv.org/abs/2312.06585): keep the good programs, and fine-tune the untrained generator on them.

E-step: the scored programs of the latest iteration, or of all (`learn.keep_from`), whose dev score is in the top `learn.keep` share; at most
`learn.per_behaviour` texts of one behaviour, duplicates included, as the source keeps at most ten solutions of a problem. M-step: supervised
fine-tuning that starts from the base generator every time (`learn.start` switches that) and stops on the loss of the programs held out. What is held
out is whole behaviours, all their texts: a text that is learnt by heart would say that learning helps.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from engine.config import CampaignConfig
from engine.config_learning import LearnSection
from engine.generators import LanguageModelGenerator
from engine.learning.lesson import Lesson, Row
from engine.learning.pairs import Past
from engine.ranking import scored_best_first
from engine.records import Candidate, Outcome

HELD_OUT = 0.1
"""Share of what was kept whose loss stops the training; at least one program."""


class RestEm:
    """Good programs alone."""

    start: Literal["previous", "base"] = "base"

    def lessons(self, past: Past, config: CampaignConfig, generator: LanguageModelGenerator) -> Iterator[Lesson]:
        """See `Method.lessons`."""
        kept = _kept(past, config.learn)
        random.Random(past.seed).shuffle(kept)
        apart = _held_out(kept)
        if not apart:
            return
        numbers = {c.number for c in apart}
        learnt = [c for c in kept if c.number not in numbers]
        record = {"kept": sorted(c.number for c in learnt), "held_out": sorted(numbers)}
        yield Lesson(_rows(learnt), sft_trainer, _rows(apart), record)


def sft_trainer(model: Any, lesson: Lesson, section: LearnSection, common: Mapping[str, Any], **more: Any) -> Any:
    """See `MakeTrainer`; rows of prompt, completion. The held-out loss is taken after every epoch, and the weights of the best one stay."""
    from datasets import Dataset
    from transformers import EarlyStoppingCallback
    from trl import SFTConfig, SFTTrainer

    looks = {"eval_strategy": "epoch", "save_strategy": "epoch", "save_total_limit": 1, "load_best_model_at_end": True}
    config = SFTConfig(
        **{**common, **looks, "metric_for_best_model": "eval_loss"}, completion_only_loss=True, max_length=None
    )
    train, held_out = (Dataset.from_list(list(rows)) for rows in (lesson.rows, lesson.held_out))
    trainer = SFTTrainer(model=model, args=config, train_dataset=train, eval_dataset=held_out, **more)
    trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=1))
    return trainer


def _kept(past: Past, section: LearnSection) -> list[Candidate]:
    """The programs to learn, best first."""
    everything = [c for i in sorted(past.by_iteration) for c in past.by_iteration[i]]
    pool = everything if section.keep_from == "all" else list(past.by_iteration[past.latest])
    ranked = scored_best_first(pool)
    good = {c.program.id: c for c in ranked[: math.ceil(section.keep * len(ranked))]}
    held: Counter[str | None] = Counter()
    kept = []
    for candidate in [*good.values(), *_repeats(pool, good)]:
        behaviour = candidate.assessment.behaviour
        if held[behaviour] < section.per_behaviour:
            held[behaviour] += 1
            kept.append(candidate)
    return kept


def _held_out(kept: Sequence[Candidate]) -> list[Candidate]:
    """Those that are not trained on: all texts of some behaviours, the first that add up to HELD_OUT of the texts, or as nearly as whole behaviours can.

    Empty where there are not two behaviours: one to train on and one held out.
    """
    behaviours: dict[str | None, list[Candidate]] = {}
    for candidate in kept:
        behaviours.setdefault(candidate.assessment.behaviour, []).append(candidate)
    sums: dict[int, list[Candidate]] = {0: []}  # number of texts -> the first behaviours found that have so many
    for texts in behaviours.values():
        for count, before in list(sums.items()):
            if count + len(texts) not in sums:
                sums[count + len(texts)] = before + texts
    wanted = max(1, math.floor(HELD_OUT * len(kept)))
    possible = (count for count in sums if 0 < count < len(kept))
    return sums[min(possible, key=lambda count: (abs(count - wanted), count), default=0)]


def _rows(candidates: Sequence[Candidate]) -> list[Row]:
    return [{"prompt": c.program.prompt, "completion": c.program.text} for c in candidates]


def _repeats(pool: Sequence[Candidate], good: Mapping[str, Candidate]) -> list[Candidate]:
    """Other texts that behave as a good program does."""
    return [c for c in pool if c.assessment.outcome is Outcome.DUPLICATE and c.assessment.duplicate_of in good]
