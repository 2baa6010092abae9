"""A lane gives what the program gives, whatever its buffers' size. Here the device is the CPU: streams are nothing, the rest is the same code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from merges import devices, library
from merges.adapters import Adapted
from merges.apply import apply_plan, apply_program, plan_merge
from merges.checkpoints import Checkpoint
from merges.contract import signature_of
from merges.devices import Lane, Method, device_bytes, free_bytes, method_of
from merges.errors import CheckpointError, OptionError
from merges.streamed import FORMS
from merges.task_vectors import task_jobs, tensor_seed
from sandbox import Sandbox

from .written_adapters import factors, written

CPU = torch.device("cpu")


def method(name: str, **changes: float) -> Method:
    found = method_of(name, {**signature_of(library.source(name)).parameters, **changes}, 3)
    assert found is not None
    return found


@pytest.mark.parametrize("name", FORMS)
def test_a_lane_gives_the_bits_of_the_program_whatever_its_buffers(
    name: str, hard_models: tuple[Checkpoint, dict[str, Checkpoint]], run_jobs: Callable[..., Mapping[str, Tensor]]
) -> None:
    base, experts = hard_models
    experts = dict(list(experts.items())[: FORMS[name].takes])
    merged = run_jobs(name, task_jobs(base, experts, base.names, run_seed=7, program_id="p"))
    lanes = [Lane(CPU, size) for size in (8, 100, 1 << 20)]
    for tensor in base.names:
        expected = (base.read(tensor).float() + merged[tensor]).to(torch.bfloat16).reshape(-1)
        for lane in lanes:
            parts = lane.merged(method(name), tensor, base, experts, tensor_seed(7, "p", tensor), torch.bfloat16)
            assert torch.equal(torch.cat([part.clone() for part in parts if part is not None]), expected), tensor


@pytest.mark.parametrize("stored", [torch.float16, torch.float32, torch.float64, torch.float8_e4m3fn])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_dtypes_are_read_and_written_as_they_come(tmp_path: Path, stored: torch.dtype, dtype: torch.dtype) -> None:
    models = []
    for seed, kind in enumerate((dtype, stored)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        values = torch.randn(9, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(kind)
        save_file({"w": values}, folder / "model.safetensors")
        models.append((Checkpoint.open(folder), values))
    (base, seed_values), (expert, values) = models
    (part,) = Lane(CPU).merged(method("task_arithmetic", scale=0.5), "w", base, {"a": expert}, 0, dtype)
    vector = 0.5 * (values.float() - seed_values.float())
    exact = seed_values if dtype is torch.float64 else seed_values.float()
    assert part is not None
    assert torch.equal(part, (exact + vector).to(dtype).reshape(-1))


@pytest.mark.parametrize("where", ["base", "expert_a"])
def test_values_that_are_not_finite_are_refused(
    llamas: Mapping[str, Path], edited: Callable[..., Path], where: str
) -> None:
    def spoilt(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        tensors["model.norm.weight"][3] = float("nan")
        return tensors

    paths = {**llamas, where: edited(llamas[where], spoilt)}
    base, expert = Checkpoint.open(paths["base"]), Checkpoint.open(paths["expert_a"])
    owner = "the base" if where == "base" else "'a'"
    with pytest.raises(CheckpointError, match=rf"^tensor 'model.norm.weight' of {owner} .*expected finite values, got"):
        list(Lane(CPU).merged(method("ties"), "model.norm.weight", base, {"a": expert}, 0, torch.bfloat16))


def test_overflow_is_told_before_any_part(llamas: Mapping[str, Path]) -> None:
    base, expert = Checkpoint.open(llamas["base"]), Checkpoint.open(llamas["expert_a"])
    parts = Lane(CPU, 8).merged(
        method("task_arithmetic", scale=1e9), "model.norm.weight", base, {"a": expert}, 0, torch.float16
    )
    assert list(parts) == [None]


def test_an_adapters_product_is_taken_itself(tmp_path: Path, llamas: Mapping[str, Path]) -> None:
    """Through the values, a change far below the base's last bit would be lost."""
    base, module = Checkpoint.open(llamas["base"]), "model.layers.0.self_attn.k_proj"
    tensors = factors(module, *base.shapes[f"{module}.weight"])
    tensors[f"base_model.model.{module}.lora_B.weight"] *= 1e-9
    adapted = Adapted.open(written(tmp_path / "adapter", tensors), base)
    (part,) = Lane(CPU).merged(
        method("task_arithmetic", scale=1e9), f"{module}.weight", base, {"a": adapted}, 0, torch.float32
    )
    known = adapted.change(f"{module}.weight", 0, 128, base)
    assert part is not None
    assert known is not None
    assert torch.equal(part, base.read(f"{module}.weight").float().reshape(-1) + 1e9 * known)


def test_a_recipes_parameters_go_to_the_program_where_it_can_be_told() -> None:
    told = method_of("ties", {"weights": [1.0, 2.0], "density": [0.5, 0.5], "normalize": True, "scale": 1.0}, 2)
    assert told == Method("ties", {"w0": 1.0, "w1": 2.0, "density": 0.5, "normalize": 1.0, "scale": 1.0})
    assert method_of("ties", {"weights": [1.0, 2.0], "density": [0.5, 0.4]}, 2) is None
    assert method_of("weighted_task_arithmetic", {"weights": [1.0] * 9}, 9) is None
    assert method_of("model_stock", {"floor": 1e-6}, 2) is None


def test_memory_of_a_device_is_known_and_the_cpus_is_not_asked() -> None:
    assert free_bytes(CPU) is None
    assert device_bytes(1000, 3) == 4 * 1000 * 17


def test_a_whole_merge_through_lanes_has_the_bytes_of_one_in_blocks(llamas: Mapping[str, Path], tmp_path: Path) -> None:
    experts = {name: llamas[name] for name in ("expert_a", "expert_b")}
    written = []
    for device in (None, CPU):
        plan = plan_merge(library.source("dare_ties"), base=llamas["base"], experts=experts, run_seed=5)
        record = apply_plan(plan, tmp_path / str(device), None, workers=3, device=device)
        assert record.versions.get("device") == (None if device is None else "cpu")
        written.append({name: tensor.blake3 for name, tensor in record.tensors.items()})
    assert written[0] == written[1]
    assert len(written[0]) == 21


def test_what_the_device_cannot_hold_is_a_problem_and_what_it_cannot_do_a_note(
    llamas: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    experts = {name: llamas[name] for name in ("expert_a", "expert_b")}
    plan = plan_merge(library.source("ties"), base=llamas["base"], experts=experts)
    assert devices.fitted(plan, CPU) == plan
    monkeypatch.setattr(devices, "free_bytes", lambda device: 10_000)
    (problem,) = devices.fitted(plan, CPU).problems
    assert str(problem).startswith(
        "device 'cpu': expected 28,672 bytes of free memory for tensor 'model.embed_tokens.weight', got 10,000"
    )
    monkeypatch.setattr(devices, "method_of", lambda *given: None)
    assert devices.fitted(plan, CPU).problems == ()
    assert devices.fitted(plan, CPU).notes[-1].startswith("21 tensors are merged on the CPU")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an accelerator")
def test_without_an_accelerator_one_line_says_so(llamas: Mapping[str, Path], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"^device 'cuda': expected an NVIDIA accelerator and a torch for it, got"):
        apply_program(
            library.source("ties"), base=llamas["base"], experts={"a": llamas["expert_a"]}, out=tmp_path / "m",
            sandbox=Sandbox(device="cuda"),
        )  # fmt: skip
    assert not (tmp_path / "m").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_an_accelerator_gives_the_numbers_of_the_cpu(hard_models: tuple[Checkpoint, dict[str, Checkpoint]]) -> None:
    base, every = hard_models
    lane, here = Lane(torch.device("cuda", 0), 1000), Lane(CPU)
    for name, form in FORMS.items():
        experts = dict(list(every.items())[: form.takes])
        for tensor in base.names:
            there, expected = (
                torch.cat([part.clone() for part in one.merged(method(name), tensor, base, experts, 3, torch.float32) if part is not None])
                for one in (lane, here)
            )  # fmt: skip
            torch.testing.assert_close(there, expected, rtol=1e-5, atol=1e-6)
