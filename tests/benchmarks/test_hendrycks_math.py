import hashlib
import json
import os
from pathlib import Path

import pytest

from benchmarks import Chat, ProblemFileError, UnknownBenchmarkError, hendrycks_math
from benchmarks.problems import Problem, refuse_overlap


def rows(count, word="q"):
    return "\n".join(
        json.dumps(
            {
                "problem": f"{word}{i}?",
                "solution": rf"so $\boxed{{{i}}}$",
                "type": "Algebra",
                "level": f"Level {i % 5 + 1}",
            }
        )
        for i in range(count)
    )


@pytest.fixture
def official(tmp_path):
    (tmp_path / "train.jsonl").write_text(rows(hendrycks_math.DEV_SIZE + 7))
    (tmp_path / "test.jsonl").write_text(rows(3, "t"))
    return tmp_path


def test_prompt_text_is_fixed_by_its_version():
    text = hendrycks_math.prompt("What is $1+1$?", shots=5)
    assert hendrycks_math.PROMPT_VERSION == "math-own5-1"
    assert text.startswith("Problem:\nA bag holds $4$ red and $6$ blue marbles.")
    assert text.endswith("\\boxed{(3,6)}$.\n\nProblem:\nWhat is $1+1$?\n\nSolution:")
    assert (text.count("Problem:"), text.count("Solution:"), text.count(r"\boxed{")) == (6, 6, 5)
    assert hendrycks_math.prompt("q", shots=0) == "Problem:\nq\n\nSolution:"


def test_chat_prompt_gives_the_instruction_once_and_ends_with_the_question():
    chat = hendrycks_math.prompt("q", shots=2, chat=True)
    assert isinstance(chat, Chat)
    assert [role for role, _ in chat.turns] == ["user", "assistant", "user", "assistant", "user"]
    assert chat.turns[0][1].startswith(hendrycks_math.INSTRUCTION)
    assert r"\boxed{}" in hendrycks_math.INSTRUCTION
    assert chat.turns[-1] == ("user", "q")


def test_an_answer_stops_at_a_new_problem():
    assert hendrycks_math.STOP.cut(" so $\\boxed{2}$.\n\nProblem:\nnext") == " so $\\boxed{2}$.\n\n"
    assert hendrycks_math.MAX_NEW_TOKENS == 512


def test_problems_keep_solution_final_type_and_level(official):
    assert hendrycks_math.load(official, "test")[1] == Problem(
        "test-00002", "t1?", r"so $\boxed{1}$", "1", "Algebra", "Level 2"
    )


def test_clean_dev_is_drawn_from_the_train_problems_and_the_rest_is_left_to_train_on(official):
    train, dev, test = (hendrycks_math.load(official, split) for split in ("train", "dev", "test"))
    assert (len(train), len(dev), len(test)) == (7, hendrycks_math.DEV_SIZE, 3)
    assert len({p.id for p in train + dev}) == hendrycks_math.DEV_SIZE + 7
    (official / "test.jsonl").write_text(rows(2) + "\n" + rows(1, "t"))  # two train problems more in the test file
    left = hendrycks_math.load(official, "dev")
    assert {p.question for p in dev} - {p.question for p in left} == {"q0?", "q1?"} & {p.question for p in dev}
    refuse_overlap(left, hendrycks_math.load(official, "test"))


def test_without_a_train_file_the_clean_dev_split_says_what_to_do(official):
    (official / "train.jsonl").unlink()
    assert len(hendrycks_math.load(official, "test")) == 3
    with pytest.raises(
        ProblemFileError, match=r"expected a train\.jsonl, .* got none; add it, or use splits paper"
    ) as caught:
        hendrycks_math.load(official, "dev")
    assert "\n" not in str(caught.value)


def test_too_few_problems_are_said_with_both_numbers(official):
    (official / "train.jsonl").write_text(rows(10))
    with pytest.raises(ProblemFileError, match=r"expected more than 600 train problems, .* got 10"):
        hendrycks_math.load(official, "dev")
    with pytest.raises(ProblemFileError, match=r"expected the 5000 problems of the official test set, .* got 3; give"):
        hendrycks_math.load(official, "dev", "paper")


def test_what_is_no_problem_or_no_split_is_said_in_one_line(official, tmp_path):
    with pytest.raises(UnknownBenchmarkError, match="benchmark 'math': expected split train, dev or test, got 'val'"):
        hendrycks_math.load(official, "val")
    (official / "test.jsonl").write_text(json.dumps({"problem": "q", "solution": "so $2$"}))
    with pytest.raises(
        ProblemFileError,
        match=r"test\.jsonl:1: field 'solution': expected to end in a '\\boxed\{...\}', got 'so \$2\$'",
    ):
        hendrycks_math.load(official, "test")
    with pytest.raises(ProblemFileError, match=r"math data .* got nothing of that name"):
        hendrycks_math.load(tmp_path / "a" / "b" / "none.jsonl", "dev")


def test_one_file_is_taken_whole(official):
    assert len(hendrycks_math.load(official / "test.jsonl", "dev")) == 3


def test_the_hubs_seven_parts_follow_each_other(monkeypatch):
    import datasets

    asked = []

    def load_dataset(hub_id, config, split):
        asked.append((hub_id, split))
        return [{"problem": f"{config}?", "solution": r"\boxed{1}", "type": config.title(), "level": "Level 1"}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    problems = hendrycks_math.load(None, "test")
    assert asked == [("EleutherAI/hendrycks_math", "test")] * 7
    assert [(p.id, p.question, p.family) for p in problems][::6] == [
        ("test-00001", "algebra?", "Algebra"),
        ("test-00007", "precalculus?", "Precalculus"),
    ]


def test_a_hub_out_of_reach_is_said_in_one_line(monkeypatch):
    import datasets

    def refuse(*_, **__):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(
        ProblemFileError, match=r"'EleutherAI/hendrycks_math': expected a data set on the hub, got: no route; check"
    ):
        hendrycks_math.load(None, "test")


@pytest.mark.skipif("MERGEWRIGHT_DATA_DIR" not in os.environ, reason="MERGEWRIGHT_DATA_DIR names no folder with math/")
def test_the_official_test_file_is_cut_without_overlap():
    data = Path(os.environ["MERGEWRIGHT_DATA_DIR"]) / "math"
    dev, test = hendrycks_math.load(data, "dev", "paper"), hendrycks_math.load(data, "test", "paper")
    assert (len(dev), len(test)) == (600, 4400)
    refuse_overlap(dev, test)
    whole = hendrycks_math.load(data, "test")
    assert sorted(dev + test, key=lambda p: p.id) == list(whole)
    assert len({" ".join(p.question.split()).casefold() for p in whole}) == 5000
    assert {p.family for p in dev} == {p.family for p in test}
    drawn = " ".join(p.id for p in dev)
    assert drawn.startswith("test-00002 test-00005 test-00017 ")
    assert hashlib.sha256(drawn.encode()).hexdigest().startswith("b930850e689c01b6")  # for good
    examples = {question for question, _ in hendrycks_math.EXAMPLES}
    assert not examples & {p.question for p in whole}
