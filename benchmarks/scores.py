"""Score a model: ask the items of a suite, judge every answer, keep every bit.

In a race the asking ends as soon as the model cannot reach the best ones any more. What was not asked stays `-` in the bits, and the interval of such a score
is one that holds whenever the asking stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.errors import BenchmarkError
from benchmarks.evaluators import Evaluator
from benchmarks.host import memory_for
from benchmarks.statistics import ItemBits, anytime_interval, standard_error, wilson_share
from benchmarks.suite import Item, Suite

__all__ = ["Score", "Verdicts", "Watch", "check_prompts", "judge", "score", "score_of_bits"]

UNASKED = "-"
LEVEL = 0.95

Watch = Callable[[str, int], AbstractContextManager[None]]
"""(stage, count) -> a context whose time is that stage's: "generate" (answers) or "check"."""


@dataclass(frozen=True)
class Score:
    """What a model got. Shares are 0..1 and weighted where the suite is.

    Attributes:
        value: the share that ranks models: of each benchmark the reading that it says (`Benchmark.ranks`).
        strict, lenient: shares of right answers under the two readings of the checkers.
        low, high: 95 % interval of `value`: Wilson's; of a stopped model an anytime-valid one (`statistics.anytime_interval`).
        n, of: items asked, and items of the suite. Fewer asked than there are: the model was stopped in a race, and `value` is that of the asked ones.
        effective_n: as many equally weighted items would tell as much (Kish); `n` where weights are equal.
        bits: per item of the suite, in its order: '1' right, '0' wrong by the reading that ranks, '-' not asked.
        strict_bits, lenient_bits: likewise by the two readings.
        families: kind of problem -> share right by the reading that ranks; in suites of several benchmarks these and `benchmark/kind`.
        scorer_version: of the checkers that judged.
    """

    value: float
    strict: float
    lenient: float
    low: float
    high: float
    n: int
    of: int
    effective_n: float
    bits: ItemBits
    strict_bits: ItemBits
    lenient_bits: ItemBits
    scorer_version: str
    families: Mapping[str, float] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every item was asked."""
        return self.n == self.of

    @property
    def standard_error(self) -> float:
        """Of `value`, from the items asked: sqrt(p (1 - p) / effective n)."""
        return standard_error(self.value, self.effective_n)


class Verdicts(Protocol):
    """Verdicts on one model that are known already, and where new ones go: nothing is asked twice.

    Both strings are as long as the suite and hold '-' for what is not known.
    """

    def known(self) -> tuple[ItemBits, ItemBits] | None:
        """(strict bits, lenient bits), or None where nothing is known of this model."""

    def learn(self, strict: ItemBits, lenient: ItemBits) -> None:
        """More is known now."""


def score(
    evaluator: Evaluator,
    suite: Suite,
    *,
    is_beaten: Callable[[ItemBits], bool] | None = None,
    blocks: int | None = None,
    judged: Verdicts | None = None,
    ready: Callable[[], None] = lambda: None,
    watch: Watch = lambda stage, count: nullcontext(),
) -> Score:
    """Scores whatever weights the evaluator holds when the first item is asked.

    Args:
        is_beaten: (bits so far) -> whether the model is asked no further, as `racing.Race.is_beaten`; told before every block. None: everything is asked.
        blocks: only the first so many blocks of the suite are asked; None: all.
        judged: verdicts known before, as of a run that was broken off.
        ready: called before the first item is asked, and not at all where nothing has to be: the place to swap weights in.
        watch: what times the stages.

    Raises:
        BenchmarkError: the evaluator cannot answer, as for want of memory, or a checker breaks. A fault never becomes a zero.
    """
    strict, lenient = _start(suite, judged)
    met, swapped = (
        0,
        False,
    )  # items of the blocks so far; what is known beyond them does not count: a resumed run ends as an unbroken one
    for block in suite.blocks[:blocks]:
        if is_beaten is not None and is_beaten(_ranked(suite, *_met(suite, met, strict, lenient))):
            break
        met += len(block)
        missing = [place for place in block if strict[place] == UNASKED]
        if not missing:
            continue
        if not swapped:
            ready()
            swapped = True
        items = [suite.items[place] for place in missing]
        with watch("generate", len(items)):
            texts = _ask(evaluator, items)
        with watch("check", len(items)):
            for place, verdict in zip(missing, map(_verdict, items, texts), strict=True):
                strict[place], lenient[place] = ("1" if right else "0" for right in verdict)
        if judged is not None:
            judged.learn("".join(strict), "".join(lenient))
    return score_of_bits(suite, *_met(suite, met, strict, lenient))


def check_prompts(evaluator: Evaluator, suite: Suite) -> None:
    """Whether every item could be asked; no model reads any of them.

    Raises:
        PromptTooLongError, ModelFolderError: see `Evaluator.check`.
    """
    for part in suite.parts:
        prompts = [part.benchmark.prompt(problem) for problem in part.problems]
        evaluator.check(prompts, max_new_tokens=part.benchmark.max_new_tokens)


def _start(suite: Suite, judged: Verdicts | None) -> tuple[list[str], list[str]]:
    known = judged.known() if judged is not None else None
    strict, lenient = known or (UNASKED * len(suite),) * 2
    assert len(strict) == len(lenient) == len(suite)
    return list(strict), list(lenient)


def _met(suite: Suite, count: int, *readings: Sequence[str]) -> tuple[ItemBits, ...]:
    """The bits of the first `count` items in the order of the race, '-' for the rest."""
    places = set(suite.order[:count])
    return tuple("".join(bit if at in places else UNASKED for at, bit in enumerate(bits)) for bits in readings)


def _ask(evaluator: Evaluator, items: Sequence[Item]) -> list[str]:
    """Answers in the order of the items; those asked in one form together, whatever benchmark they belong to."""
    forms: dict[object, list[int]] = {}
    for at, item in enumerate(items):
        b = item.benchmark
        forms.setdefault((b.prompt_version, b.max_new_tokens, b.stop), []).append(at)
    answers = [""] * len(items)
    for places in forms.values():
        b = items[places[0]].benchmark
        with memory_for("scoring", "free some, then try again"):
            texts = evaluator.answer([items[at].prompt for at in places], max_new_tokens=b.max_new_tokens, stop=b.stop)
        for at, text in zip(places, texts, strict=True):
            answers[at] = text
    return answers


def _verdict(item: Item, text: str) -> tuple[bool, bool]:
    try:
        return item.benchmark.checker(text, item.problem.final)
    except BenchmarkError:
        raise
    except Exception as error:  # a checker of ours that breaks: the run stops, and no model gets a zero for it
        raise BenchmarkError(
            f"checker of '{item.part}': it broke on problem '{item.problem.id}' ({type(error).__name__}: {str(error)[:120]}); "
            "this is a fault of the program: report it with that problem"
        ) from error


def judge(texts: Sequence[str], suite: Suite) -> Score:
    """The score of answers already given, one text per item."""
    verdicts = [_verdict(item, text) for item, text in zip(suite.items, texts, strict=True)]
    strict, lenient = ("".join("1" if verdict[reading] else "0" for verdict in verdicts) for reading in (0, 1))
    return score_of_bits(suite, strict, lenient)


def _ranked(suite: Suite, strict: Sequence[str], lenient: Sequence[str]) -> ItemBits:
    return "".join(
        strict[at] if item.benchmark.ranks == "strict" else lenient[at] for at, item in enumerate(suite.items)
    )


def score_of_bits(suite: Suite, strict: ItemBits, lenient: ItemBits) -> Score:
    """The score that verdicts come to.

    Args:
        strict, lenient: as long as the suite, '-' at the same places, and not everywhere.
    """
    bits = _ranked(suite, strict, lenient)
    asked = [at for at, bit in enumerate(bits) if bit != UNASKED]
    assert asked, "a score of no item"
    weights = suite.weights[asked]
    effective = len(asked) if not suite.several else float(weights.sum() ** 2 / (weights**2).sum())
    value = _share(bits, asked, suite)
    if len(asked) == len(suite):
        interval = wilson_share(value, effective, LEVEL)
    else:
        interval = anytime_interval(value, effective, LEVEL)
    return Score(
        value=value,
        strict=_share(strict, asked, suite),
        lenient=_share(lenient, asked, suite),
        low=interval.low,
        high=interval.high,
        n=len(asked),
        of=len(suite),
        effective_n=effective,
        bits=bits,
        strict_bits=strict,
        lenient_bits=lenient,
        scorer_version=suite.scorer_version,
        families=_by_family(bits, asked, suite),
    )


def _share(bits: ItemBits, asked: Sequence[int], suite: Suite) -> float:
    if not suite.several:
        return sum(bits[at] == "1" for at in asked) / len(asked)
    weights = suite.weights[asked]
    right = [bits[at] == "1" for at in asked]
    return float(weights[right].sum() / weights.sum())


def _by_family(bits: ItemBits, asked: Sequence[int], suite: Suite) -> dict[str, float]:
    found: dict[str, list[int]] = {}
    for at in asked:
        item = suite.items[at]
        labels = [item.part] if suite.several else []
        if item.problem.family is not None:
            labels.append(f"{item.part}/{item.problem.family}" if suite.several else item.problem.family)
        for label in labels:
            found.setdefault(label, []).append(int(bits[at]))
    return {family: sum(right) / len(right) for family, right in sorted(found.items())}
