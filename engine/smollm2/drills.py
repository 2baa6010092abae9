"""Arithmetic drills: what the arithmetic expert reads, and the fixed problems it is measured on and never reads.

All randomness comes from the generator passed in or from the seeds below, so a seed stands for a drill, and the files are the
same bytes everywhere. They are written by the command beside the models rather than shipped: they are two screens of code.
"""

import json
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from benchmarks.problems import Problem
from engine.errors import HostError

SPLIT_SIZES = {"dev": 200, "test": 400}
SPLIT_SEEDS = {"dev": 2001, "test": 2002}
FAMILIES = ("sum", "difference", "product", "quotient", "product_and_sum")


def drill(rng: random.Random, family: str | None = None) -> Problem:
    """One drill with its worked steps, without an id; terms are below 500.

    Args:
        family: one of FAMILIES; None: any of them.
    """
    a, b, c = rng.randint(2, 400), rng.randint(2, 99), rng.randint(2, 12)
    family = family or rng.choice(FAMILIES)
    if family == "sum":
        asked, steps, value = f"{a} + {b}", [f"{a} + {b} = {a + b}"], a + b
    elif family == "difference":
        asked, steps, value = f"{a + b} - {b}", [f"{a + b} - {b} = {a}"], a
    elif family == "product":
        asked, steps, value = f"{b} * {c}", [f"{b} * {c} = {b * c}"], b * c
    elif family == "quotient":
        asked, steps, value = f"{b * c} / {c}", [f"{b * c} / {c} = {b}"], b
    else:
        asked, value = f"{b} * {c} + {a}", b * c + a
        steps = [f"{b} * {c} = {b * c}", f"{b * c} + {a} = {value}"]
    answer = "\n".join([*steps, f"#### {value}"])
    return Problem(id="", question=f"What is {asked}?", answer=answer, final=str(value), family=family)


def fresh(seed: int) -> Iterator[Problem]:
    """Endless drills that lie in no frozen split (by text), the same ones for the same seed."""
    rng = random.Random(seed)
    while True:
        one = drill(rng)
        if one.question not in frozen_questions():
            yield one


@cache
def frozen() -> dict[str, tuple[Problem, ...]]:
    """Split -> its drills. Families take turns, and no question stands twice in all splits together."""
    seen: set[str] = set()
    splits: dict[str, tuple[Problem, ...]] = {}
    for split, size in SPLIT_SIZES.items():
        rng = random.Random(SPLIT_SEEDS[split])
        chosen: list[Problem] = []
        while len(chosen) < size:
            one = drill(rng, FAMILIES[len(chosen) % len(FAMILIES)])
            if one.question not in seen:
                seen.add(one.question)
                chosen.append(one)
        splits[split] = tuple(chosen)
    return splits


@cache
def frozen_questions() -> frozenset[str]:
    """Texts of all dev and test drills: what no training may see."""
    return frozenset(one.question for split in frozen().values() for one in split)


def write(folder: Path) -> None:
    """Writes `dev.jsonl` and `test.jsonl`, GSM8K's form, to `folder`.

    Raises:
        HostError: the files cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split, problems in frozen().items():
            rows = (
                {
                    "id": f"arithmetic-{split}-{at:04d}",
                    "family": one.family,
                    "question": one.question,
                    "answer": one.answer,
                }
                for at, one in enumerate(problems)
            )
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    except OSError as error:
        raise HostError(
            f"{folder}: expected to write the drills there, got: {error.strerror}; check the path"
        ) from error
