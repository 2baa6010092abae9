import json

import pytest

from benchmarks.checkers import CHECKERS
from benchmarks.errors import ProblemFileError
from benchmarks.problems import MAX_LINE_CHARACTERS, Fields, Problem, draw, load_jsonl, refuse_overlap, without

GOOD = {"question": "How many?", "answer": "3+4=7\n#### 7"}


def write(path, *rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_a_file_is_read_in_order_with_ids_by_line_and_empty_lines_skipped(tmp_path):
    path = write(
        tmp_path / "p.jsonl", GOOD, "", {**GOOD, "id": "x", "family": "sums", "level": "2", "answer": "#### 1,234"}
    )
    assert load_jsonl(path) == (
        Problem("p-00001", "How many?", "3+4=7\n#### 7", "7"),
        Problem("x", "How many?", "#### 1,234", "1,234", "sums", "2"),
    )


def test_other_field_names_and_bare_numbers_are_read(tmp_path):
    path = write(tmp_path / "p.jsonl", {"q": "How many?", "a": " 42 ", "kind": "sums"})
    problem = load_jsonl(path, fields=Fields("q", "a", "kind"))[0]
    assert (problem.final, problem.family) == ("42", "sums")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r"p\.jsonl:2: expected one JSON object, got '\{'"),
        ("[1]", r"p\.jsonl:2: expected one JSON object, got list"),
        ("[" * 100_000, r"p\.jsonl:2: expected one JSON object"),
        ({"question": "a"}, r"p\.jsonl:2: field 'answer': expected a text, got no such field"),
        ({"question": 3, "answer": "#### 1"}, r"p\.jsonl:2: field 'question': expected a text, got 3"),
        ({"question": " ", "answer": "#### 1"}, r"field 'question': expected a text, got ' '"),
        ({"question": "a", "answer": "seven"}, r"field 'answer': expected to end in '#### n', got 'seven'"),
        ({"question": "a", "answer": "1 #### many"}, r"field 'answer': expected to end in '#### n'"),
        ("x" * (MAX_LINE_CHARACTERS + 1), r"p\.jsonl:2: expected one JSON object"),
    ],
)
def test_a_bad_line_is_named_with_what_was_expected_in_one_line(tmp_path, row, message):
    with pytest.raises(ProblemFileError, match=message) as caught:
        load_jsonl(write(tmp_path / "p.jsonl", GOOD, row))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("checker", "answer", "final", "bad", "message"),
    [
        ("number", "#### 7", "7", "#### x", r"expected to end in '#### n', got '#### x'; write .*#### 72"),
        ("math", r"\boxed{x}", "x", "x", r"expected to end in a '\\boxed\{...\}', got 'x'; write .*\\\\boxed\{72\}"),
        ("exact", "#### a b", "a b", "####", r"expected to end in '####' and a text of one line, got '####'; write"),
        (
            "choice",
            "(b)",
            "B",
            "#### K",
            r"expected to end in '####' and one letter A to J, got '#### K'; write .*#### B",
        ),
    ],
)
def test_what_an_answer_ends_in_is_the_checkers_rule(tmp_path, checker, answer, final, bad, message):
    path = write(tmp_path / "p.jsonl", {"question": "?", "answer": answer})
    assert load_jsonl(path, checker=CHECKERS[checker])[0].final == final
    with pytest.raises(ProblemFileError, match=rf"p\.jsonl:1: field 'answer': {message}") as caught:
        load_jsonl(write(path, {"question": "?", "answer": bad}), checker=CHECKERS[checker])
    assert "\n" not in str(caught.value)


def test_missing_empty_and_binary_files_are_refused(tmp_path):
    with pytest.raises(ProblemFileError, match="No such file"):
        load_jsonl(tmp_path / "none.jsonl")
    with pytest.raises(ProblemFileError, match="empty file"):
        load_jsonl(write(tmp_path / "p.jsonl", "", ""))
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProblemFileError, match="not UTF-8"):
        load_jsonl(tmp_path / "b.jsonl")


def test_one_id_twice_is_refused(tmp_path):
    with pytest.raises(ProblemFileError, match="got 'x' twice"):
        load_jsonl(write(tmp_path / "p.jsonl", {**GOOD, "id": "x"}, {**GOOD, "id": "x"}))


def test_overlap_of_dev_and_test_is_found_by_text():
    dev = (Problem("d", "How  many PENS?", "#### 1", "1"),)
    refuse_overlap(dev, (Problem("t", "How many cups?", "#### 1", "1"),))
    with pytest.raises(ProblemFileError, match="got 1 \\(first: 'd' is 't'\\)"):
        refuse_overlap(dev, (Problem("t", "how many pens?", "#### 1", "1"),))


def problems(*questions):
    return tuple(Problem(f"p-{at}", question, "#### 1", "1") for at, question in enumerate(questions))


def test_a_draw_depends_on_texts_and_seed_and_keeps_the_order():
    some = problems(*(f"q{at}" for at in range(50)))
    drawn, rest = draw(some, 20, seed=1)
    assert (len(drawn), len(rest)) == (20, 30)
    assert sorted(drawn + rest, key=some.index) == list(some)
    assert list(drawn) == sorted(drawn, key=some.index)
    assert {p.question for p in draw(some[::-1], 20, seed=1)[0]} == {p.question for p in drawn}
    assert draw(some, 20, seed=2) != (drawn, rest)
    assert [p.question for p in drawn[:3]] == ["q4", "q6", "q8"]
    assert draw(some, 0, seed=1) == ((), some)


def test_problems_of_one_text_are_drawn_together():
    some = problems(*(f"q{at // 2}" + "  " * (at % 2) for at in range(20)))
    drawn, _ = draw(some, 10, seed=3)
    assert sorted(p.question.strip() for p in drawn)[::2] == sorted(p.question.strip() for p in drawn)[1::2]


def test_problems_of_another_set_are_left_out_by_text():
    assert without(problems("How  many PENS?", "Why?"), problems("how many pens?")) == problems("x", "Why?")[1:]
