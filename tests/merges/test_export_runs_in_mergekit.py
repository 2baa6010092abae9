"""Exports for mergekit, run by mergekit 0.1.5 itself, against what `apply_program` makes of the same models.

Every program but the library's runs in the sandbox for `apply`, and its bits come out the same; the library's ties is merged in streamed form.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from merges import library
from merges.apply import apply_program
from merges.contract import EXAMPLE
from merges.export_mergekit import export_mergekit
from sandbox import Sandbox
from tests.environments import outside

pytestmark = pytest.mark.full

LAYERED = '''\
import torch
def merge_models(model_dict, device, name, depth, base):
    """Name, depth and base, and sums that depend on the order of their terms."""
    vectors = torch.stack([v.to(device) for v in model_dict.values()])
    norms = vectors.flatten(1).norm(dim=1) / (base.norm() + 1e-6)
    share = torch.softmax(norms * len(name), 0).reshape(-1, *[1] * base.dim())
    return (share * vectors).sum(0) * (0.2 + depth) + 0.01 * base.tanh()
'''
CHANCE = """\
import random
import numpy as np
import torch
def merge_models(model_dict, device, rng, *, density=0.6, steps=2):
    merged = 0
    for vector in model_dict.values():
        mask = torch.rand(vector.shape, generator=rng) < density
        merged = merged + vector * mask + 0.01 * torch.randn(vector.shape) * vector.abs()
    for _ in range(steps):
        merged = merged * (0.5 + random.random()) + 1e-4 * torch.from_numpy(np.random.rand(*vector.shape)).float()
    return merged
"""

CASES: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "plain": (EXAMPLE, {}),
    "layered": (LAYERED, {}),
    "chance": (CHANCE, {}),
    "parameters": (EXAMPLE, {"w0": 1e-05, "w1": 0.9}),
    "ties": (library.source("ties"), {"density": 0.3}),
}


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def run_export(mergekit_python: Path) -> Run:
    """run_export(folder, out) -> how its runner ended."""

    def run(folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
        command = [str(mergekit_python), "run.py", "merge.yaml", str(out), "--num-threads", "1", "--quiet"]
        return subprocess.run(command, cwd=folder, env=outside(), capture_output=True, text=True, check=False)

    return run


def tensors(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def both(
    source: str,
    models: Sequence[Path],
    tmp_path: Path,
    sandbox: Sandbox,
    run_export: Run,
    *,
    selection: str = "all",
    parameters: Mapping[str, float] | None = None,
    seed: int = 0,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The merged weights, ours and mergekit's; the first model is the base."""
    base, *experts = models
    apply_program(
        source,
        base=base,
        experts={expert.name: expert for expert in experts},
        out=tmp_path / "ours",
        sandbox=sandbox,
        selection=selection,
        parameters=parameters,
        run_seed=seed,
    )
    export_mergekit(
        source,
        tmp_path / "export",
        base=str(base),
        experts=[str(expert) for expert in experts],
        selection=selection,
        parameters=parameters,
        run_seed=seed,
    )
    done = run_export(tmp_path / "export", tmp_path / "theirs")
    assert done.returncode == 0, done.stderr[-3000:]
    return tensors(tmp_path / "ours"), tensors(tmp_path / "theirs")


def assert_equal(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], *, identical: bool = True) -> None:
    """Equal bits, or where apply does not run the program itself: float32 within 1e-6, bfloat16 within 2 steps and 99.8 % equal."""
    assert set(ours) == set(theirs)
    equal = total = 0
    for name, tensor in ours.items():
        other = theirs[name]
        assert (tensor.dtype, tensor.shape) == (other.dtype, other.shape), name
        if identical:
            assert torch.equal(tensor, other), name
        elif tensor.dtype is torch.bfloat16:
            steps = (tensor.view(torch.int16).int() - other.view(torch.int16).int()).abs()
            assert steps.max() <= 2, name
            equal, total = equal + int((steps == 0).sum()), total + steps.numel()
        else:
            torch.testing.assert_close(tensor, other, rtol=0, atol=1e-6)
    assert equal >= 0.998 * total


@pytest.fixture(scope="session")
def of_dtype(llamas: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Path]]:
    """of_dtype(dtype, *names) -> the models of `llamas` in it."""

    def convert(dtype: torch.dtype, *names: str) -> list[Path]:
        from transformers import LlamaForCausalLM

        root = tmp_path_factory.mktemp("converted")
        for name in names:
            shutil.copytree(llamas[name], root / name)
            LlamaForCausalLM.from_pretrained(llamas[name], dtype=dtype).save_pretrained(root / name)
        return [root / name for name in names]

    return convert


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("case", CASES)
def test_mergekit_gives_what_apply_gives(
    case: str,
    dtype: torch.dtype,
    of_dtype: Callable[..., list[Path]],
    tmp_path: Path,
    sandbox: Sandbox,
    run_export: Run,
) -> None:
    source, parameters = CASES[case]
    models = of_dtype(dtype, "base", "expert_a", "expert_b")
    ours, theirs = both(source, models, tmp_path, sandbox, run_export, parameters=parameters, seed=5)
    assert {tensor.dtype for tensor in theirs.values()} == {dtype}
    assert any(not torch.equal(ours[name], tensor) for name, tensor in tensors(models[0]).items()), "nothing was merged"
    assert_equal(ours, theirs, identical=case != "ties")


def test_a_tied_base_and_a_tied_expert(
    llamas: Mapping[str, Path], edited: Callable[..., Path], tmp_path: Path, sandbox: Sandbox, run_export: Run
) -> None:
    second = edited(llamas["tied"], lambda all_: {name: 1.5 * t for name, t in all_.items()}, name="second")
    for number, models in enumerate(([llamas["tied"], second], [llamas["base"], llamas["expert_a"], llamas["tied"]])):
        folder = tmp_path / str(number)
        folder.mkdir()
        ours, theirs = both(LAYERED, models, folder, sandbox, run_export)
        assert ("lm_head.weight" in ours) == bool(number)
        assert_equal(ours, theirs)


def test_a_selection_and_experts_stored_wider_than_the_base(
    llamas: Mapping[str, Path], of_dtype: Callable[..., list[Path]], tmp_path: Path, sandbox: Sandbox, run_export: Run
) -> None:
    models = [llamas["base"], *of_dtype(torch.float32, "expert_a", "expert_b")]
    ours, theirs = both(CHANCE, models, tmp_path, sandbox, run_export, selection="mlp", seed=1)
    assert {tensor.dtype for tensor in theirs.values()} == {torch.float32}, "mergekit widens"
    assert_equal(ours, {name: tensor.to(torch.bfloat16) for name, tensor in theirs.items()})
    with (tmp_path / "export" / "merge.yaml").open("a") as configuration:
        configuration.write("out_dtype: bfloat16\n")
    done = run_export(tmp_path / "export", tmp_path / "narrow")
    assert done.returncode == 0, done.stderr[-3000:]
    assert_equal(ours, tensors(tmp_path / "narrow"))


def test_a_program_that_fails_is_one_line(llamas: Mapping[str, Path], tmp_path: Path, run_export: Run) -> None:
    export_mergekit(
        "def merge_models(model_dict, device):\n    return 1 / 0\n",
        tmp_path / "export",
        base=str(llamas["base"]),
        experts=[str(llamas["expert_a"])],
    )
    done = run_export(tmp_path / "export", tmp_path / "theirs")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "program" in done.stderr.splitlines()[-1]
    assert "ZeroDivisionError: division by zero" in done.stderr.splitlines()[-1]


def test_an_expert_of_another_shape_is_named(
    llamas: Mapping[str, Path], edited: Callable[..., Path], tmp_path: Path, run_export: Run
) -> None:
    def grown(all_: dict[str, Tensor]) -> dict[str, Tensor]:
        name = "model.embed_tokens.weight"
        return {**all_, name: torch.cat([all_[name], all_[name][:3]])}

    experts = [str(llamas["expert_a"]), str(edited(llamas["expert_b"], grown))]
    export_mergekit(EXAMPLE, tmp_path / "export", base=str(llamas["base"]), experts=experts)
    done = run_export(tmp_path / "export", tmp_path / "theirs")
    assert done.returncode == 1
    assert "Tensor size mismatch for model.embed_tokens.weight" in done.stderr
