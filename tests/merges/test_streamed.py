"""A streamed form gives the very bits of the library program of its name, whatever the block size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from merges import library
from merges.blocks import Blocks, Scratch
from merges.checkpoints import Checkpoint
from merges.contract import program_id, signature_of
from merges.errors import CheckpointError
from merges.streamed import FORMS, form_of
from merges.task_vectors import task_jobs

SETTINGS: Mapping[str, list[dict[str, float]]] = {
    "linear": [{}, {"w0": 0.3, "w1": -1.7, "w2": 1.1}, {"w0": 1.0, "w1": -1.0, "w2": 0.0}],
    "nearswap": [{}, {"t": 0.05}, {"t": -1}],
    "task_arithmetic": [{}, {"scale": -1.3}, {"scale": 0}],
    "weighted_task_arithmetic": [{}, {"scale": 0.7, "w0": 0.1, "w1": -2.0, "w2": 0.0}],
    "ties": [
        {},
        {"density": 0.2, "scale": 0.4, "normalize": 0},
        {"density": 0.9, "w0": 0.1, "w1": -2.0, "w2": 0.0},
        {"density": 1},
        {"density": 1.5, "w1": 2.0},
        {"density": 0},
        {"density": 1e-9},
    ],
}
CASES = [(name, setting) for name, settings in SETTINGS.items() for setting in settings]


@pytest.fixture
def models(llamas: Mapping[str, Path], edited: Callable[..., Path]) -> tuple[Checkpoint, dict[str, Checkpoint]]:
    """A base and three experts with many equal magnitudes, zeros, and a constant tensor: what ranks find hard."""

    def coarse(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        seed = load_file(llamas["base"] / "model.safetensors")
        near = {name: seed[name] + ((tensors[name] - seed[name]) * 20).round() / 64 for name in tensors}
        return {**near, "model.norm.weight": seed["model.norm.weight"] + 0.5}

    folders = {name: edited(llamas[name], coarse, name=f"{name}_coarse") for name in ("expert_a", "expert_b")}
    experts = {name: Checkpoint.open(folder) for name, folder in {**folders, "expert_c": llamas["expert_b"]}.items()}
    return Checkpoint.open(llamas["base"]), experts


def joined(blocks: Iterator[Tensor]) -> Tensor:
    return torch.cat([block.clone() for block in blocks])


def test_every_form_has_settings_and_is_found_by_its_programs_id() -> None:
    assert set(SETTINGS) == set(FORMS)
    for name, form in FORMS.items():
        assert form_of(program_id(library.source(name)), form.takes or 3) is form
    assert form_of(program_id(library.source("nearswap")), 2) is None
    assert form_of(program_id(library.source("slerp")), 2) is None
    assert form_of(program_id("def merge_models(m, d):\n    return m\n"), 2) is None


@pytest.mark.parametrize("block", [7, 96, 1 << 17])
@pytest.mark.parametrize(("name", "setting"), CASES)
def test_form_gives_the_bits_of_the_program(
    name: str,
    setting: dict[str, float],
    block: int,
    models: tuple[Checkpoint, dict[str, Checkpoint]],
    run_jobs: Callable[..., Mapping[str, Tensor]],
) -> None:
    base, experts = models
    experts = dict(list(experts.items())[: FORMS[name].takes])
    jobs = task_jobs(base, experts, base.names, run_seed=0, program_id="p")
    expected = run_jobs(name, jobs, setting)
    parameters = {**signature_of(library.source(name)).parameters, **setting}
    scratch = Scratch()
    for tensor in base.names:
        merged = joined(FORMS[name].blocks(Blocks(tensor, base, experts, scratch, block), **parameters))
        flat = expected[tensor].reshape(-1)
        assert torch.equal(merged, flat)
        assert torch.equal(merged.view(torch.int32), flat.contiguous().view(torch.int32)), "a zero of another sign"


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float8_e4m3fn, torch.float8_e5m2])
def test_dtypes_may_differ_between_models(tmp_path: Path, llamas: Mapping[str, Path], dtype: torch.dtype) -> None:
    checkpoints = []
    for seed, kind in enumerate((torch.bfloat16, dtype)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        values = torch.randn(9, 5, generator=torch.Generator().manual_seed(seed)).to(kind)
        save_file({"w": values}, folder / "model.safetensors")
        checkpoints.append((Checkpoint.open(folder), values.float()))
    (base, seed_values), (expert, values) = checkpoints
    blocks = Blocks("w", base, {"a": expert}, Scratch(), 8)
    merged = joined(FORMS["task_arithmetic"].blocks(blocks, scale=0.5))
    assert torch.equal(merged, (0.5 * (values - seed_values)).reshape(-1))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["base", "expert_a"])
def test_values_that_are_not_finite_are_refused(
    llamas: Mapping[str, Path], edited: Callable[..., Path], where: str, value: float
) -> None:
    def spoilt(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        tensors["model.norm.weight"][3] = value
        return tensors

    paths = {**llamas, where: edited(llamas[where], spoilt)}
    blocks = Blocks(
        "model.norm.weight", Checkpoint.open(paths["base"]), {"a": Checkpoint.open(paths["expert_a"])}, Scratch()
    )
    owner = "the base" if where == "base" else "'a'"
    with pytest.raises(CheckpointError, match=rf"^tensor 'model.norm.weight' of {owner} .*expected finite values, got"):
        list(FORMS["ties"].blocks(blocks, density=0.5, scale=1, normalize=1, **{f"w{i}": 1.0 for i in range(8)}))
