"""Self-rewarding (https://arxiv.org/abs/2401.10020): the same weights write programs and judge them.

Two lessons an update. First what was measured, supervised: judgements (each measured program with the points that it deserves by `rubric.py`), menus
(which of some measured programs to start from, with the idea of a good one), and the good programs themselves, so that it does not forget how to write.
Then, with the weights that came of it, pairs of programs that nobody ever scored: the generator sets itself tasks, writes several programs for each, judges
them, and learns the best against the worst by DPO; where all tie there is no pair.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from engine.config import CampaignConfig
from engine.generators import LanguageModelGenerator
from engine.hashing import derived_seed
from engine.judging.judge import Judge
from engine.judging.menus import drawn_menu, good_answer, idea, own_tasks, request
from engine.judging.rubric import Rubric, judged_by_measure
from engine.learning.dpo import dpo_trainer
from engine.learning.lesson import Lesson, Row
from engine.learning.pairs import Past
from engine.learning.rest_em import HELD_OUT, sft_trainer
from engine.ranking import scored_best_first
from engine.records import Candidate, Sampling, Task

MIN_MEASURED = 8
"""Programs below which there is nothing to learn judging from."""
WRITER_TEMPERATURE = 1.0


class SelfRewarding:
    """Judge and writer in one."""

    start: Literal["previous", "base"] = "previous"

    def lessons(self, past: Past, config: CampaignConfig, generator: LanguageModelGenerator) -> Iterator[Lesson]:
        """See `Method.lessons`."""
        everything = [c for i in sorted(past.by_iteration) for c in past.by_iteration[i]]
        measured = [c for c in everything if judged_by_measure(c)]
        if len(measured) < MIN_MEASURED or not scored_best_first(measured):
            return
        yield _seeding(past, config, generator, measured)
        lesson = _own_pairs(past, config, generator, measured)
        if lesson is not None:
            yield lesson


def _seeding(
    past: Past, config: CampaignConfig, generator: LanguageModelGenerator, measured: Sequence[Candidate]
) -> Lesson:
    """Judging, choosing and writing, from what was measured."""
    forms, rng = generator.forms, random.Random(past.seed)
    rubric, judge = Rubric.of(measured, past.trials), Judge(generator, config.judge)
    ranked = scored_best_first(measured)
    good = ranked[: math.ceil(config.learn.keep * len(ranked))]
    judging = [_row(judge.prompt(c.program.source), judge.verdict(rubric.met(c))) for c in measured if c.program.source]
    ideas = [text for c in good if (text := idea(c.program.source))]
    menus = [drawn_menu(measured, rng) for _ in good] if ideas else []
    choosing = [_row(request(menu, forms), good_answer(menu, rng.choice(ideas), forms.form)) for menu in menus]
    writing = [_row(c.program.prompt, c.program.text) for c in good]
    rows = judging + choosing + writing
    rng.shuffle(rows)
    held_out = max(1, math.floor(HELD_OUT * len(rows)))
    points = Counter(rubric.points(c) for c in measured)
    record: dict[str, Any] = {
        "thresholds": [None if math.isinf(t) else t for t in rubric.thresholds],
        "deserved": {str(n): points[n] for n in sorted(points)},
        "judging": len(judging),
        "choosing": len(choosing),
        "kept": [c.number for c in good],
    }
    return Lesson(rows[held_out:], sft_trainer, rows[:held_out], record)


def _own_pairs(
    past: Past, config: CampaignConfig, generator: LanguageModelGenerator, measured: Sequence[Candidate]
) -> Lesson | None:
    """Best against worst of each self-set task, by the generator's own judgement."""
    section, rng = config.judge, random.Random(derived_seed(past.seed, "menus"))
    menus = [drawn_menu(measured, rng) for _ in range(section.prompts)]
    if not menus:
        return None
    own = own_tasks(generator, menus, _places(past.seed, "task", len(menus)))
    tasks = [task or Task() for task in own for _ in range(section.candidates)]
    places = _places(past.seed, "write", len(tasks))
    size = config.generator.batch
    drafts = [
        draft
        for start in range(0, len(tasks), size)
        for draft in generator.write(places[start : start + size], tasks[start : start + size])
    ]
    judged = Judge(generator, section).judge([draft.source for draft in drafts], past.seed)
    rows: list[Row] = []
    for start in range(0, len(drafts), section.candidates):
        group = [
            (points, draft)
            for points, draft in zip(
                judged[start : start + section.candidates], drafts[start : start + section.candidates], strict=True
            )
            if points is not None
        ]
        best, worst = (choice(group, key=lambda one: one[0], default=None) for choice in (max, min))
        if best and worst and best[0] > worst[0]:
            rows.append({"prompt": best[1].prompt, "chosen": best[1].text, "rejected": worst[1].text})
    record = {
        "own_tasks": len(own),
        "own_tasks_read": sum(task is not None for task in own),
        "own_programs": len(drafts),
        "own_judged": sum(points is not None for points in judged),
        "own_pairs": len(rows),
    }
    return Lesson(rows, dpo_trainer, record=record, compares=True)


def _row(prompt: str, completion: str) -> Row:
    return {"prompt": prompt, "completion": completion}


def _places(seed: int, purpose: str, count: int) -> list[Sampling]:
    seeds = [derived_seed(seed, purpose, row) for row in range(count)]
    return [Sampling(WRITER_TEMPERATURE, 1.0, one, 0, row) for row, one in enumerate(seeds)]
