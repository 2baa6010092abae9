import hashlib
import json
import os
import re
import socket
from pathlib import Path

import pytest

from benchmarks import Chat, ProblemFileError, UnknownBenchmarkError, gsm8k
from benchmarks.answers import final_of, is_right
from benchmarks.problems import refuse_overlap


def rows(count, word="q"):
    return "\n".join(json.dumps({"question": f"{word}{i}?", "answer": f"<<1+1=2>>so\n#### {i}"}) for i in range(count))


@pytest.fixture
def official(tmp_path):
    (tmp_path / "train.jsonl").write_text(rows(gsm8k.DEV_START + 5))
    (tmp_path / "test.jsonl").write_text(rows(3, "t"))
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


def test_a_dev_problem_that_is_also_a_test_problem_is_left_out(official):
    twin = json.loads(rows(gsm8k.DEV_START + 2).splitlines()[-1]) | {"answer": "#### 1"}
    twin["question"] = "  " + twin["question"].upper()
    (official / "test.jsonl").write_text(rows(3, "t") + "\n" + json.dumps(twin))
    dev, test = gsm8k.load(official, "dev"), gsm8k.load(official, "test")
    assert [p.question for p in dev] == [f"q{gsm8k.DEV_START + i}?" for i in (0, 2, 3, 4)]
    refuse_overlap(dev, test)
    (official / "test.jsonl").unlink()
    assert len(gsm8k.load(official, "dev")) == 5  # nothing to overlap with


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


def test_paper_splits_are_cut_from_the_official_test_set_alone(official):
    with pytest.raises(ProblemFileError, match=r"expected the 1319 problems of the official test set, .* got 3; give"):
        gsm8k.load(official, "dev", "paper")
    with pytest.raises(UnknownBenchmarkError, match="expected split dev or test, got 'train'"):
        gsm8k.load(official, "train", "paper")
    (official / "test.jsonl").write_text(rows(1319, "t"))
    dev, test = gsm8k.load(official, "dev", "paper"), gsm8k.load(official, "test", "paper")
    assert (len(dev), len(test)) == (100, 1219)
    assert {p.question for p in dev + test} == {f"t{i}?" for i in range(1319)}
    assert (dev[0].id, dev[1].id) == ("test-00023", "test-00042")  # the same on every machine, for good
    assert [p.id for p in dev] == sorted(p.id for p in dev)
    assert gsm8k.load(official / "test.jsonl", "dev", "paper") == dev


@pytest.mark.skipif("MERGEWRIGHT_DATA_DIR" not in os.environ, reason="MERGEWRIGHT_DATA_DIR names no folder with gsm8k/")
def test_the_official_files_are_split_without_overlap():
    data = Path(os.environ["MERGEWRIGHT_DATA_DIR"]) / "gsm8k"
    sizes = {"clean": (473, 1319), "paper": (100, 1219)}
    for splits, expected in sizes.items():
        dev, test = gsm8k.load(data, "dev", splits), gsm8k.load(data, "test", splits)
        assert (len(dev), len(test)) == expected
        refuse_overlap(dev, test)
    drawn = " ".join(p.id for p in gsm8k.load(data, "dev", "paper"))
    assert drawn.startswith("test-00032 test-00034 test-00038 ")
    assert hashlib.sha256(drawn.encode()).hexdigest().startswith("aefe77aa1c4fed39")  # for good
    assert all(is_right(p.answer, p.final)[0] for p in gsm8k.load(data, "test"))


def test_a_hub_out_of_reach_is_said_in_one_line(monkeypatch):
    import datasets

    def refuse(*_, **__):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(ProblemFileError, match=r"'openai/gsm8k': expected a data set on the hub, got: no route; check"):
        gsm8k.load(None, "test")


def test_hub_rows_become_problems(monkeypatch):
    import datasets

    asked = []

    def load_dataset(*names, split):
        asked.append((*names, split))
        return [{"question": f"{split}?", "answer": "a\n#### 4"}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    problem = gsm8k.load("someone/gsm8k", "test")[0]
    assert (problem.final, problem.id) == ("4", "test-00001")
    assert gsm8k.load(None, "test") == (problem,)
    assert asked == [("someone/gsm8k", "main", "test"), ("openai/gsm8k", "main", "test")]


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Hosts that were asked for over the network, which has none; data sets are kept in the test's folder."""
    import datasets

    asked = []

    def refuse(_, address):
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", lambda host, *_, **__: refuse(None, host))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "kept"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return asked


def test_without_asking_the_hub_its_copy_on_this_machine_is_read(asked):
    import datasets

    class Loaded(datasets.GeneratorBasedBuilder):
        """As `load_dataset` leaves it behind."""

        BUILDER_CONFIGS = (datasets.BuilderConfig(name="main"),)

        def _info(self):
            text = datasets.Value("string")
            return datasets.DatasetInfo(features=datasets.Features({"question": text, "answer": text}))

        def _split_generators(self, _):
            return [datasets.SplitGenerator(name=part, gen_kwargs={"part": part}) for part in ("train", "test")]

        def _generate_examples(self, part):
            for at in range(3):
                yield at, {"question": f"{part} {at}?", "answer": "a\n#### 4"}

    with pytest.raises(ProblemFileError, match=r"'openai/gsm8k': expected a copy of it on this machine, got: Couldn't"):
        gsm8k.OFFICIAL.load(None, "test", ask_hub=False)
    Loaded(repo_id="openai/gsm8k", dataset_name="gsm8k", config_name="main", hash="0").download_and_prepare()
    problems = gsm8k.OFFICIAL.load(None, "test", ask_hub=False)
    assert [(p.question, p.final, p.id) for p in problems] == [
        (f"test {n}?", "4", f"test-0000{n + 1}") for n in range(3)
    ]
    assert asked == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("localhost", 9))
    assert asked == ["localhost"], "the network is watched"


def test_calculator_marks_are_taken_out():
    assert gsm8k.plain_solution("48/2 = <<48/2=24>>24 clips\n#### 24") == "48/2 = 24 clips\n#### 24"
