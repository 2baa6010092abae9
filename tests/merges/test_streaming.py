"""The streaming merge: bytes that depend on nothing but the inputs, and a killed run that goes on."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from merges import apply, library, plan
from merges.apply import apply_program, plan_merge
from merges.errors import OptionError, ShapeError, TargetError
from merges.output import JOURNAL_FILE, OutputFiles
from merges.preflight import described, facts
from merges.provenance import verify_folder
from sandbox import Sandbox

PROGRAM = "import torch\ndef merge_models(model_dict, device, rng, *, scale=0.4):\n    v = list(model_dict.values())\n    return scale * v[0] + torch.rand(v[0].shape, generator=rng) * v[1]\n"


@pytest.fixture
def merge(sandbox: Sandbox, llamas: Mapping[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """merge(source, out, **changes) -> the folder made of base, expert_a and expert_b."""

    def run(source: str, out: str = "merged", **changes: Any) -> Path:
        experts = {name: llamas[name] for name in ("expert_a", "expert_b")}
        apply_program(source, **{"base": llamas["base"], "experts": experts, "out": tmp_path / out, "sandbox": sandbox, **changes})  # fmt: skip
        return tmp_path / out

    return run


def same_weights(one: Path, other: Path) -> bool:
    return (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


@pytest.mark.parametrize("source", [PROGRAM, library.source("ties"), library.source("linear")], ids=["program", "ties", "linear"])  # fmt: skip
def test_bytes_depend_on_neither_threads_nor_blocks_nor_batches(
    source: str, merge: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = merge(source, "one", workers=1)
    assert same_weights(one, merge(source, "three", workers=3))
    monkeypatch.setattr(apply, "make_plan", functools.partial(plan.make_plan, block=13))
    monkeypatch.setattr(plan, "BATCH_BYTES", 1)
    assert same_weights(one, merge(source, "small", workers=2, max_memory_bytes=30_000))


@pytest.mark.parametrize("name", ["ties", "linear", "task_arithmetic", "weighted_task_arithmetic"])
def test_streamed_form_and_sandbox_write_the_same_bytes(
    name: str, merge: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed = merge(library.source(name), "streamed")
    monkeypatch.setattr(plan, "form_of", lambda program, experts: None)
    assert same_weights(streamed, merge(library.source(name), "sandboxed"))


def test_a_library_merge_starts_no_sandbox(merge: Callable[..., Path]) -> None:
    never = Sandbox()
    merge(library.source("ties"), sandbox=never)
    assert never._zygote is None


KILLED = """
import os, signal, sys
from merges.apply import apply_program
from sandbox import Sandbox
def progress(done, total):
    if done >= 4:
        os.kill(os.getpid(), signal.SIGKILL)
source, base, a, b, out = sys.argv[1:]
apply_program(open(source).read(), base=base, experts={"expert_a": a, "expert_b": b}, out=out, sandbox=Sandbox(), workers=1, progress=progress)
"""


def killed(source: str, llamas: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hidden folder of a run that was killed after some tensors."""
    (tmp_path / "program").write_text(source)
    code = f"import merges.plan\nmerges.plan.BATCH_BYTES = 1\n{KILLED}"
    arguments = [tmp_path / "program", llamas["base"], llamas["expert_a"], llamas["expert_b"], tmp_path / "merged"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    (tmp_path / "program").unlink()
    assert not (tmp_path / "merged").exists()
    (folder,) = tmp_path.glob(".merged.*.partial")
    monkeypatch.setattr(plan, "BATCH_BYTES", 1)
    return folder


@pytest.mark.parametrize("name", ["ties", "program"])
def test_a_killed_run_goes_on_where_it_was(
    name: str, merge: Callable[..., Path], llamas: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = PROGRAM if name == "program" else library.source(name)
    folder = killed(source, llamas, tmp_path, monkeypatch)
    seen: list[tuple[int, int]] = []
    out = merge(source, progress=lambda done, total: seen.append((done, total)))
    assert seen[0][0] >= 4
    assert not folder.exists()
    assert not (out / JOURNAL_FILE).exists()
    assert same_weights(out, merge(source, "straight"))
    assert verify_folder(out) == []


def test_what_a_power_cut_spoilt_is_done_again(
    merge: Callable[..., Path], llamas: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = library.source("ties")
    folder = killed(source, llamas, tmp_path, monkeypatch)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-40:] = bytes(40)
    length = 8 + int.from_bytes(weights[:8], "little")
    weights[length : length + 400] = bytes(400)
    (folder / "model.safetensors").write_bytes(weights)
    with (folder / JOURNAL_FILE).open("ab") as journal:
        journal.write(b'{"tensor": "model.norm.wei')
    assert same_weights(merge(source), merge(source, "straight"))


def test_another_merge_does_not_go_on_in_the_same_folder(
    merge: Callable[..., Path], llamas: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = killed(library.source("ties"), llamas, tmp_path, monkeypatch)
    out = merge(library.source("ties"), parameters={"density": 0.3})
    assert folder.exists()
    assert same_weights(out, merge(library.source("ties"), "straight", parameters={"density": 0.3}))
    os.utime(llamas["expert_a"] / "model.safetensors")  # as if it had been downloaded again
    seen: list[int] = []
    merge(library.source("ties"), "again", progress=lambda done, total: seen.append(done))
    assert seen[0] == 1


def test_two_processes_do_not_write_one_folder(
    merge: Callable[..., Path], llamas: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = killed(library.source("ties"), llamas, tmp_path, monkeypatch)
    with (
        OutputFiles(folder, (), "another"),
        pytest.raises(TargetError, match=r"expected to be alone, got another proc"),
    ):
        merge(library.source("ties"))
    assert (folder / "model.safetensors").exists()  # the other one's work


def wide(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    del tensors["model.norm.weight"]
    return {name: torch.zeros(40, 16) if tensor.shape == (32, 16) else tensor for name, tensor in tensors.items()}


def test_dry_run_finds_everything_at_once(
    llamas: Mapping[str, Path], edited: Callable[..., Path], tmp_path: Path
) -> None:
    experts = {"a": edited(llamas["expert_a"], wide, name="wide"), "b": llamas["expert_b"]}
    found = plan_merge(PROGRAM, base=llamas["base"], experts=experts, max_memory_bytes=1000)
    assert [type(problem) for problem in found.problems] == [ShapeError] * 3 + [OptionError]
    (tmp_path / "out").mkdir()
    told = facts(found, tmp_path / "out")
    assert len(told["problems"]) == 5
    assert told["computed"] == "sandbox"
    assert told["output_bytes"] == (llamas["base"] / "model.safetensors").stat().st_size
    assert set(told["merged"]) == set(load_file(llamas["base"] / "model.safetensors"))
    lines = described(found, tmp_path / "out")
    assert sum(line.startswith("problem: ") for line in lines) == 5
    assert all("\n" not in line for line in lines)
