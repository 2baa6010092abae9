"""What a program makes of each tensor: weights that are known are found, and what is no weighted sum is told."""

from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console

from engine.candidate_page import effect_table
from engine.config import CampaignConfig
from engine.effect import effect
from engine.model_effects import effects
from merges.errors import ProgramError
from sandbox import TensorJob

BY_DEPTH = """
def merge_models(model_dict, device, depth):
    first, *others = model_dict.values()
    return (0.5 - depth) * first + 0.25 * sum(others)
"""


def job(**vectors: torch.Tensor) -> TensorJob:
    return TensorJob("model.layers.0.mlp.up_proj.weight", 0.0, vectors, None, 0)


@pytest.fixture
def random() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(40, 25, generator=generator) for name in ("a", "b", "c")}


def test_the_weights_of_a_weighted_sum_are_found(random: dict[str, torch.Tensor]) -> None:
    found = effect(job(**random), 0.5 * random["a"] - 0.2 * random["b"])
    assert found.weights == pytest.approx({"a": 0.5, "b": -0.2, "c": 0.0}, abs=1e-6)
    assert found.rest == pytest.approx(0.0, abs=1e-9)
    assert found.density == 1.0


def test_what_no_weighted_sum_explains_is_the_rest(random: dict[str, torch.Tensor]) -> None:
    other = torch.randn(40, 25, generator=torch.Generator().manual_seed(4))
    assert effect(job(**random), other).rest > 0.98
    kept = random["a"] * (random["a"].abs() > 0.6)
    trimmed = effect(job(**random), kept)
    assert trimmed.density == pytest.approx((kept != 0).float().mean().item())
    # a trimmed vector's nearest multiple of the whole one keeps its share of the energy, so that is what is left out
    energy = (kept.pow(2).sum() / random["a"].pow(2).sum()).item()
    assert trimmed.weights["a"] == pytest.approx(energy, abs=0.01)
    assert trimmed.rest == pytest.approx(1 - energy, abs=0.01)


def test_the_size_is_over_the_mean_size_of_the_vectors(random: dict[str, torch.Tensor]) -> None:
    mean = torch.stack([v.norm() for v in random.values()]).mean()
    assert effect(job(**random), 2 * random["a"]).size == pytest.approx((2 * random["a"].norm() / mean).item())


def test_vectors_that_say_the_same_share_a_weight_and_nothing_is_divided_by_nothing() -> None:
    one = torch.ones(3, 2)
    assert effect(job(a=one, b=one), one).weights == pytest.approx({"a": 0.5, "b": 0.5})
    nothing = effect(job(a=torch.zeros(3, 2), b=torch.zeros(3, 2)), torch.zeros(3, 2))
    assert (nothing.rest, nothing.size, nothing.density) == (0.0, 0.0, 0.0)
    assert nothing.weights == {"a": 0.0, "b": 0.0}


def test_a_program_over_the_models_of_a_campaign_layer_by_layer(small_config: CampaignConfig) -> None:
    found = {one.tensor: one for one in effects(small_config, BY_DEPTH)}
    first, last = (found[f"model.layers.{layer}.mlp.up_proj.weight"] for layer in (0, 3))
    assert first.weights == pytest.approx({"expert_a": 0.5, "expert_b": 0.25, "expert_c": 0.25}, abs=1e-4)
    assert last.weights == pytest.approx({"expert_a": -0.5, "expert_b": 0.25, "expert_c": 0.25}, abs=1e-4)
    assert max(one.rest for one in found.values()) < 1e-8
    out = io.StringIO()
    Console(file=out, width=132).print(effect_table(list(found.values())))
    row = next(line for line in out.getvalue().splitlines() if "model.layers.*.mlp.up_proj.weight" in line)
    assert "-0.50 … 0.50" in row


def test_a_program_that_fails_is_at_fault(small_config: CampaignConfig) -> None:
    with pytest.raises(ProgramError, match=r"expected a merged tensor for every parameter, got exception"):
        list(effects(small_config, "def merge_models(model_dict, device):\n    raise ValueError('no')\n"))
