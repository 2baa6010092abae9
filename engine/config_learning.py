"""The part of a campaign's configuration that says how the generator learns, judges and is held back."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from engine.config_base import Count, Names, Positive, Section, Share

PAIR_RULES = ("extremes", "halves", "failures")

Loss = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sigmoid_norm",
]  # fmt: skip
"""Losses of DPO that TRL has for pairs; `label_smoothing` is of "sigmoid", "robust" and "exo_pair"."""


class LearnSection(Section):
    """How the generator learns (`engine/learning/`). Shares and carry-over are those of Self-Developing (https://arxiv.org/abs/2410.15639).

    `start`: None: as the method has it. `pairs`, `min_certainty`, `chosen` to `pairs_per_chosen`: see `learning/pairs.py`. `keep` to `per_behaviour`:
    of rest-em. `precision`: of the products while it trains, over weights that stay as they are held; "auto": bfloat16 where the machine has units for
    it (AMX, or a GPU's), else float32. `sft`: weight of the chosen programs' own loss, a mean over tokens, beside that of the pairs (https://arxiv.org/abs/2404.19733).
    `reference`: what the losses of pairs (and of kto) hold the model against: the version that an update starts from, or the untrained generator.
    `lora_rank` 0 trains all weights. `keep_as`: whether a version is a plain model or an adapter over the first one, which goes on to be trained;
    `checkpoints`: which versions stay in the run's folder.
    """

    method: Literal["dpo", "rest-em", "kto", "self-rewarding", "none"] = "dpo"
    start: Literal["previous", "base"] | None = None
    pairs: Annotated[Names, Field(min_length=1)] = ("extremes",)
    min_certainty: Share = 0.0
    chosen: Share = 0.03
    rejected: Share = 0.10
    chosen_floor: Count = 6
    rejected_floor: Count = 20
    elite: Annotated[int, Field(ge=0)] = 3
    pairs_per_chosen: Count = 8
    keep: Annotated[float, Field(gt=0.0, le=1.0)] = 0.25
    keep_from: Literal["latest", "all"] = "all"
    per_behaviour: Count = 10
    loss: Loss = "sigmoid"
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0
    sft: Annotated[float, Field(ge=0.0)] = 0.0
    beta: Positive = 0.1
    reference: Literal["start", "base"] = "start"
    learning_rate: Positive = 1e-3
    epochs: Positive = 2.0
    batch: Count = 8
    lora_rank: Annotated[int, Field(ge=0)] = 32
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    keep_as: Literal["model", "adapter"] = "model"
    checkpoints: Literal["all", "latest"] = "all"

    @field_validator("pairs")
    @classmethod
    def _rules(cls, pairs: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(pairs) - set(PAIR_RULES)):
            raise ValueError(f"rules out of {', '.join(PAIR_RULES)} (got {', '.join(unknown)})")
        return pairs

    @model_validator(mode="after")
    def _trainers_take_it(self) -> LearnSection:
        if self.loss == "exo_pair" and not self.label_smoothing:
            raise ValueError("label_smoothing above 0 with loss 'exo_pair', such as 0.001")
        if self.method == "kto" and self.batch < 2:
            raise ValueError("batch of 2 at least with method 'kto', which compares within a batch (got 1)")
        return self

    @model_validator(mode="after")
    def _adapters_have_a_rank(self) -> LearnSection:
        if self.keep_as == "adapter" and not self.lora_rank:
            raise ValueError("lora_rank above 0 with keep_as 'adapter' (all weights were trained)")
        return self

    def top(self, count: int) -> int:
        """How many of `count` scored programs are chosen, where there are so many."""
        return max(self.chosen_floor, math.ceil(self.chosen * count))

    def taught(self, count: int) -> int:
        """How many of `count` programs of an iteration may be taught as good ones: a race must not stop these."""
        if self.method in ("rest-em", "self-rewarding"):
            return max(math.ceil(self.keep * count), self.elite)
        if self.method == "kto" or "halves" in self.pairs:
            return max(-(-count // 2), self.elite)
        return max(self.top(count), self.elite)

    def bottom(self, count: int) -> int:
        """How many of them are rejected, where there are so many."""
        return max(self.rejected_floor, math.ceil(self.rejected * count))


class JudgeSection(Section):
    """The generator as a judge of programs (`engine/judging/`), with learn.method "self-rewarding".

    `samples` judgements a program are averaged. An update sets itself `prompts` tasks, writes `candidates` programs for each, and learns from the
    best and the worst of them. `triage`: share of the working new programs of a batch, the judged-best ones, that is scored; 1: all.
    """

    samples: Count = 3
    temperature: Positive = 1.0
    max_new_tokens: Count = 200
    candidates: Annotated[int, Field(ge=2)] = 4
    prompts: Annotated[int, Field(ge=0)] = 16
    triage: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0


class GateSection(Section):
    """When an update of the generator is taken back (`engine/learning/gate.py`): bounds on a probe of `programs` with the fixed prompt,
    sampled as in the iteration to come. 0 of them: only an update that leaves no language model is taken back.

    `valid_drop`: the share that works may fall by so much, and to a quarter of what it was. `distinct`: least share of the working ones that behave differently. `repeats`: largest
    share of exact repeats. `kl`: largest divergence from the version before, nats a token. `retries`: each at half the learning rate.
    """

    programs: Annotated[int, Field(ge=0)] = 64
    valid_drop: Share = 0.15
    distinct: Share = 0.5
    repeats: Share = 0.25
    kl: Positive = 0.2
    retries: Annotated[int, Field(ge=0, le=8)] = 2
