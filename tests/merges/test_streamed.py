"""A streamed form gives the numbers of the library program of its name, the very bits where no sum over the tensor is in it, and the same bits whatever
the block size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from merges import float_bits, library
from merges.blocks import Array, Blocks, Scratch
from merges.checkpoints import Checkpoint
from merges.contract import program_id, signature_of
from merges.errors import CheckpointError
from merges.streamed import FORMS, form_of
from merges.task_vectors import task_jobs, tensor_seed

SETTINGS: Mapping[str, list[dict[str, float]]] = {
    "arcee_fusion": [{}],
    "breadcrumbs": [{}, {"density": 0.4, "gamma": 0.2, "w1": -2.0}, {"density": 0.99, "gamma": 0.5}, {"density": 0}, {"density": 1}],
    "breadcrumbs_ties": [{}, {"density": 0.4, "gamma": 0.2, "normalize": 1, "w1": -2.0}],
    "dare_linear": [{}, {"density": 0.9, "rescale": 0, "w0": 0.3}, {"density": 1}, {"density": 0}],
    "dare_ties": [{}, {"density": 0.3, "normalize": 1, "w2": -1.5}],
    "della": [{}, {"density": 0.3, "epsilon": 0.2, "normalize": 0, "w0": 2.0}, {"density": 1, "epsilon": 9}],
    "della_linear": [{}, {"rescale": 0, "w1": -0.7}, {"density": 0}],
    "karcher": [{}, {"steps": 1}, {"tolerance": 1e9}],
    "linear": [{}, {"w0": 0.3, "w1": -1.7, "w2": 1.1}, {"w0": 1.0, "w1": -1.0, "w2": 0.0}],
    "model_stock": [{}, {"filter_wise": 1}],
    "multislerp": [{}, {"w0": 0.2, "w1": 3.0}],
    "nearswap": [{}, {"t": 0.05}, {"t": -1}],
    "nuslerp": [{}, {"w0": 0.2, "w1": 0.9}, {"flatten": 0}, {"flatten": 0, "row_wise": 1, "w0": 3.0}, {"w0": 1.0, "w1": -1.0}],
    "ram": [{}, {"epsilon": 0.05}],
    "ramplus": [{}, {"epsilon": 0.05, "r": 0.7, "alpha": 3.0}, {"r": -1.0}],
    "sce": [{}, {"density": 0.3}, {"density": 1e-9}],
    "slerp": [{}, {"t": 0.0}, {"t": 0.8}],
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
}  # fmt: skip
CASES = [(name, setting) for name, settings in SETTINGS.items() for setting in settings]

SUMS = {"arcee_fusion", "karcher", "model_stock", "multislerp", "nuslerp", "sce", "slerp"}
"""Methods that take sums over a tensor or a row, in float64 when streamed."""


def joined(blocks: Iterator[Array]) -> Tensor:
    return torch.cat([torch.from_numpy(block.copy()) for block in blocks])


def test_every_program_has_a_form_and_is_found_by_its_id() -> None:
    assert set(SETTINGS) == set(FORMS) == set(library.names())
    for name, form in FORMS.items():
        assert form_of(program_id(library.source(name)), form.takes or 3) is form
    assert form_of(program_id(library.source("nearswap")), 2) is None
    assert form_of(program_id("def merge_models(m, d):\n    return m\n"), 2) is None


@pytest.mark.parametrize("name", FORMS)
def test_form_gives_the_numbers_of_the_program(
    name: str, hard_models: tuple[Checkpoint, dict[str, Checkpoint]], run_jobs: Callable[..., Mapping[str, Tensor]]
) -> None:
    base, experts = hard_models
    experts = dict(list(experts.items())[: FORMS[name].takes])
    jobs = task_jobs(base, experts, base.names, run_seed=7, program_id="p")
    for setting in SETTINGS[name]:
        expected = run_jobs(name, jobs, setting)
        parameters = {**signature_of(library.source(name)).parameters, **setting}
        scratch = Scratch()
        for tensor in base.names:
            seed, flat, merged = tensor_seed(7, "p", tensor), expected[tensor].reshape(-1), {}
            for block in (7, 96, 1 << 16):
                blocks = Blocks(tensor, base, experts, scratch, block, seed)
                merged[block] = joined(FORMS[name].blocks(blocks, **parameters))
                assert torch.equal(merged[block].view(torch.int32), merged[7].view(torch.int32)), (
                    setting,
                    tensor,
                    block,
                )
            if name in SUMS:
                size = max(
                    vector.abs().max()
                    for job in jobs
                    if job.name == tensor
                    for vector in [*job.vectors.values(), job.base]
                )  # type: ignore[union-attr]
                assert (merged[7] - flat).abs().max() <= 2e-6 * size, (setting, tensor)
            else:
                assert torch.equal(merged[7], flat), (setting, tensor)


@pytest.mark.parametrize("name", FORMS)
def test_form_onto_its_base_has_the_bits_of_the_task_vector_added(
    name: str, hard_models: tuple[Checkpoint, dict[str, Checkpoint]]
) -> None:
    base, experts = hard_models
    experts = dict(list(experts.items())[: FORMS[name].takes])
    parameters = {**signature_of(library.source(name)).parameters, **SETTINGS[name][-1]}
    for tensor in base.names:
        blocks = Blocks(tensor, base, experts, Scratch(), 96, seed=3)
        merged = joined(FORMS[name].blocks(blocks, **parameters))
        expected = (base.read(tensor).float().reshape(-1) + merged).to(torch.bfloat16)
        onto = FORMS[name].onto_base(blocks, torch.bfloat16, **parameters)
        assert torch.equal(torch.cat([block.clone() for block in onto if block is not None]), expected), tensor


def test_weighted_sums_of_bfloat16_take_one_walk_and_others_several(
    hard_models: tuple[Checkpoint, dict[str, Checkpoint]], monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[int] = []
    loop = float_bits.weighted_bfloat16
    monkeypatch.setattr(float_bits, "weighted_bfloat16", lambda *given: walks.append(1) or loop(*given))
    base, experts = hard_models
    blocks = Blocks("conv.weight", base, experts, Scratch(), 7)
    assert len(list(FORMS["task_arithmetic"].onto_base(blocks, torch.bfloat16, scale=1.0))) == len(walks) == 9
    list(FORMS["task_arithmetic"].onto_base(blocks, torch.float32, scale=1.0))
    list(
        FORMS["ties"].onto_base(
            blocks, torch.bfloat16, density=1, scale=1, normalize=0, **{f"w{i}": 1.0 for i in range(8)}
        )
    )
    assert len(walks) == 9


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
@pytest.mark.parametrize("name", ["ties", "weighted_task_arithmetic"])
def test_values_that_are_not_finite_are_refused(
    llamas: Mapping[str, Path], edited: Callable[..., Path], name: str, where: str, value: float
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
        list(FORMS[name].onto_base(blocks, torch.bfloat16, **signature_of(library.source(name)).parameters))
