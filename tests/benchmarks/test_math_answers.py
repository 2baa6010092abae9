import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import hendrycks_math, math_answers
from benchmarks.math_answers import SCORER_VERSION, final_of, is_right, last_box, normal, same_string
from benchmarks.math_verifier import equivalent

GOLDENS = [
    json.loads(line) for line in (Path(__file__).parent / "goldens" / "math_answers.jsonl").read_text().splitlines()
]
CHANGES = ["\n", "", "\\!", "", "\\\\", "\\", "tfrac", "frac", "dfrac", "frac", "\\left", "", "\\right", ""]
CHANGES += ["^{\\circ}", "", "^\\circ", "", "\\$", ""]


def lm_eval_box(text: str) -> str | None:
    """hendrycks_math/utils.py, literally: last_boxed_only_string and remove_boxed, which raises where it sees no \\boxed{."""
    if "\\boxed " in text:
        return text.rpartition("\\boxed ")[2].split("$")[0]
    start = text.rfind("\\boxed" if "\\boxed" in text else "\\fbox")
    depth = 0
    for end in range(start, len(text)) if start >= 0 else ():
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if text[end] == "}" and depth == 0:
            assert text.startswith("\\boxed{", start)
            return text[start + len("\\boxed{") : end]
    return None


def lm_eval_string(answer: str) -> str:
    """The same file's strip_string, literally; raises where that does."""
    for old, new in zip(CHANGES[::2], CHANGES[1::2], strict=True):
        answer = answer.replace(old, new)
    assert len(re.findall(r"\\text\{ ", answer)) <= 1
    answer = re.sub(r"\\text\{ .*", "", answer, flags=re.DOTALL).replace("\\%", "")
    answer = re.sub(r"\A\.", "0.", re.sub(r"([ {])\.", r"\g<1>0.", answer))
    answer = re.sub(r"\A[^=]{0,2}=(?=[^=]*\Z)", "", answer)
    assert not re.search(r"\\sqrt(?:\\sqrt|\Z)", answer)
    answer = re.sub(r"\\sqrt([^{])", r"\\sqrt{\1}", answer, flags=re.DOTALL).replace(" ", "")
    incomplete = re.search(r"\\frac([^{])?(?=\\frac|\Z)", answer, flags=re.DOTALL)
    assert not incomplete or incomplete[1]
    if not incomplete:
        full = r"\\frac([^{])(?:(?={)|(.))"
        answer = re.sub(full, lambda m: f"\\frac{{{m[1]}}}" + (f"{{{m[2]}}}" if m[2] else ""), answer, flags=re.DOTALL)
    answer = "\\frac{1}{2}" if answer == "0.5" else answer
    if answer.count("/") == 1:
        over, under = (int(part) for part in answer.split("/"))
        answer = f"\\frac{{{over}}}{{{under}}}" if answer == f"{over}/{under}" else answer
    return answer


def lm_eval_equiv(a: str | None, b: str) -> bool:
    try:
        return a is not None and lm_eval_string(a) == lm_eval_string(b)
    except (AssertionError, ValueError):
        return a == b


def lm_eval(text: str, final: str) -> tuple[bool, bool | None, bool]:
    """hendrycks_math as published, is_equiv of the boxes (None: it raises), and minerva_math's math_verify."""
    from math_verify import parse, verify

    pieces = text.split("$")
    published = lm_eval_equiv("$".join(pieces[1:-1]) if len(pieces) > 2 else text, final)
    try:
        boxed = lm_eval_equiv(lm_eval_box(text), final)
    except AssertionError:
        boxed = None
    return published, boxed, bool(verify(gold=parse(rf"The answer is $\boxed{{{final}}}$."), target=parse(text)))


@pytest.mark.parametrize(
    "case", GOLDENS, ids=lambda case: f"{case['kind']}: {case['text'][-30:]!r} for {case['final'][:30]!r}"
)
def test_golden_answers_are_judged_as_recorded(case):
    assert is_right(case["text"], case["final"]) == (case["strict"], case["lenient"])
    recorded = (case["lm_eval_published"], case["lm_eval_boxed"], case["lm_eval_math_verify"])
    assert lm_eval(case["text"], case["final"]) == recorded


def test_we_differ_from_lm_eval_where_a_deviation_is_stated_and_nowhere_else():
    for case in GOLDENS:
        differs = (case["strict"], case["lenient"]) != (case["lm_eval_boxed"], case["lm_eval_math_verify"])
        assert differs == (case["deviation"] is not None), case


def test_a_verdict_that_a_reader_contests_is_marked_with_what_the_reader_says():
    for case in GOLDENS:
        assert case["doubt"] is None or ("says right" if not case["lenient"] else "says wrong") in case["doubt"], case


def test_goldens_cover_every_kind_and_each_has_a_source():
    assert len(GOLDENS) >= 330
    assert all(case["source"] for case in GOLDENS)
    assert len({(case["text"], case["final"]) for case in GOLDENS}) == len(GOLDENS)
    kinds = "fractions, units, commas, negatives, after, several boxes, none, degrees, percent, text, roots, intervals, tuples"
    kinds += ", ordering, matrices, sets, equations, mixed numbers, layout, scientific notation, repeated decimals"
    kinds += ", nested boxes, unbalanced boxes, choices, long digits, hostile"
    assert {case["kind"] for case in GOLDENS} >= set(kinds.split(", "))


def test_every_worked_example_ends_in_a_box_that_is_right():
    finals = [final_of(answer) for _, answer in hendrycks_math.EXAMPLES]
    assert finals == [r"\frac{1}{3}", "[-3,5]", "a^2+4a-12", r"2\sqrt{29}", "(3,6)"]
    for (_, answer), final in zip(hendrycks_math.EXAMPLES, finals, strict=True):
        assert is_right(answer, final) == (True, True)


@pytest.mark.skipif("MERGEWRIGHT_DATA_DIR" not in os.environ, reason="MERGEWRIGHT_DATA_DIR names no folder with math/")
def test_every_official_solution_is_right_in_both_readings_and_so_is_its_final_to_math_verify_alone():
    problems = hendrycks_math.load(Path(os.environ["MERGEWRIGHT_DATA_DIR"]) / "math", "test")
    assert len(problems) == 5000
    assert [p.id for p in problems if is_right(p.answer, p.final) != (True, True)] == []
    assert [final for final in sorted({p.final for p in problems}) if not equivalent(final, final)] == []


def test_a_box_in_the_middle_of_a_text_is_found_with_its_braces():
    assert last_box(r"so $\boxed{ \frac{1}{2} }$, as \{ and \} are") == r"\frac{1}{2}"
    assert last_box(r"\boxed{\{1,2\}}") == r"\{1,2\}"
    assert last_box(r"\boxed{a \\{b}}") == r"a \\{b}"
    assert last_box(r"\boxed{\text{a\}}}") == r"\text{a\}}"
    assert last_box("no box") is last_box(r"\boxed{1") is last_box(r"\boxed ") is None


def test_what_the_rules_cannot_normalise_is_compared_as_it_stands():
    for latex in (r"\sqrt", r"\frac\frac", r"1\text{ a}2\text{ b}", "a/b", "1/"):
        with pytest.raises(ValueError, match=r".+"):
            normal(latex)
        assert same_string(latex, latex)
        assert not same_string(latex, latex + " ")


@pytest.mark.parametrize("answer", ["7", "007", "-7", "17", "0", "-0", "70"])
def test_plain_integers_are_judged_without_math_verify_as_it_would(answer, monkeypatch):
    for final in ("7", "0", "-7"):
        same = equivalent(final, answer)
        with monkeypatch.context() as patch:
            patch.setattr(math_answers, "equivalent", None)
            assert is_right(rf"\boxed{{{answer}}}", final)[1] == same


def test_the_version_names_the_libraries():
    assert re.fullmatch(r"math-[\d.]+/math-verify-[\d.]+/latex2sympy2-extended-[\d.]+/sympy-[\d.]+", SCORER_VERSION)


PIECES = r"""\boxed{ \boxed \fbox{ { } \{ \} \\ \frac \dfrac tfrac \sqrt \text{ \left \right ^\circ ^{\circ} \% \$ $ 1 2 12 / = x . , ( ) [ ] < + -
    ^ _ 0.5 .5 y= \pi \cup \infty \begin{pmatrix} \end{pmatrix} & \! \cdot \sin é"""
pieces = st.sampled_from([*PIECES.split(), " ", "\n", "\\text{ "])
latex = st.lists(pieces, max_size=14).map("".join)


@given(latex, latex)
@settings(max_examples=500)
def test_strict_is_lm_evals_comparison_on_any_two_boxes(a, b):
    assert same_string(a, b) == lm_eval_equiv(a, b)
    assert same_string(a, a)


@given(latex)
@settings(deadline=None, max_examples=60)
def test_no_latex_breaks_a_reading(text):
    strict, lenient = is_right(rf"so \boxed{{{text}}}", r"\frac{1}{2}")
    assert lenient >= strict
    is_right(text, "7")


@given(st.text())
@settings(deadline=None, max_examples=60)
def test_no_text_breaks_a_reading(text):
    is_right(text, "7")
    is_right(rf"\boxed{{{text}}}", "7")
    last_box(rf"\boxed {text}")


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 100_000,
        "\\boxed{" + "{" * 100_000 + "7" + "}" * 100_001,
        "\\boxed{" + "\\frac" * 20_000 + "}",
        "\\boxed{" + "\\sqrt" * 20_000 + "}",
        "\\boxed{" + "\\text{ " * 20_000 + "}" * 20_001,
        "\\boxed{" + "9" * 100_000 + "/" + "9" * 100_000 + "}",
        "\\boxed" * 100_000,
        "\\boxed " * 100_000,
        "\\boxed{9^{9^{9^9}}}",
        "\\boxed{" + "2^{" * 100 + "2" + "}" * 101,
        "\\boxed{" + "(" * 990 + "}",
        "\\boxed{\\operatorname{zeros}(99999,99999)}",
        "\\boxed{\\sum_{i=1}^{10000000000} i^i}",
        "\\boxed{1e999999999}",
        "\\boxed{\ud800}",
        "\\boxed{\x00}",
    ],
    ids=lambda text: repr(text[:30]),
)
def test_hostile_answers_are_wrong_and_cost_no_more_than_the_limit(text):
    assert is_right(text, "7") == (False, False)


@pytest.mark.parametrize(
    "wrap", ["{}", r"\text{{{}}}", r"\operatorname{{{}}}(1)", r"x_{{{}}}", r"\variable{{{}}}", "f({})"]
)
def test_a_box_with_python_in_it_does_nothing(tmp_path, wrap):
    code = f"__import__('os').system('touch {tmp_path}/X')"
    assert is_right(rf"\boxed{{{wrap.format(code)}}}", "7") == (False, False)
    assert list(tmp_path.iterdir()) == []
