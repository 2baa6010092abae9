r"""From a model's text to right or wrong on MATH: the last box, read twice.

The answer is the content of the last `\boxed{}` or `\fbox{}`; a text without a box is wrong in both readings:

- **strict**: the same string as the reference, both normalised by the rules of Hendrycks et al. 2021
  (https://arxiv.org/abs/2103.03874) as lm-evaluation-harness publishes them (`lm_eval/tasks/hendrycks_math/utils.py`,
  `is_equiv`: layout, units, degrees, percent signs, `\dfrac`, `\frac12`, `\sqrt2`, `a/b`, `x=`);
- **lenient**: the same mathematical object, in math-verify's judgement (https://github.com/huggingface/Math-Verify). What is
  right strictly is right leniently, and of two plain integers nobody needs to be asked, so most answers never reach it.

**Lenient ranks models**: strict calls `x^2+x` for `x+x^2` wrong, which no reader would.

`tests/benchmarks/goldens/math_answers.jsonl` holds the cases, with what lm-eval says to each. Where we differ, and why:

- the box. lm-eval's `hendrycks_math` takes the answer from between the first and the last dollar sign and so calls what an
  instruction model boxes wrong (its issue 3643); we compare the boxes, which is how it reads the reference;
- which box. lm-eval reads a `\boxed 5` anywhere before a later `\boxed{6}`, and a `\boxed{5}` before a later `\fbox{6}`; we
  read the last. Of `\boxed 5 is right` it reads all the rest, we one word; of `\boxed {5}` it keeps the braces;
- what it cannot read. A reference in `\fbox{}` ends its run; braces it counts escaped (`\{`) like others;
- no box. lm-eval's `minerva_math` asks math-verify about the whole text: it also reads `$5$` or a bare last number, and takes
  several boxes close together for one list. We read the last box and nothing else.

A verdict of math-verify is a program's, not a reader's: `doubt` in the golden file marks those a reader would contest.
"""

import re
from importlib.metadata import PackageNotFoundError, version

from benchmarks.math_verifier import equivalent


def _installed(package: str) -> str:
    try:
        return f"{package}-{version(package)}"
    except PackageNotFoundError:  # Said, with what to do, when an answer has to be checked.
        return f"{package}-none"


SCORER_VERSION = "/".join(("math-2026.1", *map(_installed, ("math-verify", "latex2sympy2-extended", "sympy"))))
"""Stored beside every score; names the libraries too, whose versions judge differently."""

_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BARE = re.compile(r"([^$\n]*)\$|(\S*)")

_REPLACED = (
    ("\n", ""),
    ("\\!", ""),
    ("\\\\", "\\"),
    ("tfrac", "frac"),
    ("dfrac", "frac"),
    ("\\left", ""),
    ("\\right", ""),
    ("^{\\circ}", ""),
    ("^\\circ", ""),
    ("\\$", ""),
)
_INTEGER = re.compile(r"-?[0-9]{1,15}")
_UNIT = "\\text{ "
_HALF = "\\frac{1}{2}"


def last_box(text: str) -> str | None:
    r"""Content of the last `\boxed{}` or `\fbox{}`, spaces around it aside; None if there is none or it is never closed.

    Without braces (`\boxed 5`) it is what stands before the next dollar sign of the line, or else the next word.
    """
    start = max((box.end() for box in _BOX.finditer(text)), default=None)
    if start is None:
        return None
    if not text.startswith("{", start):
        bare = _BARE.match(text, start)
        assert bare is not None  # The word may be empty.
        return (bare[1] or (bare[2] or "").rstrip(".,;")).strip() or None
    depth = 0
    for brace in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return text[start + 1 : brace.start()].strip()
    return None


def final_of(solution: str) -> str | None:
    """What a worked solution boxes last; None if that is nothing."""
    return last_box(solution) or None


def same_string(a: str, b: str) -> bool:
    """Are the two equal by Hendrycks' rules? Where the rules fail on one of them, they are compared as they stand."""
    try:
        return normal(a) == normal(b)
    except ValueError:
        return a == b


def normal(latex: str) -> str:
    r"""The string that stands for an answer, after Hendrycks.

    Raises:
        ValueError: the rules do not apply: two units, a root or fraction of nothing, a slash between no integers.
    """
    for old, new in _REPLACED:
        latex = latex.replace(old, new)
    if latex.count(_UNIT) > 1:
        raise ValueError("more than one unit")
    latex = latex.partition(_UNIT)[0].replace("\\%", "")
    latex = latex.replace(" .", " 0.").replace("{.", "{0.")
    if latex.startswith("."):
        latex = "0" + latex
    left, _, right = latex.partition("=")
    if latex.count("=") == 1 and len(left) <= 2:
        latex = right
    latex = _whole_fractions(_whole_roots(latex).replace(" ", ""))
    return _slash_as_fraction(_HALF if latex == "0.5" else latex)


def _whole_roots(latex: str) -> str:
    before, *roots = latex.split("\\sqrt")
    if not all(roots):
        raise ValueError("root of nothing")
    return "\\sqrt".join((before, *(root if root[0] == "{" else f"{{{root[0]}}}{root[1:]}" for root in roots)))


def _whole_fractions(latex: str) -> str:
    before, *fractions = latex.split("\\frac")
    whole = [before]
    for fraction in fractions:
        if not fraction:
            raise ValueError("fraction of nothing")
        if fraction[0] == "{":
            whole.append(fraction)
        elif len(fraction) == 1:
            return latex
        else:
            over, under, rest = fraction[0], fraction[1], fraction[2:]
            whole.append(f"{{{over}}}" + ("{" if under == "{" else f"{{{under}}}") + rest)
    return "\\frac".join(whole)


def _slash_as_fraction(latex: str) -> str:
    if latex.count("/") != 1:
        return latex
    over, under = map(int, latex.split("/"))
    return f"\\frac{{{over}}}{{{under}}}" if latex == f"{over}/{under}" else latex


def is_right(text: str, final: str) -> tuple[bool, bool]:
    """(strict, lenient): does the last box of `text` hold the answer `final` (LaTeX, without a box)?

    Raises:
        BenchmarkError: answers cannot be checked on this machine; never because of what a text holds.
    """
    answer = last_box(text)
    if not answer:
        return False, False
    strict = same_string(answer, final)
    if strict or (_INTEGER.fullmatch(answer) and _INTEGER.fullmatch(final)):
        return strict, strict or int(answer) == int(final)
    return strict, equivalent(final, answer)
