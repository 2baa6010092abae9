"""What training does to the resident generator: in every method, kept or taken back, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import torch

from benchmarks import BenchmarkError
from engine import locations, prompts
from engine.config import CampaignConfig
from engine.config_learning import LearnSection, Loss
from engine.errors import EngineError, HostError, Interrupted, RunError
from engine.generators import ResidentModel
from engine.hashing import weights_hash
from engine.learning import Lesson, Past, method_named
from engine.learning import student as module
from engine.learning.dpo import dpo_trainer
from engine.learning.kto import kto_trainer
from engine.learning.rest_em import sft_trainer
from engine.learning.student import Student
from tests.engine.conftest import candidate

PROMPT = prompts.pocket_one_shot()
GOOD = "# Sum.\nimport torch\n\ndef merge_models(model_dict, device, *, scale=0.4):\n    return scale * sum(model_dict.values())\n"
BAD = "# Zero.\nimport torch\n\ndef merge_models(model_dict, device):\n    return 0 * sum(model_dict.values())\n"
SHIPPED = str(locations.pocket_model("generator"))

LESSONS = {
    "dpo": Lesson([{"prompt": PROMPT, "chosen": GOOD, "rejected": BAD}] * 8, dpo_trainer, compares=True),
    "kto": Lesson(
        [{"prompt": PROMPT, "completion": c, "label": c == GOOD} for c in (GOOD, BAD)] * 4, kto_trainer, compares=True
    ),
    "rest-em": Lesson(
        [{"prompt": PROMPT, "completion": GOOD}] * 8, sft_trainer, [{"prompt": PROMPT, "completion": GOOD}]
    ),
}
SECTION = LearnSection(epochs=3.0, batch=4, learning_rate=3e-4, lora_rank=8)


@pytest.fixture(scope="module")
def resident() -> ResidentModel:
    return ResidentModel(SHIPPED)


@pytest.fixture(autouse=True)
def _as_shipped(resident: ResidentModel) -> None:
    resident.touched()
    resident.adopt(SHIPPED)


def student(resident: ResidentModel, folder: Path, name: str = "dpo", **changes: object) -> Student:
    previous = str(changes.pop("previous", SHIPPED))
    start = str(changes.pop("start", method_named(name).start))
    section = SECTION.model_copy(update=changes)
    one = Student(resident, section, previous=previous, start=start, folder=folder)
    one.begin()
    return one


def weights(resident: ResidentModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in resident.model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def margin(resident: ResidentModel) -> float:
    """Log-probability of the good program above the bad one's, nats."""
    tokenizer, model = resident.tokenizer, resident.model
    start = len(tokenizer(PROMPT, add_special_tokens=False).input_ids)

    def log_probability(program: str) -> float:
        ids = tokenizer(PROMPT + program, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.inference_mode():
            logits = model(ids).logits.log_softmax(-1)
        return float(logits[0, start - 1 : -1].gather(1, ids[0, start:, None]).sum())

    return log_probability(GOOD) - log_probability(BAD)


@pytest.mark.parametrize("rank", [8, 0], ids=["LoRA", "all weights"])
@pytest.mark.parametrize("name", LESSONS)
def test_every_method_moves_the_generator_towards_the_good_program(
    resident: ResidentModel, tmp_path: Path, name: str, rank: int
) -> None:
    before = margin(resident)
    one = student(resident, tmp_path, name, lora_rank=rank)
    figures = one.train(LESSONS[name], rate=3e-4 if rank else 1e-4, seed=3)
    digest = one.keep(tmp_path / "1")
    one.close()
    assert margin(resident) > before + (0.2 if name == "dpo" else 0.02)
    assert figures["steps"] == 6
    assert (len(figures["held_out_losses"]) > 0) == (name == "rest-em")
    assert digest == weights_hash((tmp_path / "1").glob("*.safetensors"))
    assert [p.name for p in tmp_path.iterdir()] == ["1"]  # nothing is left beside it
    assert resident.model.forward.__func__ is type(resident.model).forward  # as transformers made it


@pytest.mark.parametrize("name", LESSONS)
def test_bfloat16_products_are_those_of_the_training_alone(resident: ResidentModel, tmp_path: Path, name: str) -> None:
    before = margin(resident)
    one = student(resident, tmp_path, name, precision="bfloat16", keep_as="adapter")
    figures = one.train(LESSONS[name], rate=3e-4, seed=3)
    assert figures["precision"] == "bfloat16"
    assert margin(resident) > before + (0.2 if name == "dpo" else 0.02)
    assert {tensor.dtype for tensor in resident.model.parameters()} == {torch.float32}
    trained = next_word(resident)  # as the gate's probe would meet it, before it is kept
    one.keep(tmp_path / "1")
    again = ResidentModel(SHIPPED)
    again.adopt(str(tmp_path / "1"))
    assert torch.equal(trained, next_word(again))


def test_bfloat16_products_leave_no_trace_on_a_model_whose_training_was_broken_off(
    resident: ResidentModel, tmp_path: Path
) -> None:
    first = student(resident, tmp_path, precision="bfloat16", keep_as="adapter")
    first.train(LESSONS["dpo"], rate=3e-4, seed=3)
    first.keep(tmp_path / "1")
    before = next_word(resident)

    def stop() -> None:
        raise Interrupted("stopped")

    one = student(resident, tmp_path, precision="bfloat16", keep_as="adapter", previous=str(tmp_path / "1"))
    with pytest.raises(Interrupted, match="stopped"):
        one.train(LESSONS["dpo"], rate=3e-4, seed=3, check=stop)
    assert torch.equal(next_word(resident), before)


def next_word(resident: ResidentModel) -> torch.Tensor:
    """Log-probabilities of the token behind the prompt."""
    ids = resident.tokenizer(PROMPT, add_special_tokens=False, return_tensors="pt").input_ids
    with torch.inference_mode():
        logits: torch.Tensor = resident.model(ids).logits[0, -1].log_softmax(-1)
    return logits


@pytest.mark.parametrize(
    ("asked", "amx", "expected"),
    [
        ("auto", True, "bfloat16"),
        ("auto", False, "float32"),
        ("float32", True, "float32"),
        ("bfloat16", False, "bfloat16"),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_has_units_for_it(
    monkeypatch: pytest.MonkeyPatch, asked: str, amx: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx})
    assert module.precision_in_force(asked, "cpu") == expected


def test_rest_em_stops_when_the_held_out_loss_rises_and_keeps_the_best_weights(
    resident: ResidentModel, tmp_path: Path
) -> None:
    other_way = Lesson(
        [{"prompt": PROMPT, "completion": "scale " * 60}] * 8,
        sft_trainer,
        [{"prompt": PROMPT, "completion": GOOD}],
    )
    one = student(resident, tmp_path, "rest-em", epochs=9.0)
    figures = one.train(other_way, rate=3e-3, seed=3)
    losses = figures["held_out_losses"]
    best = losses.index(min(losses))
    assert losses[-1] > losses[best]
    assert len(losses) == best + 2 < 9  # one epoch without getting better is enough
    assert figures["steps"] == 2 * len(losses)
    one.keep(tmp_path / "1")
    assert held_out_loss(resident) == pytest.approx(losses[best], abs=1e-4)


def held_out_loss(resident: ResidentModel) -> float:
    """Of the good program and its end, nats a token."""
    tokenizer = resident.tokenizer
    start = len(tokenizer(PROMPT).input_ids)
    ids = tokenizer(PROMPT + GOOD + tokenizer.eos_token, return_tensors="pt").input_ids
    with torch.inference_mode():
        logits = resident.model(ids).logits.log_softmax(-1)
    return -float(logits[0, start - 1 : -1].gather(1, ids[0, start:, None]).mean())


def test_a_kept_version_is_a_plain_model_that_reads_back_bit_for_bit(resident: ResidentModel, tmp_path: Path) -> None:
    one = student(resident, tmp_path)
    one.train(LESSONS["dpo"], rate=3e-4, seed=3)
    one.keep(tmp_path / "1")
    held = weights(resident)
    assert same(weights(ResidentModel(str(tmp_path / "1"))), held)
    resident.adopt(SHIPPED)
    assert not same(weights(resident), held)
    resident.adopt(str(tmp_path / "1"))
    assert same(weights(resident), held)


def test_a_kept_version_is_on_the_disk_before_it_has_its_name_and_its_name_before_anybody_is_told(
    resident: ResidentModel, tmp_path: Path, disk: list[tuple[str, Path]]
) -> None:
    student(resident, tmp_path).keep(tmp_path / "1")
    named = disk.index(("name", tmp_path / "1"))
    synced = {path.name for _, path in disk[:named]}
    assert synced >= {file.name for file in (tmp_path / "1").iterdir()} >= {"model.safetensors", "config.json"}
    assert ("sync", tmp_path) in disk[named:]


def test_the_same_seed_trains_the_same_weights(resident: ResidentModel, tmp_path: Path) -> None:
    digests = []
    for place in ("1", "2"):
        one = student(resident, tmp_path)
        one.train(LESSONS["dpo"], rate=3e-4, seed=3)
        digests.append(one.keep(tmp_path / place))
        resident.adopt(SHIPPED)
    assert digests[0] == digests[1]


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 0}, {"keep_as": "adapter"}], ids=str)
def test_what_is_taken_back_was_never_there(resident: ResidentModel, tmp_path: Path, changes: dict) -> None:
    before = weights(resident)
    one = student(resident, tmp_path, **changes)
    one.train(LESSONS["dpo"], rate=3e-4, seed=3)
    one.forget()
    one.close()
    assert same(weights(resident), before)
    assert not list(tmp_path.iterdir())


def test_a_second_attempt_starts_where_the_first_did(resident: ResidentModel, tmp_path: Path) -> None:
    one = student(resident, tmp_path)
    one.train(LESSONS["dpo"], rate=3e-4, seed=3)
    one.forget()
    one.begin()
    one.train(LESSONS["dpo"], rate=1e-4, seed=3)
    second = one.keep(tmp_path / "1")
    resident.adopt(SHIPPED)
    other = student(resident, tmp_path)
    other.train(LESSONS["dpo"], rate=1e-4, seed=3)
    assert other.keep(tmp_path / "2") == second


def test_an_adapter_is_trained_on_and_swapped(resident: ResidentModel, tmp_path: Path) -> None:
    base = {name: p.clone() for name, p in resident.model.named_parameters()}
    margins = [margin(resident)]
    previous = SHIPPED
    for place in ("1", "2"):
        one = student(resident, tmp_path, keep_as="adapter", previous=previous)
        one.train(LESSONS["dpo"], rate=3e-4, seed=3)
        with one.before() as switch, switch():
            assert margin(resident) == pytest.approx(margins[-1], abs=1e-3)
        one.keep(tmp_path / place)
        previous = str(tmp_path / place)
        margins.append(margin(resident))
        names = sorted(file.name for file in (tmp_path / place).glob("*.safetensors"))
        assert names == ["adapter_model.safetensors"]
    assert margins == sorted(margins)
    assert margins[2] > margins[1] + 0.1
    for place, wanted in (("1", margins[1]), ("2", margins[2]), ("1", margins[1])):
        resident.adopt(str(tmp_path / place))
        assert margin(resident) == pytest.approx(wanted, abs=1e-3)
    resident.adopt(SHIPPED)
    assert all(torch.equal(base[name], p) for name, p in resident.model.named_parameters())


@pytest.mark.parametrize(
    ("name", "changes"),
    [("dpo", {}), ("dpo", {"start": "base"}), ("rest-em", {}), ("rest-em", {"start": "previous", "lora_rank": 0})],
    ids=str,
)
def test_the_version_before_can_be_asked_while_the_new_one_is_there(
    resident: ResidentModel, tmp_path: Path, name: str, changes: dict
) -> None:
    first = student(resident, tmp_path)
    first.train(LESSONS["dpo"], rate=1e-3, seed=3)
    first.keep(tmp_path / "1")
    before = margin(resident)
    one = student(resident, tmp_path, name, previous=tmp_path / "1", **changes)
    one.train(LESSONS[name], rate=3e-4, seed=4)
    after = margin(resident)
    with one.before() as switch, switch() as model:
        keeper, resident.model = resident.model, model
        assert margin(resident) == pytest.approx(before, abs=1e-3)
        resident.model = keeper
    assert margin(resident) == pytest.approx(after, abs=1e-3)
    assert after != pytest.approx(before, abs=1e-3)


@pytest.mark.parametrize("changes", [{}, {"keep_as": "adapter"}], ids=str)
def test_a_second_lesson_goes_on_from_the_first(resident: ResidentModel, tmp_path: Path, changes: dict) -> None:
    margins = [margin(resident)]
    one = student(resident, tmp_path, **changes)
    for name in ("rest-em", "dpo"):
        one.train(LESSONS[name], rate=3e-4, seed=3)
        margins.append(margin(resident))
    assert margins == sorted(set(margins))
    with one.before() as switch, switch() as model:
        keeper, resident.model = resident.model, model
        assert margin(resident) == pytest.approx(margins[0], abs=1e-3)
        resident.model = keeper
    one.keep(tmp_path / "1")
    resident.adopt(SHIPPED)
    assert margin(resident) == pytest.approx(margins[0], abs=1e-3)
    resident.adopt(str(tmp_path / "1"))
    assert margin(resident) == pytest.approx(margins[2], abs=1e-3)


def test_rest_em_starts_from_the_base_every_time_and_dpo_goes_on(resident: ResidentModel, tmp_path: Path) -> None:
    digests = {}
    for name in ("rest-em", "dpo"):
        resident.adopt(SHIPPED)
        one = student(resident, tmp_path, name)
        one.train(LESSONS[name], rate=3e-4, seed=3)
        digests[name] = [one.keep(tmp_path / f"{name}-1")]
        one = student(resident, tmp_path, name, previous=tmp_path / f"{name}-1")
        one.train(LESSONS[name], rate=3e-4, seed=3)
        digests[name].append(one.keep(tmp_path / f"{name}-2"))
    assert digests["rest-em"][0] == digests["rest-em"][1]
    assert digests["dpo"][0] != digests["dpo"][1]


@pytest.mark.parametrize("loss", get_args(Loss))
def test_dpo_takes_trls_other_losses(resident: ResidentModel, tmp_path: Path, loss: str) -> None:
    one = student(
        resident, tmp_path, loss=loss, epochs=1.0, label_smoothing=0.1 if loss in ("robust", "exo_pair") else 0.0
    )
    figures = one.train(LESSONS["dpo"], rate=1e-4, seed=3)
    assert figures["loss_last"] is not None
    one.forget()


def test_the_chosen_programs_own_loss_counts_as_much_as_is_said(resident: ResidentModel, tmp_path: Path) -> None:
    first = {}
    for weight in (0.0, 1.0, 3.0):
        one = student(resident, tmp_path, sft=weight, epochs=1.0)
        first[weight] = one.train(LESSONS["dpo"], rate=1e-4, seed=3)["loss_first"]
        one.forget()
    own = first[1.0] - first[0.0]
    assert own > 0.05
    assert first[3.0] - first[0.0] == pytest.approx(3 * own, rel=1e-3)


def test_a_loss_that_is_no_number_ends_the_training_and_is_no_figure(resident: ResidentModel, tmp_path: Path) -> None:
    one = student(resident, tmp_path, lora_rank=0)
    figures = one.train(LESSONS["dpo"], rate=1e30, seed=3)
    assert figures["loss_last"] is None
    assert figures["steps"] < 6
    one.forget()
    json.dumps(figures, allow_nan=False)


def test_want_of_memory_halves_the_batch_down_to_one(
    resident: ResidentModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import DPOTrainer

    train, tried = DPOTrainer.train, []

    def scarce(self: DPOTrainer, *arguments: object, **more: object) -> object:
        tried.append((self.args.per_device_train_batch_size, self.args.gradient_accumulation_steps))
        if self.args.per_device_train_batch_size > enough:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train(self, *arguments, **more)

    monkeypatch.setattr(DPOTrainer, "train", scarce)
    enough = 2
    one = student(resident, tmp_path)
    figures = one.train(LESSONS["dpo"], rate=3e-4, seed=3)
    assert tried == [(4, 1), (2, 2)]
    assert (figures["batch"], figures["steps"]) == (2, 6)
    one.forget()
    enough = 0
    with pytest.raises(BenchmarkError, match=r"expected enough memory for a batch of 1, .*learn\.lora_rank"):
        student(resident, tmp_path).train(LESSONS["dpo"], rate=3e-4, seed=3)


def test_want_of_memory_while_the_reference_is_asked_leaves_no_adapter_half_put_on(
    resident: ResidentModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import DPOTrainer

    ask, asked = DPOTrainer._precompute_ref_logps, []

    def scarce(self: DPOTrainer, dataset: object, name: str, batch: int) -> object:
        asked.append(batch)
        if batch > 2:
            raise MemoryError
        return ask(self, dataset, name, batch)

    monkeypatch.setattr(DPOTrainer, "_precompute_ref_logps", scarce)
    before = weights(resident)
    for rank in (8, 0):
        one = student(resident, tmp_path, lora_rank=rank)
        figures = one.train(LESSONS["dpo"], rate=3e-4 if rank else 1e-4, seed=3)
        assert (figures["batch"], figures["steps"]) == (2, 6)
        one.forget()
        assert same(weights(resident), before)
        assert not resident.has_adapter
    assert asked == [4, 2, 4, 2]


@pytest.mark.parametrize(("name", "trainer"), [("dpo", "DPOTrainer"), ("kto", "KTOTrainer")])
def test_of_all_weights_no_second_model_is_read(
    resident: ResidentModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trainer: str
) -> None:
    import trl

    train, references = getattr(trl, trainer).train, []

    def seen(self: object, *arguments: object, **more: object) -> object:
        references.append(self.ref_model)  # type: ignore[attr-defined]
        return train(self, *arguments, **more)

    monkeypatch.setattr(getattr(trl, trainer), "train", seen)
    one = student(resident, tmp_path, name, lora_rank=0)
    one.train(LESSONS[name], rate=1e-4, seed=3)
    one.forget()
    assert references == [None]


@pytest.mark.parametrize(
    "changes", [{}, {"keep_as": "adapter"}, {"lora_rank": 0}], ids=["merged", "adapter", "all weights"]
)
@pytest.mark.parametrize(("name", "trainer"), [("dpo", "DPOTrainer"), ("kto", "KTOTrainer")])
def test_the_reference_is_the_version_before_or_the_untrained_model(
    resident: ResidentModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trainer: str, changes: dict
) -> None:
    import trl

    train, held = getattr(trl, trainer).train, []
    monkeypatch.setattr(
        getattr(trl, trainer), "train", lambda self, *a, **k: held.append(self.ref_model) or train(self, *a, **k)
    )
    first = student(resident, tmp_path, name, **changes)
    untouched = first.train(LESSONS[name], rate=1e-3, seed=3)["loss_first"]
    first.keep(tmp_path / "1")
    losses = {}
    for reference in ("start", "base"):
        one = student(resident, tmp_path, name, previous=tmp_path / "1", reference=reference, **changes)
        losses[reference] = one.train(LESSONS[name], rate=1e-3, seed=3)["loss_first"]
        one.forget()
    assert losses["start"] == pytest.approx(untouched, abs=1e-3)  # nothing has moved yet
    assert losses["base"] < untouched - 0.05  # what the first update taught counts
    assert held == [None] * 3  # nobody holds a second model while it learns


def test_kto_keeps_two_in_a_batch_whatever_the_memory(
    resident: ResidentModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import KTOTrainer

    tried = []

    def none(self: KTOTrainer, *_: object, **__: object) -> None:
        tried.append(self.args.per_device_train_batch_size)
        raise MemoryError

    monkeypatch.setattr(KTOTrainer, "train", none)
    past = Past({1: [candidate(1, 0.5), candidate(2, None)]}, PROMPT)
    lesson = next(method_named("kto").lessons(past, CampaignConfig(), None))  # type: ignore[arg-type]
    with pytest.raises(BenchmarkError, match="a batch of 2, got none"):
        student(resident, tmp_path, "kto").train(lesson, rate=3e-4, seed=3)
    assert tried == [4, 2]


class Begins:
    """A tokenizer that begins every text, as Llama's do."""

    bos_token, bos_token_id = "<s>", 1

    def __call__(self, text: str) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[1] + [1] * text.count("<s>") + [7])


class BeginsNothing(Begins):
    def __call__(self, text: str) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[1] * text.count("<s>") + [7])


@pytest.mark.parametrize(("tokenizer", "prompt"), [(Begins(), "[INST] x"), (BeginsNothing(), "<s>[INST] x")])
def test_a_prompt_begins_once_in_training(tokenizer: object, prompt: str) -> None:
    lesson = Lesson([{"prompt": "<s>[INST] x", "completion": "y<s>"}], sft_trainer, [{"prompt": "<s>[INST] x"}])
    begun = module._begun_once(lesson, tokenizer)
    assert [row["prompt"] for row in (*begun.rows, *begun.held_out)] == [prompt] * 2
    assert begun.rows[0]["completion"] == "y<s>"


def test_whoever_stops_the_training_leaves_nothing(resident: ResidentModel, tmp_path: Path) -> None:
    def stop() -> None:
        raise Interrupted("asked to")

    before = weights(resident)
    one = student(resident, tmp_path)
    with pytest.raises(Interrupted, match="asked to"):
        one.train(LESSONS["dpo"], rate=3e-4, seed=3, check=stop)
    one.forget()
    one.close()
    assert same(weights(resident), before)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_the_hosts_fault(
    resident: ResidentModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    one = student(resident, tmp_path)
    one.train(LESSONS["dpo"], rate=3e-4, seed=3)
    monkeypatch.setattr(module, "_save_tokenizer", full)
    with pytest.raises(HostError, match=r"could not be written.*No space left"):
        one.keep(tmp_path / "1")
    assert not (tmp_path / "1").exists()


def test_a_version_that_is_gone_or_foreign_is_one_line(resident: ResidentModel, tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    for folder in (tmp_path / "1", locations.pocket_model("seed")):
        with pytest.raises(RunError, match=r"expected a version of .*restore the folder") as caught:
            resident.adopt(str(folder))
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, EngineError)
