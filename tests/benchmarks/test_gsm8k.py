import json
import re

import pytest

from benchmarks import Chat, ProblemFileError, UnknownBenchmarkError, gsm8k
from benchmarks.answers import is_right
from benchmarks.problems import final_of


def rows(count):
    return "\n".join(json.dumps({"question": f"q{i}?", "answer": f"<<1+1=2>>so\n#### {i}"}) for i in range(count))


@pytest.fixture
def official(tmp_path):
    (tmp_path / "train.jsonl").write_text(rows(gsm8k.DEV_START + 5))
    (tmp_path / "test.jsonl").write_text(rows(3))
    return tmp_path


def test_every_worked_example_computes_what_it_says():
    for _, answer in gsm8k.EXAMPLES:
        final = final_of(answer)
        assert is_right(answer, final) == (True, True)
        for left, right in re.findall(r"([\d+\-*/ ]+[\d]) = (\d+)", answer):
            assert eval(left) == int(right)
    assert gsm8k.SHOTS == 5


def test_prompt_text_is_fixed_by_its_version():
    text = gsm8k.prompt("How many?", shots=5)
    assert gsm8k.PROMPT_VERSION == "gsm8k-own5-1"
    assert text.startswith("Question: A baker makes 6 trays")
    assert text.endswith("#### 300\n\nQuestion: How many?\nAnswer:")
    assert (text.count("Question:"), text.count("####")) == (6, 5)
    assert gsm8k.prompt("How many?", shots=0) == "Question: How many?\nAnswer:"


def test_chat_prompt_gives_the_instruction_once_and_ends_with_the_question():
    chat = gsm8k.prompt("How many?", shots=2, chat=True)
    assert isinstance(chat, Chat)
    assert [role for role, _ in chat.turns] == ["user", "assistant", "user", "assistant", "user"]
    assert chat.turns[0][1].startswith(gsm8k.INSTRUCTION)
    assert chat.turns[-1] == ("user", "How many?")
    assert gsm8k.prompt("How many?", shots=0, chat=True).turns == (("user", f"{gsm8k.INSTRUCTION}\n\nHow many?"),)


def test_an_answer_to_the_prompt_stops_at_its_final_line_and_at_a_new_question():
    assert gsm8k.STOP.cut(" 3\n#### 3\n\nQuestion: next") == " 3\n#### 3"
    assert gsm8k.STOP.cut(" I do not know.\nQuestion: next") == " I do not know.\n"


def test_splits_of_the_official_files_do_not_overlap(official):
    train, dev, test = (gsm8k.load(official, split) for split in ("train", "dev", "test"))
    assert (len(train), len(dev), len(test)) == (gsm8k.DEV_START, 5, 3)
    assert not {p.id for p in train} & {p.id for p in dev}
    assert dev[0].question == f"q{gsm8k.DEV_START}?"


def test_one_file_is_taken_whole(official):
    assert len(gsm8k.load(official / "test.jsonl", "dev")) == 3


def test_what_cannot_be_read_is_said_in_one_line(official, tmp_path):
    with pytest.raises(UnknownBenchmarkError, match="expected split train, dev or test, got 'val'"):
        gsm8k.load(official, "val")
    with pytest.raises(ProblemFileError, match="got nothing of that name"):
        gsm8k.load(tmp_path / "a" / "b" / "none.jsonl", "dev")
    (tmp_path / "train.jsonl").write_text(rows(10))
    with pytest.raises(ProblemFileError, match=f"expected more than {gsm8k.DEV_START} train problems.* got 10"):
        gsm8k.load(tmp_path, "dev")


def test_a_hub_out_of_reach_is_said_in_one_line(monkeypatch):
    import datasets

    def refuse(*_, **__):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(ProblemFileError, match=r"'openai/gsm8k': expected a data set on the hub, got: no route; check"):
        gsm8k.load(None, "test")


def test_hub_rows_become_problems(monkeypatch):
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: [{"question": "q?", "answer": "a\n#### 4"}])
    assert gsm8k.load("someone/gsm8k", "test")[0].final == "4"


def test_calculator_marks_are_taken_out():
    assert gsm8k.plain_solution("48/2 = <<48/2=24>>24 clips\n#### 24") == "48/2 = 24 clips\n#### 24"
