"""From a model's text to right or wrong, after lm-eval's `gsm8k` task.

Two readings, always reported side by side:

- **strict**: the first `#### n` of the text; what the worked examples show, so it asks for the format too;
- **lenient**: the last number of the text, whatever stands around it.

Both follow lm-evaluation-harness, `lm_eval/tasks/gsm8k/gsm8k.yaml` (filters `strict-match` and `flexible-extract`,
https://github.com/EleutherAI/lm-evaluation-harness), which removes commas, dollar signs and one trailing full stop and
then compares strings. We differ in five places, each with cases in `tests/benchmarks/goldens/answers.jsonl`:

- numbers are compared as numbers, so `72.00` equals `72`; lm-eval compares strings and says wrong;
- `#### 1/2` is one half; lm-eval reads 1;
- the lenient reading skips matches without a digit (`so 72 apples...` ends in dots, which lm-eval takes);
- all full stops at the end of a number are taken off; lm-eval takes one;
- more than MAX_DIGITS digits are no number; lm-eval compares strings of any length.

A rule is not a reader: `doubt` in the golden file marks the verdicts that a reader would contest.
"""

import re
from fractions import Fraction

SCORER_VERSION = "gsm8k-2026.1"
"""Stored beside every score; changes whenever a text could be judged otherwise than before."""

FINAL_MARK = "####"

_STRICT = re.compile(r"#### (-?[0-9.,]+(?:/[0-9]+)?)")
_LENIENT = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
_DIGIT = re.compile(r"[0-9]")
_NUMBER = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:/[0-9]+)?")
MAX_DIGITS = 200
"""Longer digit strings are no number to us: a model that never stops must not cost quadratic time in arithmetic."""


def extract_strict(text: str) -> str | None:
    """The number after the first `#### `, as written; None where there is none."""
    match = _STRICT.search(text)
    return match.group(1) if match and _DIGIT.search(match.group(1)) else None


def extract_lenient(text: str) -> str | None:
    """The last number in the text, as written (commas, dollar signs, trailing stops kept); None if there is none."""
    found = [piece for piece in _LENIENT.findall(text) if _DIGIT.search(piece)]
    return found[-1] if found else None


def number(written: str) -> Fraction | None:
    """The exact value of a number as people write it (`1,234.50`, `$5`, `-3.`, `3/4`); None if it is no number."""
    plain = written.strip().replace(",", "").replace("$", "").rstrip(".")
    if len(plain) > MAX_DIGITS or not _NUMBER.fullmatch(plain):
        return None
    whole, _, below = plain.partition("/")
    if below and int(below) == 0:
        return None
    return Fraction(whole) / (int(below) if below else 1)


def final_of(answer: str) -> str | None:
    """The number that a worked solution ends with: after its last `####`, or the whole text if it is a bare number."""
    tail = answer.rpartition(FINAL_MARK)[2].strip()
    return tail if number(tail) is not None else None


def same_number(a: str | None, b: str | None) -> bool:
    """Do both strings write the same number? Something that is no number equals nothing, itself included."""
    if a is None or b is None:
        return False
    value = number(a)
    return value is not None and value == number(b)


def is_right(text: str, final: str) -> tuple[bool, bool]:
    """(strict, lenient): is the answer in `text` the number `final`?"""
    return same_number(extract_strict(text), final), same_number(extract_lenient(text), final)
