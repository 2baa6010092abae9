"""What the gate measures and refuses, and what an update does then."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft.tuners.lora import LoraModel

from benchmarks import BenchmarkError
from engine import locations
from engine.config import CampaignConfig
from engine.config_file import build_config
from engine.config_learning import GateSection
from engine.generators import Draft, LanguageModelGenerator
from engine.learning import Update
from engine.learning import update as module
from engine.learning.gate import Probe, broken, divergence, probe, refusals
from engine.records import Candidate
from engine.stages import Stages
from engine.store import Store
from merges.contract import program_id
from merges.probes import probe_jobs
from sandbox import Sandbox
from tests.engine.conftest import WEIGHTED_SUM, candidate

SHIPPED = locations.model("pocket/generator")
BEFORE = Probe(programs=64, valid=0.6, distinct=1.0, repeats=0.0, characters=600.0)


def drafts(*sources: str) -> list[Draft]:
    return [Draft("prompt", source, source) for source in sources]


def test_a_probe_counts_what_works_what_differs_and_what_repeats() -> None:
    other = WEIGHTED_SUM.replace("0.3", "0.5")
    same = WEIGHTED_SUM.replace("scale * sum(model_dict.values())", "sum(model_dict.values()) * scale")
    broken = WEIGHTED_SUM.replace("sum", "summ")
    with Sandbox() as sandbox:
        jobs = probe_jobs()
        found = probe(
            drafts(WEIGHTED_SUM, other, same, other, broken),
            lambda source: sandbox.execute(source, jobs),
            {program_id(broken)},
            kl=0.1,
        )
    assert (found.programs, found.valid, found.distinct, found.repeats) == (5, 0.8, 0.5, 0.6)
    assert found.kl == 0.1
    assert found.characters == pytest.approx(len(WEIGHTED_SUM), abs=1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"valid": 0.46}, None),
        ({"valid": 0.44}, "valid 44 % after 60 %, below 45 %"),
        ({"distinct": 0.49}, "distinct behaviour 49 % of the valid, below 50 %"),
        ({"repeats": 0.26}, "exact repeats 26 %, above 25 %"),
        ({"kl": 0.51}, "KL 0.510 nats a token, above 0.5"),
    ],
)
def test_each_bound_refuses_by_itself(change: dict, reason: str | None) -> None:
    after = Probe(**{**vars(BEFORE), "kl": 0.1, **change})
    assert refusals(GateSection(kl=0.5), BEFORE, after) == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [(0.10, 0.0, True), (0.10, 0.02, True), (0.10, 0.03, False), (0.18, 0.04, True), (0.0, 0.0, False)],
)
def test_a_generator_that_seldom_works_must_not_stop_working(before: float, after: float, refused: bool) -> None:
    first, second = (Probe(**{**vars(BEFORE), "valid": valid}) for valid in (before, after))
    assert bool(refusals(GateSection(), first, second)) == refused


class Fixed(torch.nn.Module):
    """A language model of two tokens that gives the second one the same probability everywhere."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = torch.nn.Parameter(torch.tensor(share))

    def forward(self, input_ids: torch.Tensor, logits_to_keep: int) -> SimpleNamespace:
        row = torch.stack([1 - self.share, self.share]).log()
        return SimpleNamespace(logits=row.expand(1, logits_to_keep, 2))


def test_divergence_is_nats_a_token_from_the_new_to_the_old() -> None:
    texts = [([0, 1], [1, 0, 1]), ([0], [1]), ([0], [])]
    new, old = Fixed(0.5), Fixed(0.25)
    found = divergence(lambda: nullcontext(new), lambda: nullcontext(old), texts)
    assert found == pytest.approx(0.5 * torch.log(torch.tensor(4 / 3)).item())  # ½ ln(½/¾) + ½ ln(½/¼)
    assert divergence(lambda: nullcontext(new), lambda: nullcontext(new), texts) == 0.0
    broken = Fixed(float("nan"))
    assert math.isnan(divergence(lambda: nullcontext(broken), lambda: nullcontext(old), texts))


class Reading(torch.nn.Module):
    """A language model of two tokens that repeats the last one as likely as it is told, and has a weight that counts for nothing here."""

    def __init__(self, share: float, weight: float = 3e38) -> None:
        super().__init__()
        self.share, self.weight = (
            torch.nn.Parameter(torch.tensor(share)),
            torch.nn.Parameter(torch.tensor([1.0, weight])),
        )

    def forward(self, input_ids: torch.Tensor, logits_to_keep: int) -> SimpleNamespace:
        again = torch.nn.functional.one_hot(input_ids[:, -logits_to_keep:], 2)
        return SimpleNamespace(logits=torch.where(again > 0, self.share, 1 - self.share).log())


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Reading(0.9), None),
        (Reading(0.9, math.inf), "its weights are no numbers any more"),
        (Reading(0.9, -math.inf), "its weights are no numbers any more"),
        (Reading(0.9, math.nan), "its weights are no numbers any more"),
        (Reading(1.5), "its probabilities are no numbers any more"),
        (Reading(0.5), "it goes on in the same way whatever it has read"),
    ],
)
def test_a_model_that_is_none_any_more_is_told_without_a_probe(model: Reading, reason: str | None) -> None:
    assert broken(model, [0, 1, 0]) == ([reason] if reason else [])


class Archive(Store):
    """A store that answers with rows made here."""

    rows: tuple[Candidate, ...] = ()

    def candidates(self, iteration: int | None = None) -> tuple[Candidate, ...]:
        return tuple(c for c in self.rows if iteration is None or c.iteration == iteration)


@contextmanager
def updating(folder: Path, config: CampaignConfig, rows: list[Candidate]) -> Iterator[Update]:
    """An update on rows made here; the sandbox is real, the problems are not needed."""
    (folder / "generators").mkdir()
    part = SimpleNamespace(label="sums", problems=range(100), weight=1.0)
    with Sandbox() as sandbox, closing(Archive.in_folder(folder, create=True)) as store:
        store.rows = tuple(rows)
        jobs = probe_jobs()
        bench = SimpleNamespace(
            config=config,
            stages=Stages(),
            dev=SimpleNamespace(parts=[part]),
            probe=lambda source: sandbox.execute(source, jobs),
        )
        yield Update(bench, LanguageModelGenerator(SHIPPED, config.generator), folder, store)


def config(**sections: dict) -> CampaignConfig:
    small = {
        "models": {"threads": 1},
        "learn": {"chosen_floor": 2, "rejected_floor": 2, "pairs_per_chosen": 2, "epochs": 1.0, "batch": 2},
        "gate": {"programs": 8},
        "generator": {"batch": 4},
    }
    return build_config({name: {**small.get(name, {}), **sections.get(name, {})} for name in {*small, *sections}})


def weights(update: Update) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in update.generator.resident.model.state_dict().items()}


ROWS = [candidate(i, i / 20) for i in range(1, 9)] + [candidate(9, None)]


def test_an_update_that_passes_is_kept_with_its_figures(tmp_path: Path) -> None:
    with updating(tmp_path, config(), ROWS) as update:
        report = update.run(1, SHIPPED)
    assert report["trained"]
    assert (tmp_path / "generators" / "1" / "model.safetensors").is_file()
    (attempt,) = report["attempts"]
    assert attempt["refused"] == []
    assert attempt["probe"]["programs"] == report["probe_before"]["programs"] == 8
    assert attempt["probe"]["kl"] >= 0.0
    assert len(report["pairs"]) == attempt["lessons"][0]["examples"] == 4
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_the_gate_samples_as_the_next_iteration_will(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    falling = config(generator={"temperature": 1.2, "temperature_decay": 0.5, "top_p": 0.9, "top_k": 7})
    with updating(tmp_path, falling, ROWS) as update:
        write = update.generator.write
        monkeypatch.setattr(
            update.generator, "write", lambda places, tasks: asked.extend(places) or write(places, tasks)
        )
        update.run(1, SHIPPED)
    assert len(asked) == 16
    assert {(place.temperature, place.top_p, place.top_k) for place in asked} == {(1.2 / 1.5, 0.9, 7)}


def test_what_the_gate_refuses_is_tried_again_at_half_the_rate_and_then_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "refusals", lambda *_: ["it writes nothing that works"])
    with updating(tmp_path, config(gate={"retries": 2}), ROWS) as update:
        before = weights(update)
        report = update.run(1, SHIPPED)
        after = weights(update)
    rates = [attempt["lessons"][0]["learning_rate"] for attempt in report["attempts"]]
    assert rates == pytest.approx([1e-3, 5e-4, 2.5e-4])
    assert not report["trained"]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not list((tmp_path / "generators").iterdir())


def test_an_update_that_passes_at_half_the_rate_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = iter([["too far"], []])
    monkeypatch.setattr(module, "refusals", lambda *_: next(verdicts))
    with updating(tmp_path, config(), ROWS) as update:
        report = update.run(1, SHIPPED)
    assert [attempt["refused"] for attempt in report["attempts"]] == [["too far"], []]
    assert report["trained"]


def test_a_loss_that_is_no_number_is_taken_back_without_a_probe(tmp_path: Path) -> None:
    broken = config(learn={"learning_rate": 1e30, "lora_rank": 0, "epochs": 8.0}, gate={"retries": 0})
    with updating(tmp_path, broken, ROWS) as update:
        before = weights(update)
        report = update.run(1, SHIPPED)
        after = weights(update)
    assert report["attempts"][0]["refused"] == ["the loss was no number any more"]
    assert report["attempts"][0]["probe"] is None
    assert not report["trained"]
    assert all(torch.equal(before[name], after[name]) for name in before)
    json.dumps(report, allow_nan=False)


def test_probabilities_that_are_no_numbers_are_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "divergence", lambda *_: float("nan"))
    with updating(tmp_path, config(gate={"retries": 0}), ROWS) as update:
        report = update.run(1, SHIPPED)
    assert report["attempts"][0]["refused"] == ["its probabilities are no numbers any more"]
    assert not report["trained"]
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize("when", ["compared", "merged", "written"])
def test_want_of_memory_after_the_training_is_one_line_and_the_training_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def scarce(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with updating(tmp_path, config(gate={"programs": 2, "repeats": 1.0, "kl": 9.0}), ROWS) as update:
        with monkeypatch.context() as patch:
            place, name = {
                "compared": (module, "divergence"),
                "merged": (LoraModel, "merge_and_unload"),
                "written": (type(update.generator.resident.model), "save_pretrained"),
            }[when]
            patch.setattr(place, name, scarce)
            with pytest.raises(BenchmarkError, match="free some and resume: the training is repeated") as caught:
                update.run(1, SHIPPED)
        assert "\n" not in str(caught.value)
        assert not list((tmp_path / "generators").iterdir())
        assert update.run(1, SHIPPED)["trained"]


@pytest.mark.parametrize("programs", [0, 2])
def test_a_last_step_that_wrecks_the_weights_is_taken_back_with_and_without_a_gate(
    tmp_path: Path, programs: int
) -> None:
    one_step = {"learning_rate": 1e30, "lora_rank": 0, "epochs": 1.0, "batch": 8}  # its loss is that of before the step
    with updating(tmp_path, config(learn=one_step, gate={"programs": programs, "retries": 0}), ROWS) as update:
        before = weights(update)
        report = update.run(1, SHIPPED)
        after = weights(update)
    (attempt,) = report["attempts"]
    assert attempt["lessons"][0]["loss_last"] is not None
    assert attempt["refused"] == ["it goes on in the same way whatever it has read"]  # 0, for the norms overflow
    assert (attempt["probe"], report["trained"]) == (None, False)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not list((tmp_path / "generators").iterdir())


@pytest.mark.parametrize("rows", [[], [candidate(1, 0.3)], [candidate(i, 0.3) for i in range(1, 9)]], ids=len)
def test_with_nothing_to_learn_the_generator_stays_and_says_so(tmp_path: Path, rows: list[Candidate]) -> None:
    with updating(tmp_path, config(), [*rows, candidate(len(rows) + 1, None)]) as update:
        report = update.run(1, SHIPPED)
    assert not report["trained"]
    assert report["refused"].startswith("nothing to learn from")
    assert report["attempts"] == []


def test_without_a_gate_nothing_is_written_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LanguageModelGenerator, "write", lambda *_: pytest.fail("nothing is to be written"))
    with updating(tmp_path, config(gate={"programs": 0}), ROWS) as update:
        report = update.run(1, SHIPPED)
    assert report["trained"]
    assert report["probe_before"] is report["attempts"][0]["probe"] is None
