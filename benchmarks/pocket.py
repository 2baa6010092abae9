"""The pocket benchmark: GSM8K-format word problems that a million-parameter model can learn.

Nine families, two to four calculation steps, numbers below 400. `dev` (1000) and `test` (2000) are frozen files; every other problem
comes from `fresh`, which refuses any problem of the frozen splits by its text, so nothing trained here has seen them.

The worked solution holds the calculations only (`12+5=17`), one a line, then `#### 51`: a small model decodes few tokens, and the
final number is read exactly as in GSM8K. Words such as those of GSM8K's solutions would triple the cost of a score and teach nothing more.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.pocket_stories import FAMILIES, MAX_NUMBER, MAX_STEPS, MIN_STEPS, sample
from benchmarks.problems import Problem

__all__ = [
    "FAMILIES",
    "FRESH_SIZE",
    "MAX_NUMBER",
    "MAX_STEPS",
    "MIN_STEPS",
    "SPLIT_SIZES",
    "folder",
    "format_prompt",
    "freeze",
    "fresh",
    "frozen_questions",
    "load",
    "sample",
]

SPLIT_SIZES = {"dev": 1000, "test": 2000}
SPLIT_SEEDS = {"dev": 20_001, "test": 20_002}
FRESH_SIZE = 200
"""Problems of a split `fresh:SEED`."""


def folder() -> Path:
    """Where the frozen splits lie: in a checkout at its root, in an installed wheel inside the package `engine`."""
    root = Path(__file__).resolve().parent.parent
    for candidate in (root / "data" / "pocket", root / "engine" / "_shipped" / "data" / "pocket"):
        if candidate.is_dir():
            return candidate
    return root / "data" / "pocket"


def load(split: str) -> tuple[Problem, ...]:
    """The frozen problems of `split` ("dev": 1000, "test": 2000), in their fixed order, families in turn."""
    from benchmarks.problems import load_jsonl

    return load_jsonl(folder() / f"{split}.jsonl")


def fresh(seed: int, *, families: Sequence[str] = FAMILIES, refuse: frozenset[str] | None = None) -> Iterator[Problem]:
    """Endless problems, families drawn evenly, none of the frozen splits among them.

    Args:
        seed: of the stream; the same seed gives the same problems.
        families: which to draw from; repeat one to weight it.
        refuse: question texts never to yield; None: those of `dev` and `test`.
    """
    forbidden = frozen_questions() if refuse is None else refuse
    rng = random.Random(seed)
    while True:
        problem = sample(rng.choice(families), rng)
        if problem.question not in forbidden:
            yield problem


def frozen_questions() -> frozenset[str]:
    """Texts of all dev and test questions: what no training may see."""
    return frozenset(p.question for split in SPLIT_SIZES for p in load(split))


def format_prompt(question: str) -> str:
    """What the model reads; it answers with the worked steps and `#### n`."""
    return f"Question: {question}\nAnswer:\n"


def freeze(target: Path) -> None:
    """Write `dev.jsonl` and `test.jsonl` anew; the same bytes every time. Families alternate, no question stands twice."""
    target.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    for split, size in SPLIT_SIZES.items():
        rng = random.Random(SPLIT_SEEDS[split])
        lines: list[str] = []
        while len(lines) < size:
            problem = sample(FAMILIES[len(lines) % len(FAMILIES)], rng)
            if problem.question in seen:
                continue
            seen.add(problem.question)
            row = {
                "id": f"pocket-{split}-{len(lines):04d}",
                "family": problem.family,
                "question": problem.question,
                "answer": problem.answer,
            }
            lines.append(json.dumps(row))
        (target / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
