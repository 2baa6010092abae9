"""Suites made on the spot: problems that a scripted evaluator answers rightly or wrongly by a list of bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import Benchmark, ItemBits, Part, Problem, ScriptedEvaluator, Stop, Suite

KINDS = ("sums", "shares")


def benchmark(name: str = "made", **changes: Any) -> Benchmark:
    """Problems are `name 0`, `name 1`, …, their answers 0, 1, …"""
    settings: dict[str, Any] = {
        "name": name,
        "problems": lambda split: problems(name, 4),
        "prompt": lambda problem: problem.question,
        "stop": Stop(),
        "max_new_tokens": 8,
        "ranks": "strict",
    }
    return Benchmark(**settings | changes)


def problems(name: str, count: int) -> tuple[Problem, ...]:
    return tuple(
        Problem(f"{name}-{at}", f"{name} {at}", f"#### {at}", str(at), KINDS[at % len(KINDS)]) for at in range(count)
    )


def suite(count: int, *, seed: int | None = None, block: int | None = None) -> Suite:
    rng = None if seed is None else np.random.default_rng(seed)
    return Suite([Part(benchmark(), problems("made", count))], rng=rng, block=block)


def weighted(counts: Mapping[str, int], weights: Mapping[str, float], **options: Any) -> Suite:
    return Suite([Part(benchmark(name), problems(name, n), weights[name]) for name, n in counts.items()], **options)


class Answering(ScriptedEvaluator):
    """Answers item `at` of a suite rightly where `bits[at]` is 1, and notes which items it was asked, call by call."""

    def __init__(self, suite: Suite, bits: str) -> None:
        self.calls: list[list[int]] = []
        self._places = {item.problem.question: at for at, item in enumerate(suite.items)}
        self._bits = bits
        super().__init__(self._say)

    def answer(self, prompts: Sequence[Any], **options: Any) -> list[str]:
        self.calls.append([self._places[prompt] for prompt in prompts])
        return super().answer(prompts, **options)

    @property
    def asked(self) -> list[int]:
        """All items asked, in the order of asking."""
        return [at for call in self.calls for at in call]

    def _say(self, prompt: Any, tensors: Mapping[str, Any]) -> str:
        number = prompt.rpartition(" ")[2]
        return f"#### {number}" if self._bits[self._places[prompt]] == "1" else f"#### {number}1"


class Remembered:
    """What is known of one model, in memory; see `benchmarks.Verdicts`."""

    def __init__(self) -> None:
        self.bits: tuple[ItemBits, ItemBits] | None = None

    def known(self) -> tuple[ItemBits, ItemBits] | None:
        return self.bits

    def learn(self, strict: ItemBits, lenient: ItemBits) -> None:
        self.bits = (strict, lenient)
