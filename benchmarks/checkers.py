"""The ways to judge an answer, for problem files of one's own: which finals a file may hold, and what is right.

Each has two readings, strict and lenient, and a version that is stored beside every score. What is right strictly is right
leniently in `exact` and `choice`; not always in `number` (the first `####` against the last number), by lm-eval's rules.

| name | a final is | strict | lenient |
|---|---|---|---|
| `number` | a number, after the last `####` or the whole answer | the first `#### n` | the last number |
| `math` | LaTeX, in the last `\\boxed{}` | last box, same string after Hendrycks' rules | last box, equal to math-verify |
| `exact` | one line, after the last `####` or the whole answer | what follows the first `####` on its line | strict, or the last line: all of it, or behind a `:` or `answer is` |
| `choice` | one letter A–J, after the last `####` or the whole answer | after the first `####`; without one, the last `answer is (B)`; without either, a text that is one letter | strict, or the last capital A–J that stands alone |

`exact` compares without case, spaces, `**` and a full stop at the end. In `choice` an `A` or `I` before a small word is English, not
an answer; so is a small letter that stands without brackets, except right after `####` or as the whole text.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks import answers, math_answers
from benchmarks.answers import FINAL_MARK
from benchmarks.errors import UnknownBenchmarkError

Judge = Callable[[str, str], tuple[bool, bool]]
"""(text, final) -> (strict, lenient)."""
Reading = Literal["strict", "lenient"]


@dataclass(frozen=True)
class Checker:
    """A way to judge answers.

    Attributes:
        name: one of CHECKERS.
        version: changes whenever a text could be judged otherwise than before.
        judge: of a model's text. Never raises because of what a text holds.
        final_of: the final of a worked solution; None where it has none.
        ends_in: what a worked solution has to end in, for messages.
        example: an answer that does.
        ranks: which reading compares models.
    """

    name: str
    version: str
    judge: Judge
    final_of: Callable[[str], str | None]
    ends_in: str
    example: str
    ranks: Reading = "strict"


_BRACKETED = r"\(([A-Ja-j])\)"
_MARKED = re.compile(rf"{FINAL_MARK}\s*\**(?:{_BRACKETED}|([A-Ja-j])(?![\w'’]))")
_STATED = re.compile(rf"(?i:answer\s+is):?\s*\**(?:{_BRACKETED}|([A-J])(?![\w'’])(?!\s+[a-z]))")
_ALONE = re.compile(rf"\s*\**(?:{_BRACKETED}|([A-Ja-j]))[.)]?\**\s*")
_STANDING = re.compile(rf"{_BRACKETED}|(?<![\w'’])(?:([B-HJ])(?![\w'’])|([AI])(?![\w'’])(?!\s+[a-z]))")


def _letter(found: re.Match[str] | None) -> str | None:
    return next(filter(None, found.groups())).upper() if found else None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return max(pattern.finditer(text), key=lambda found: found.start(), default=None)


def judge_choice(text: str, final: str) -> tuple[bool, bool]:
    """See the table above; `final` is one capital letter."""
    if FINAL_MARK in text:
        strict = _letter(_MARKED.match(text, text.index(FINAL_MARK)))
    else:
        strict = _letter(_last(_STATED, text) or _ALONE.fullmatch(text))
    return strict == final, final in (strict, _letter(_last(_STANDING, text)))


def choice_of(answer: str) -> str | None:
    """The letter that an answer of a problem file gives."""
    return _letter(_ALONE.fullmatch(answer.rpartition(FINAL_MARK)[2]))


def _plain(text: str) -> str:
    return " ".join(text.replace("**", "").split()).rstrip(".").rstrip().casefold()


def judge_exact(text: str, final: str) -> tuple[bool, bool]:
    """See the table above."""
    wanted = _plain(final)
    _, mark, after = text.partition(FINAL_MARK)
    strict = bool(mark) and _plain(after.strip(" ").partition("\n")[0]) == wanted
    return strict, strict or _closes(_plain(next(filter(str.strip, reversed(text.splitlines())), "")), wanted)


def _closes(line: str, wanted: str) -> bool:
    before = line.removesuffix(wanted).rstrip()
    return line.endswith(wanted) and (not before or before.endswith((":", "answer is")))


def exact_of(answer: str) -> str | None:
    """The text that an answer of a problem file gives: one line."""
    tail = answer.rpartition(FINAL_MARK)[2].strip()
    return tail if _plain(tail) and "\n" not in tail else None


NUMBER = Checker(
    "number", answers.SCORER_VERSION, answers.is_right, answers.final_of, f"'{FINAL_MARK} n'", f"... {FINAL_MARK} 72"
)
MATH = Checker(
    "math",
    math_answers.SCORER_VERSION,
    math_answers.is_right,
    math_answers.final_of,
    "a '\\boxed{...}'",
    "... \\\\boxed{72}",
    ranks="lenient",
)
EXACT = Checker(
    "exact", "exact-2026.1", judge_exact, exact_of, f"'{FINAL_MARK}' and a text of one line", f"... {FINAL_MARK} Paris"
)
CHOICE = Checker(
    "choice", "choice-2026.1", judge_choice, choice_of, f"'{FINAL_MARK}' and one letter A to J", f"... {FINAL_MARK} B"
)

CHECKERS: Mapping[str, Checker] = {checker.name: checker for checker in (NUMBER, MATH, EXACT, CHOICE)}


def checker_named(name: str) -> Checker:
    """The checker called `name`.

    Raises:
        UnknownBenchmarkError: there is none.
    """
    if name not in CHECKERS:
        raise UnknownBenchmarkError(f"checker: expected one of {', '.join(CHECKERS)}, got '{name}'; choose one")
    return CHECKERS[name]
