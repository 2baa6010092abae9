"""Which pairs are learnt from, and that learning moves the generator towards the chosen."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import locations
from engine.config import LearnSection
from engine.hashing import weights_hash
from engine.learning import choose_pairs, scored_best_first, train_dpo
from engine.records import Outcome
from tests.engine.conftest import candidate


def test_best_first_leaves_out_failures_and_duplicates() -> None:
    rows = [
        candidate(1, 0.2),
        candidate(2, None),
        candidate(3, 0.5),
        candidate(4, 0.9, outcome=Outcome.DUPLICATE),
        candidate(5, 0.5),
    ]
    assert [c.number for c in scored_best_first(rows)] == [3, 5, 1]


def test_shares_are_those_of_the_paper_where_the_run_is_large() -> None:
    rows = [candidate(i, i / 100) for i in range(1, 101)]
    pairs = choose_pairs({1: rows}, LearnSection(chosen_floor=1, rejected_floor=1, pairs_per_chosen=100))
    assert {p.chosen_number for p in pairs} == {98, 99, 100}
    assert {p.rejected_number for p in pairs} == set(range(1, 11))


def test_elite_of_every_earlier_iteration_is_chosen_again() -> None:
    first = [candidate(i, 0.5 + i / 100, iteration=1) for i in range(1, 11)]
    second = [candidate(20 + i, i / 100, iteration=2) for i in range(1, 21)]
    pairs = choose_pairs({1: first, 2: second}, LearnSection(elite=3, chosen_floor=2, rejected_floor=4))
    assert {p.chosen_number for p in pairs if p.chosen_number <= 10} == {10, 9, 8}
    assert all(p.rejected_number > 20 for p in pairs)


@given(st.lists(st.one_of(st.none(), st.integers(0, 100)), max_size=60))
def test_chosen_always_scored_higher_than_rejected(shares: list[int | None]) -> None:
    rows = [candidate(i, None if s is None else s / 100) for i, s in enumerate(shares, start=1)]
    for pair in choose_pairs({1: rows}, LearnSection()):
        assert pair.margin > 0
        chosen, rejected = rows[pair.chosen_number - 1], rows[pair.rejected_number - 1]
        assert chosen.score is not None
        assert rejected.score is not None
        assert chosen.score > rejected.score


def test_equal_scores_teach_nothing() -> None:
    assert choose_pairs({1: [candidate(i, 0.4) for i in range(1, 30)]}, LearnSection()) == []


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object], list[str]]:
    """The shipped generator after a few DPO steps on pairs of its own prompt."""
    from engine import prompts

    prompt = prompts.pocket_one_shot()
    good = "# Sum.\nimport torch\n\ndef merge_models(model_dict, device, *, scale=0.4):\n    return scale * sum(model_dict.values())\n"
    bad = "# Zero.\nimport torch\n\ndef merge_models(model_dict, device):\n    return 0 * sum(model_dict.values())\n"
    from engine.learning import Pair

    pairs = [Pair(prompt, good, bad, 1, 2, 0.5)] * 8
    target = tmp_path_factory.mktemp("generators") / "1"
    section = LearnSection(epochs=3.0, batch=4, learning_rate=3e-4, lora_rank=8)
    report = train_dpo(str(locations.pocket_model("generator")), pairs, target, section, seed=3, threads=1)
    return target, report, [prompt, good, bad]


def test_dpo_raises_the_margin_of_the_chosen_program(trained: tuple[Path, dict[str, object], list[str]]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target, _, (prompt, good, bad) = trained
    shipped = locations.pocket_model("generator")

    def margin(folder: Path) -> float:
        import torch

        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")

        def log_probability(program: str) -> float:
            start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
            ids = tokenizer(prompt + program, add_special_tokens=False, return_tensors="pt")["input_ids"]
            with torch.inference_mode():
                logits = model(ids).logits.log_softmax(-1)
            return float(logits[0, start - 1 : -1].gather(1, ids[0, start:, None]).sum())

        return log_probability(good) - log_probability(bad)

    assert margin(target) > margin(shipped) + 0.5


def test_report_says_what_was_trained(trained: tuple[Path, dict[str, object], list[str]]) -> None:
    target, report, _ = trained
    assert report["steps"] == 6
    assert report["generator_hash"] == weights_hash(target.glob("*.safetensors"))
    assert report["generator_hash"] != weights_hash(locations.pocket_model("generator").glob("*.safetensors"))


def test_nothing_is_left_beside_the_trained_generator(trained: tuple[Path, dict[str, object], list[str]]) -> None:
    target, _, _ = trained
    assert [p.name for p in target.parent.iterdir()] == ["1"]
