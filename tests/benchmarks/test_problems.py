import json

import pytest

from benchmarks.errors import ProblemFileError
from benchmarks.problems import MAX_LINE_CHARACTERS, Problem, load_jsonl, refuse_overlap

GOOD = {"question": "How many?", "answer": "3+4=7\n#### 7"}


def write(path, *rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_a_file_is_read_in_order_with_ids_by_line_and_empty_lines_skipped(tmp_path):
    path = write(tmp_path / "p.jsonl", GOOD, "", {**GOOD, "id": "x", "family": "sums", "answer": "#### 1,234"})
    assert load_jsonl(path) == (
        Problem("p-00001", "How many?", "3+4=7\n#### 7", "7"),
        Problem("x", "How many?", "#### 1,234", "1,234", "sums"),
    )


def test_other_field_names_and_bare_numbers_are_read(tmp_path):
    path = write(tmp_path / "p.jsonl", {"q": "How many?", "a": " 42 "})
    assert load_jsonl(path, question="q", answer="a")[0].final == "42"


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
