import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.checkers import CHECKERS, checker_named
from benchmarks.errors import UnknownBenchmarkError

CHOICES = [
    ("#### B", "B", True, True),
    ("steps\n#### (B)", "B", True, True),
    ("#### **B**", "B", True, True),
    ("#### b", "B", True, True),
    ("#### B) 12", "B", True, True),
    ("#### B\n#### C", "B", True, True),  # the first mark, as in GSM8K
    ("#### C\nI mean B.", "B", False, True),
    ("#### 12 (B)", "B", False, True),  # after the mark stands no letter
    ("#### Both", "B", False, False),
    ("#### b'", "B", False, False),
    ("####", "B", False, False),
    ("The answer is B", "B", True, True),
    ("The answer is (B).", "B", True, True),
    ("The answer is: B", "B", True, True),
    ("the ANSWER IS **B**", "B", True, True),
    ("The answer is b", "B", False, False),  # small letters without brackets are words
    ("The answer is (b)", "B", True, True),
    ("The answer is a dog", "A", False, False),
    ("The answer is A dog", "A", False, False),
    ("The answer is A", "A", True, True),
    ("The answer is A. I am sure.", "A", True, True),
    ("First the answer is C. No: the answer is B.", "B", True, True),
    ("First the answer is C. No: the answer is B.", "C", False, False),
    ("The answer is B, not C", "B", True, True),
    ("The answer is B, not C", "C", False, True),  # the last letter that stands alone
    ("B", "B", True, True),
    (" b. ", "B", True, True),
    ("(B)", "B", True, True),
    ("B)", "B", True, True),
    ("**B**", "B", True, True),
    ("BC", "B", False, False),
    ("K", "B", False, False),
    ("B is right", "B", False, True),
    ("Option B", "B", False, True),
    ("B or C", "C", False, True),
    ("I think B", "B", False, True),
    ("B, I think", "B", False, True),  # I before a small word is a person
    ("B I", "I", False, True),
    ("It's B's turn", "B", False, False),
    ("Vitamin B12", "B", False, False),
    ("", "B", False, False),
    ("none of them", "B", False, False),
]
TEXTS = [
    ("#### Paris", "Paris", True, True),
    ("It is so.\n####  the  Seine \nmore", "The Seine", True, True),
    ("#### PARIS.", "paris", True, True),
    ("#### **Paris**", "Paris", True, True),
    ("#### Paris\n#### Rome", "Rome", False, False),
    ("####\nParis", "Paris", False, True),  # the line of the mark is empty, the last line is the answer
    ("#### Paris, France", "Paris", False, False),
    ("Paris", "Paris", False, True),
    ("The answer is Paris.", "Paris", False, True),
    ("Answer: Paris", "Paris", False, True),
    ("At: 10:30", "10:30", False, True),
    ("10:30", "30", False, True),  # ends behind a colon
    ("Thinking.\n\nparis\n\n", "Paris", False, True),
    ("Paris\nis the capital", "Paris", False, False),
    ("The capital is Paris", "Paris", False, False),
    ("Not Paris", "Paris", False, False),
    ("", "Paris", False, False),
    ("####", "Paris", False, False),
]


@pytest.mark.parametrize(("text", "final", "strict", "lenient"), CHOICES)
def test_choices_are_judged_by_the_stated_rules(text, final, strict, lenient):
    assert CHECKERS["choice"].judge(text, final) == (strict, lenient)


@pytest.mark.parametrize(("text", "final", "strict", "lenient"), TEXTS)
def test_texts_are_judged_by_the_stated_rules(text, final, strict, lenient):
    assert CHECKERS["exact"].judge(text, final) == (strict, lenient)


@pytest.mark.parametrize(
    ("name", "answer", "final"),
    [
        ("number", "3+4\n#### 7", "7"),
        ("number", "seven", None),
        ("math", r"so $\boxed{\frac{1}{2}}$", r"\frac{1}{2}"),
        ("math", r"\boxed{}", None),
        ("math", "7", None),
        ("exact", "thus\n#### Paris ", "Paris"),
        ("exact", " Paris ", "Paris"),
        ("exact", "####  ", None),
        ("exact", "two\nlines", None),
        ("exact", "#### .", None),
        ("choice", "thus\n#### b", "B"),
        ("choice", "(c)", "C"),
        ("choice", "K", None),
        ("choice", "A and B", None),
    ],
)
def test_finals_of_problem_files(name, answer, final):
    assert CHECKERS[name].final_of(answer) == final


@pytest.mark.parametrize("checker", CHECKERS.values(), ids=lambda checker: checker.name)
def test_every_checker_takes_its_own_example_and_has_a_version_of_its_own(checker):
    answer = checker.example.replace("\\\\", "\\")  # as JSON
    final = checker.final_of(answer)
    assert final is not None
    assert checker.judge(answer, final) == (True, True)
    assert checker.version
    assert checker_named(checker.name) is checker
    assert len({other.version for other in CHECKERS.values()}) == len(CHECKERS)


def test_only_math_is_ranked_by_its_lenient_reading():
    assert {name: checker.ranks for name, checker in CHECKERS.items()} == {
        "number": "strict",
        "math": "lenient",
        "exact": "strict",
        "choice": "strict",
    }


def test_an_unknown_checker_is_answered_with_the_known_ones():
    with pytest.raises(
        UnknownBenchmarkError, match="expected one of number, math, exact, choice, got 'regex'; choose one"
    ):
        checker_named("regex")


pieces = st.sampled_from(["#### ", "answer is ", "A", "(B)", "I ", "c", "**", ".", ":", " ", "\n", "dog", "’", "Paris"])
texts = st.one_of(st.text(), st.lists(pieces, max_size=10).map("".join))


@given(texts)
def test_no_text_breaks_a_reading_and_strict_is_never_more_lenient(text):
    for name, final in (("choice", "B"), ("exact", "Paris")):
        strict, lenient = CHECKERS[name].judge(text, final)
        assert lenient >= strict
        found = CHECKERS[name].final_of(text)
        assert found is None or CHECKERS[name].judge(f"#### {found}", found)[0]


def test_long_texts_are_judged_at_once():
    for text in (
        "#### " * 100_000,
        "answer is " * 100_000,
        "(A" * 100_000,
        "A " * 100_000,
        ": " * 100_000,
        "\n" * 500_000,
    ):
        for name in ("choice", "exact"):
            CHECKERS[name].judge(text, "B")
