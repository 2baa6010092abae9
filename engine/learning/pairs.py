"""Preference pairs from measured programs, by three rules that may be combined.

| rule | chosen | rejected | source |
|---|---|---|---|
| extremes | the top share by dev score, and the elite of every earlier iteration | the bottom share | Self-Developing |
| halves | the better half of what one prompt gave, best first | its worse half, worst last: the i-th meets the i-th | EvoTune |
| failures | the top share of what worked of the prompt, in turn | each program that was refused or failed | EvoTune |

Self-Developing (https://arxiv.org/abs/2410.15639) leaves the pairing of its extremes open; ours: the i-th chosen program meets `pairs_per_chosen`
rejected ones in turn, so no program dominates. EvoTune: https://arxiv.org/abs/2504.05108.
A pair is learnt under the prompt that both were written for, else under the fixed one. Only dev scores enter, and only programs that were new: a
duplicate would count its original twice. Of two scores the higher is chosen, never of equal ones; a program that failed has no score, only less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from scipy.special import betainc

from benchmarks.statistics import ItemBits
from engine.config_learning import LearnSection
from engine.ranking import scored_best_first
from engine.records import Candidate, Outcome, Trial

UNASKED = "-"


@dataclass(frozen=True)
class Pair:
    """One preference.

    Attributes:
        prompt, chosen, rejected: texts.
        chosen_number, rejected_number: of the candidates.
        margin: difference of dev shares on what both were asked, above 0, at most 1; None where the rejected one failed.
        certainty: probability that the chosen one is better, 0.5..1 (see `compare`); 1 where the rejected one failed.
    """

    prompt: str
    chosen: str
    rejected: str
    chosen_number: int
    rejected_number: int
    margin: float | None
    certainty: float


@dataclass(frozen=True)
class Past:
    """What a method may learn from.

    Attributes:
        by_iteration: all candidates so far, by iteration, in order.
        fixed_prompt: the one-shot prompt, in the generator's form.
        weights: of the dev problems, where they do not count alike.
        seed: of what a method draws.
        trials: the seed, the experts and the human-made merges on the same problems.
    """

    by_iteration: Mapping[int, Sequence[Candidate]]
    fixed_prompt: str
    weights: Sequence[float] | None = None
    seed: int = 0
    trials: Sequence[Trial] = ()

    @property
    def latest(self) -> int:
        """The iteration that was just assessed."""
        return max(self.by_iteration)


def compare(better: ItemBits, worse: ItemBits, weights: Sequence[float] | None = None) -> tuple[float, float]:
    """(margin, certainty) of the first program over the second, from the problems that both were asked.

    The margin is the difference of their shares, −1..1. The certainty is the probability that the first solves more of such problems: only what one
    solved and the other did not tells them apart, and with w won and l lost it is P(θ > 1/2) under Beta(w + 1, l + 1), a flat prior. Weighted
    problems count as many equal ones as carry the same information (Kish).
    """
    assert len(better) == len(worse)
    won = lost = squares = asked = 0.0
    for index, (a, b) in enumerate(zip(better, worse, strict=True)):
        if UNASKED in (a, b):
            continue
        weight = weights[index] if weights else 1.0
        asked += weight
        if a != b:
            won, lost, squares = won + weight * (a == "1"), lost + weight * (b == "1"), squares + weight * weight
    if not squares:
        return 0.0, 0.5
    scale = (won + lost) / squares
    return (won - lost) / asked, float(1.0 - betainc(won * scale + 1.0, lost * scale + 1.0, 0.5))


def choose_pairs(past: Past, section: LearnSection) -> list[Pair]:
    """The pairs of the latest iteration by the rules of `section`, without those that noise could explain (`min_certainty`).

    Empty where fewer than two different scores exist, and nothing failed beside something that worked.
    """
    rules = {"extremes": _extremes, "halves": _halves, "failures": _failures}
    found: dict[tuple[int, int], Pair] = {}
    for rule in section.pairs:
        for chosen, rejected in rules[rule](past, section):
            pair = _pair(chosen, rejected, past)
            if pair is not None and pair.certainty >= section.min_certainty:
                found.setdefault((chosen.number, rejected.number), pair)
    return list(found.values())


def _extremes(past: Past, section: LearnSection) -> Iterator[tuple[Candidate, Candidate]]:
    ranked = scored_best_first(past.by_iteration[past.latest])
    top = ranked[: min(len(ranked) // 2, section.top(len(ranked)))]
    bottom = ranked[len(top) :][-section.bottom(len(ranked)) :]
    for index, chosen in enumerate(top + elite(past, section.elite)):
        for offset in range(min(section.pairs_per_chosen, len(bottom))):
            yield chosen, bottom[(index * section.pairs_per_chosen + offset) % len(bottom)]


def elite(past: Past, count: int) -> list[Candidate]:
    """The `count` best of every iteration before the latest."""
    return [
        c
        for i in sorted(past.by_iteration)
        if i != past.latest
        for c in scored_best_first(past.by_iteration[i])[:count]
    ]


def _halves(past: Past, section: LearnSection) -> Iterator[tuple[Candidate, Candidate]]:
    for group in _by_prompt(past.by_iteration[past.latest]):
        ranked = scored_best_first(group)
        middle = len(ranked) // 2
        yield from zip(ranked[:middle], ranked[-middle:] if middle else (), strict=True)


def _failures(past: Past, section: LearnSection) -> Iterator[tuple[Candidate, Candidate]]:
    for group in _by_prompt(past.by_iteration[past.latest]):
        ranked = scored_best_first(group)
        working = ranked[: section.top(len(ranked))]
        failed = [c for c in group if c.assessment.outcome in (Outcome.REJECTED, Outcome.FAILED)]
        for index, rejected in enumerate(failed if working else ()):
            yield working[index % len(working)], rejected


def _by_prompt(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.program.prompt, []).append(candidate)
    return list(groups.values())


def _pair(chosen: Candidate, rejected: Candidate, past: Past) -> Pair | None:
    """None where the first did not score higher."""
    better, worse = chosen.assessment.score, rejected.assessment.score
    assert better is not None
    margin, sure = None, 1.0
    if worse is not None:
        margin, sure = compare(better.bits, worse.bits, past.weights)
        if margin <= 0:
            return None
    a, b = chosen.program, rejected.program
    prompt = a.prompt if a.prompt == b.prompt else past.fixed_prompt
    return Pair(prompt, a.text, b.text, chosen.number, rejected.number, margin, sure)
