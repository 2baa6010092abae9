"""What the machine lacks is one line: a device is the user's to choose, memory the host's to have."""

import pytest
import torch

from benchmarks import (
    BenchmarkError,
    BenchmarkUserError,
    DeviceError,
    Part,
    ScriptedEvaluator,
    Suite,
    TransformersEvaluator,
    load_benchmark,
    score,
)
from benchmarks.host import memory_for, usable_device


class Hungry(ScriptedEvaluator):
    """Runs out of memory while answering, in the way it is told."""

    def __init__(self, act):
        super().__init__(lambda *_: "")
        self._act = act

    def answer(self, prompts, **_):
        self._act()


def raising(error):
    def act():
        raise error

    return act


WANTS = {
    "a real one": lambda: torch.empty(1 << 55, dtype=torch.uint8),
    "cuda": raising(torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20.00 MiB.")),
    "python": raising(MemoryError()),
    "cpu": raising(
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: not enough memory: you tried")
    ),
    "cublas": raising(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")),
}


@pytest.mark.parametrize("want", WANTS)
def test_want_of_memory_in_scoring_is_the_hosts_fault_in_one_line(want):
    benchmark = load_benchmark("pocket")
    with pytest.raises(
        BenchmarkError, match=r"^scoring: expected enough memory.*; free some, then try again$"
    ) as caught:
        score(Hungry(WANTS[want]), Suite([Part(benchmark, benchmark.problems("dev")[:2])]))
    assert not isinstance(caught.value, BenchmarkUserError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("not enough memory")]
)
def test_other_faults_pass_through(error):
    with pytest.raises(type(error)) as caught, memory_for("scoring", "free some"):
        raise error
    assert caught.value is error


def test_a_model_that_does_not_fit_is_the_hosts_fault(llama_folder, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(BenchmarkError, match=r"^loading '.*': expected enough memory.*models\.dtype"):
        TransformersEvaluator(llama_folder)


@pytest.mark.parametrize(
    ("name", "gpus", "message"),
    [
        ("cuda", 0, r"^device 'cuda': expected a machine with CUDA, got none torch can see; use device cpu$"),
        ("cuda:2", 2, r"^device 'cuda:2': expected a number below 2, .* got 2; use device cuda$"),
        ("mps", 0, "expected cpu or cuda"),
        ("cuda:", 2, "expected cpu or cuda"),
        ("cuda:x", 2, "expected cpu or cuda"),
        ("", 0, "expected cpu or cuda"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(llama_folder, monkeypatch, name, gpus, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(DeviceError, match=message) as caught:
        TransformersEvaluator(llama_folder, device=name)
    assert "\n" not in str(caught.value)


def test_devices_that_are_there(monkeypatch):
    assert usable_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (usable_device("cuda"), usable_device("cuda:1")) == (torch.device("cuda"), torch.device("cuda:1"))
