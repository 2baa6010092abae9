import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.answers import MAX_DIGITS, extract_lenient, extract_strict, final_of, is_right, number, same_number

GOLDENS = [json.loads(line) for line in (Path(__file__).parent / "goldens" / "answers.jsonl").read_text().splitlines()]


def lm_eval(text: str, final: str) -> tuple[bool, bool]:
    """lm-eval's gsm8k.yaml, literally: two filters, then exact match after four removals."""

    def normal(answer: str) -> str:
        for ignored in (",", r"\$", "(?s).*#### ", r"\.$"):
            answer = re.sub(ignored, "", answer)
        return answer.lower()

    strict = re.findall(r"#### (\-?[0-9\.\,]+)", text)
    flexible = re.findall(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", text)
    readings = (strict[0] if strict else "[invalid]", next(filter(None, flexible[-1])) if flexible else "[invalid]")
    return normal(readings[0]) == normal(final), normal(readings[1]) == normal(final)


@pytest.mark.parametrize(
    "case", GOLDENS, ids=lambda case: f"{case['kind']}: {case['text'][-24:]!r} for {case['final']}"
)
def test_golden_answers_are_judged_as_recorded(case):
    assert is_right(case["text"], case["final"]) == (case["strict"], case["lenient"])
    assert lm_eval(case["text"], case["final"]) == (case["lm_eval_strict"], case["lm_eval_lenient"])


def test_we_differ_from_lm_eval_where_a_deviation_is_stated_and_nowhere_else():
    for case in GOLDENS:
        differs = (case["strict"], case["lenient"]) != (case["lm_eval_strict"], case["lm_eval_lenient"])
        assert differs == (case["deviation"] is not None), case
    assert len({case["deviation"] for case in GOLDENS}) == 6  # five kinds, and none


def test_goldens_cover_every_kind_and_each_has_a_source():
    assert len(GOLDENS) >= 170
    assert all(case["source"] for case in GOLDENS)
    assert len({(case["text"], case["final"]) for case in GOLDENS}) == len(GOLDENS)
    kinds = {case["kind"] for case in GOLDENS}
    assert kinds >= {"fractions", "units", "commas", "negatives", "after", "none", "decimals", "money", "format"}
    assert kinds >= {"percent", "equations", "mixed numbers", "latex", "leading zeros", "choices", "very long digits"}


integers = st.integers(-(10**12), 10**12)
pieces = st.sampled_from(["#### ", "####", "$", ",", ".", "-", " ", "\n", "apples", "7", "12", "3,400", "0.5", "="])
texts = st.lists(pieces, max_size=12).map("".join)


@given(integers)
def test_any_integer_written_in_the_format_is_right_with_and_without_commas(value):
    assert is_right(f"so\n#### {value:,}\n", str(value)) == (True, True)
    assert is_right(f"so\n#### {value}", f"{value:,}") == (True, True)
    assert is_right(f"so\n#### {value + 1}", str(value)) == (False, False)


@given(texts, integers)
def test_what_lm_eval_calls_right_is_right_here_fractions_aside(text, value):
    strict, lenient = is_right(text, str(value))
    theirs = lm_eval(text, str(value))
    assert strict >= theirs[0]
    assert lenient >= theirs[1]


@given(st.text())
def test_no_text_breaks_the_scorer(text):
    is_right(text, "7")
    is_right(f"#### {text}", text)
    assert not same_number(None, None)


def test_readings_are_given_as_written():
    assert extract_strict("a #### 1,200.\n#### 5") == "1,200."
    assert extract_lenient("from $3 to $1,200.") == "$1,200."
    assert extract_strict("nothing") is extract_lenient("nothing") is None


def test_endless_digits_are_no_number():
    assert number("9" * MAX_DIGITS) is not None
    assert number("9" * (MAX_DIGITS + 1)) is None
    assert is_right("#### " + "9" * 100_000, "9") == (False, False)


def test_the_final_of_a_solution_follows_its_last_mark_or_is_a_bare_number():
    assert final_of("3+4=7\n#### 7\n#### 1,234 ") == "1,234"
    assert final_of(" 42 ") == "42"
    assert final_of("seven") is final_of("#### seven") is final_of("") is None
