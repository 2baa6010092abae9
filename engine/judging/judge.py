"""The generator as a judge of programs: asked several times, read strictly, averaged; and how far its judgements agree with measured scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import mean

from engine import prompts
from engine.agreement import Agreement, agree
from engine.config_learning import JudgeSection
from engine.generators import Writer
from engine.hashing import derived_seed
from engine.judging.rubric import BEST, CRITERIA
from engine.records import Candidate, Sampling

_POCKET = re.compile(rf"[0-{BEST}]")
_CHAT = re.compile(rf"Score: ([0-{BEST}])")


class Judge:
    """Asks the generator what a program is worth.

    Args:
        generator: its weights judge as they are at the time.
        section: how often and how it is asked.

    The pocket form is one token, the points; the chat form reasons first, then has a line "Score: n".
    """

    def __init__(self, generator: Writer, section: JudgeSection) -> None:
        self._generator, self._section, self._form = generator, section, generator.forms.form

    def judge(self, sources: Sequence[str], seed: int) -> list[float | None]:
        """Points of each program, 0..5, the mean of those judgements that could be read; None where none could."""
        samples = self._section.samples
        asked = [self.prompt(source) for source in sources for _ in range(samples)]
        if not asked:
            return []
        places = [
            Sampling(self._section.temperature, 1.0, derived_seed(seed, "judge", row), 0, row)
            for row in range(len(asked))
        ]
        tokens = 1 if self._form == "pocket" else self._section.max_new_tokens
        texts = self._generator.complete(asked, places, max_new_tokens=tokens)
        read = [points(text, self._form) for text in texts]
        return [_mean(read[start : start + samples]) for start in range(0, len(read), samples)]

    def prompt(self, source: str) -> str:
        """The request to judge a program, in the generator's form."""
        if self._form == "pocket":
            return prompts.pocket_judge(source)
        return self._generator.forms.chat(prompts.judge(source, CRITERIA))

    def verdict(self, met: Sequence[bool]) -> str:
        """What a judge ought to answer, of a program that meets these criteria."""
        if self._form == "pocket":
            return str(sum(met))
        reasons = [f"{criterion} {'Yes' if yes else 'No'}." for criterion, yes in zip(CRITERIA, met, strict=True)]
        return "\n".join([*reasons, f"Score: {sum(met)}"])


def points(text: str, form: str) -> int | None:
    """The points in a judge's answer, strictly: the pocket form is one digit; the chat form ends with the line "Score: n" and has no other of its kind. None else."""
    if form == "pocket":
        return int(text) if _POCKET.fullmatch(text) else None
    lines = [line.strip() for line in text.strip().split("\n")]
    found = _CHAT.fullmatch(lines[-1])
    alone = sum(line.startswith("Score:") for line in lines) == 1
    return int(found.group(1)) if found and alone else None


def agreement(candidates: Sequence[Candidate]) -> Agreement:
    """How far judgements and measured scores agree; programs that a race stopped are left out, as their scores are of fewer problems."""
    known = [(c.program.judged, c.score) for c in candidates if c.complete]
    return agree([(judged, score) for judged, score in known if judged is not None and score is not None])


def _mean(read: Sequence[int | None]) -> float | None:
    understood = [one for one in read if one is not None]
    return mean(understood) if understood else None
