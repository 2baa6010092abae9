"""The child's side, with a vLLM of thirty lines in place of the real one: what it asks of vLLM, and what it makes of the outcome."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import vllm_worker
from benchmarks.child import receive, send
from benchmarks.model_folder import ModelFolder
from benchmarks.vllm_worker import SharedWeights
from benchmarks.weight_buffer import Layout, attach, reserve

Script = Callable[[list[int], dict[str, torch.Tensor]], list[int]]
"""Tokens that follow a prompt, given the weights."""


class Runner:
    """Of one worker of vLLM: `reload_weights` keeps what it read last."""

    def __init__(self, modules: Iterable[str]) -> None:
        self.weights: dict[str, torch.Tensor] = {}
        self.model = torch.nn.ModuleDict({name: torch.nn.Identity() for name in modules})

    def get_model(self) -> torch.nn.Module:
        return self.model

    def reload_weights(self, weights_iterator: Iterable[tuple[str, torch.Tensor]]) -> None:
        self.weights = {name: tensor.clone() for name, tensor in weights_iterator}


class Engine:
    """Two tokens a request and step."""

    def __init__(self, llm: FakeLLM) -> None:
        self.llm, self.running, self.ids, self.aborted = llm, {}, [], []
        self.model_config = SimpleNamespace(max_model_len=77)

    def add_request(self, request_id: str, prompt: dict[str, list[int]], params: SimpleNamespace) -> None:
        assert set(params.stop_token_ids) == {1}
        assert (params.temperature, params.ignore_eos, params.detokenize) == (0, True, False)
        tokens = self.llm.script(prompt["prompt_token_ids"], self.llm.workers[0].model_runner.weights)
        self.running[request_id] = tokens[: params.max_tokens]
        self.ids.append(request_id)

    def has_unfinished_requests(self) -> bool:
        return bool(self.running)

    def step(self) -> list[SimpleNamespace]:
        outputs = []
        for request_id, tokens in list(self.running.items()):
            now, left = tokens[:2], tokens[2:]
            outputs.append(SimpleNamespace(request_id=request_id, outputs=[SimpleNamespace(token_ids=now)]))
            self.running[request_id] = left
            if not left:
                del self.running[request_id]
        return outputs

    def abort_request(self, request_ids: list[str]) -> None:
        self.aborted += request_ids
        for request_id in request_ids:
            self.running.pop(request_id, None)


class FakeLLM:
    """`vllm.LLM`, as far as we use it."""

    script: Script = staticmethod(lambda prompt, weights: [])
    modules: tuple[str, ...] = ("lm_head",)
    failure: Exception | None = None
    resets = True

    def __init__(self, model: str, **settings: Any) -> None:
        if self.failure:
            raise self.failure
        self.model, self.settings, self.forgotten = model, settings, 0
        self.workers = [SharedWeights() for _ in range(settings["tensor_parallel_size"])]
        for worker in self.workers:
            worker.model_runner = Runner(self.modules)
        self.llm_engine = Engine(self)
        type(self).last = self

    def collective_rpc(self, method: str, args: tuple[Any, ...]) -> list[Any]:
        return [getattr(worker, method)(*args) for worker in self.workers]

    def reset_prefix_cache(self) -> bool:
        self.forgotten += 1
        return self.resets


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeLLM]:
    """vLLM for this process, on a CPU; its class can be changed."""
    kind = type("Fake", (FakeLLM,), {})
    parts: dict[str, dict[str, Any]] = {
        "vllm": {"LLM": kind, "SamplingParams": SimpleNamespace, "__version__": "9"},
        "vllm.platforms": {"current_platform": SimpleNamespace(is_cpu=lambda: True)},
        "vllm.sampling_params": {"RequestOutputKind": SimpleNamespace(DELTA="delta")},
    }
    for name, members in parts.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return kind


@pytest.fixture
def talk(llama_folder: Path) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """talk(*requests, **of the first, a load) -> replies; `talk.views` is the shared memory."""
    folder = ModelFolder(llama_folder)
    layout = Layout(folder.shapes, "float32")
    memory = reserve(layout)

    def say(*requests: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
        load = {
            "do": "load",
            "model": str(llama_folder),
            "dtype": "float32",
            "shapes": list(folder.shapes.items()),
            "aliases": {"lm_head.weight": "model.embed_tokens.weight"},
            "rows": folder.rows,
            "end_ids": [1],
            "memory": memory,
            "memory_share": None,
            "tensor_parallel": 1,
            "eager": True,
        }
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for request in ({**load, **changes}, *requests):
                send(ours, request)
            ours.shutdown(socket.SHUT_WR)
            vllm_worker.serve(theirs)
            theirs.close()
            return list(frames(ours))

    say.views = attach(memory, layout)  # type: ignore[attr-defined]
    yield say
    os.close(memory)


PROVE = {"do": "prove", "halves": [["model.embed_tokens.weight"], ["model.norm.weight"]]}


def frames(connection: socket.socket) -> Iterator[dict[str, Any]]:
    while True:
        try:
            yield receive(connection)
        except ConnectionError:
            return


def question(*prompts: list[int], max_new_tokens: int = 9, **stop: Any) -> dict[str, Any]:
    how = {"strings": [], "final_line": False} | stop
    return {"do": "answer", "prompts": list(prompts), "max_new_tokens": max_new_tokens, "stop": how}


def test_the_model_is_loaded_as_asked(fake: type[FakeLLM], talk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert talk(tensor_parallel=2, eager=False) == [{"context": 77, "version": "9"}]
    settings = fake.last.settings
    assert settings["worker_extension_cls"] == "benchmarks.vllm_worker.SharedWeights"
    assert (settings["tensor_parallel_size"], settings["enforce_eager"], settings["dtype"]) == (2, False, "float32")
    assert settings["kv_cache_memory_bytes"] == 2 << 30
    talk(memory_share=0.5)
    assert fake.last.settings["kv_cache_memory_bytes"] == 1 << 29
    monkeypatch.setattr(sys.modules["vllm.platforms"].current_platform, "is_cpu", lambda: False)
    talk(memory_share=0.5)
    assert fake.last.settings["gpu_memory_utilization"] == 0.5
    talk()
    assert not {"gpu_memory_utilization", "kv_cache_memory_bytes"} & set(fake.last.settings)


def test_a_swap_reaches_every_worker_under_every_name_that_it_knows(fake: type[FakeLLM], talk: Any) -> None:
    talk.views["model.embed_tokens.weight"].fill_(3.0)
    swap = {"do": "swap", "names": ["model.embed_tokens.weight", "model.norm.weight"]}
    assert talk(swap, tensor_parallel=2) == [{"context": 77, "version": "9"}] * 2
    for worker in fake.last.workers:
        weights = worker.model_runner.weights
        assert list(weights) == ["model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"]
        assert torch.all(weights["lm_head.weight"] == 3.0)
    fake.modules = ()
    talk(swap)
    assert "lm_head.weight" not in fake.last.workers[0].model_runner.weights


def test_an_answer_ends_before_an_end_token_and_with_the_token_that_ends_its_text(
    fake: type[FakeLLM], talk: Any
) -> None:
    fake.script = staticmethod(lambda prompt, weights: [*prompt, 10, 1, 11, 12])
    (_, reply) = talk(question([20, 21, 22], [30], [39], strings=["5"]))
    five = 4 + 26 + 5
    assert reply == {"answers": [[20, 21, 22, 10], [30, 10], [39, 10]]}
    (_, reply) = talk(question([five, 20], [20, five, 21], [20, 21, 22, 23, 24], strings=["5"], max_new_tokens=4))
    assert reply == {"answers": [[five], [20, five], [20, 21, 22, 23]]}
    assert len(fake.last.llm_engine.aborted) == 2


def test_prefixes_are_forgotten_before_every_answer_and_no_number_is_given_twice(
    fake: type[FakeLLM], talk: Any
) -> None:
    fake.script = staticmethod(lambda prompt, weights: [5])
    assert talk(question([2], [3]), question([4]))[1:] == [{"answers": [[5], [5]]}, {"answers": [[5]]}]
    ids = fake.last.llm_engine.ids
    assert ids == ["0", "1", "2"]
    assert fake.last.forgotten == 2
    fake.resets = False
    with pytest.raises(RuntimeError, match="did not reset its prefix cache"):
        talk(question([2]))


def test_a_model_that_is_another_after_its_own_weights_are_read_again_is_refused(
    fake: type[FakeLLM], talk: Any
) -> None:
    fake.script = staticmethod(lambda prompt, weights: [5, 6, 9 if weights else 7])
    assert talk(PROVE) == [{"context": 77, "version": "9"}] * 2, "near ties may fall differently"
    fake.script = staticmethod(lambda prompt, weights: [5, 8 if weights else 6, 9 if weights else 7])
    (_, reply) = talk(PROVE)
    assert reply["kind"] == "ModelFolderError"
    assert "expected the same answers after vLLM has read its weights again, got others" in reply["error"]


def test_what_is_not_read_again_is_not_by_chance_what_it_was(
    fake: type[FakeLLM], talk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh: list[torch.Tensor] = []
    monkeypatch.setattr(Runner, "reload_weights", lambda self, weights_iterator: fresh.append(torch.empty(3)))
    talk(PROVE, {"do": "swap", "names": []})
    assert [bool(one.isnan().all()) for one in fresh[:2]] == [True, True]
    assert len(fresh) == 3
    assert not torch.are_deterministic_algorithms_enabled()


def test_signs_of_life_go_before_a_long_answer(fake: type[FakeLLM], talk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_worker, "SIGN_OF_LIFE_SECONDS", 0.0)
    fake.script = staticmethod(lambda prompt, weights: [5, 6, 7, 8])
    assert talk(question([2]))[1:] == [{"alive": True}, {"alive": True}, {"answers": [[5, 6, 7, 8]]}]


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (ValueError("Model architectures ['X'] are\nnot supported"), "ModelFolderError", "got: Model architectures ['X'] are not supported;"),
        (NotImplementedError(), "ModelFolderError", "got: NotImplementedError;"),
        (ValueError("No available memory for the cache blocks."), "BenchmarkError", "expected enough memory, got none (No available"),
        (MemoryError("12 GiB"), "BenchmarkError", "expected enough memory, got none (12 GiB)"),
    ],
)  # fmt: skip
def test_what_vllm_refuses_is_a_reply(
    fake: type[FakeLLM], talk: Any, failure: Exception, kind: str, words: str
) -> None:
    fake.failure = failure
    (reply,) = talk()
    assert reply["kind"] == kind
    assert words in reply["error"]
    assert "\n" not in reply["error"]


def test_a_vllm_that_cannot_read_weights_from_memory_is_refused(fake: type[FakeLLM], talk: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(Runner, "reload_weights", lambda self: None)
    (reply,) = talk()
    assert reply["kind"] == "BenchmarkUserError"
    assert "weights can be overwritten from memory, got 9; install a newer one" in reply["error"]


def test_want_of_memory_is_a_reply_and_every_other_fault_ends_the_process(fake: type[FakeLLM], talk: Any) -> None:
    def fails(words: str) -> Script:
        def script(prompt: list[int], weights: dict[str, torch.Tensor]) -> list[int]:
            raise RuntimeError(words)

        return script

    fake.script = staticmethod(fails("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"))
    (_, reply) = talk(question([2]))
    assert reply["kind"] == "BenchmarkError"
    assert "expected enough memory, got none (DefaultCPUAllocator: not enough" in reply["error"]
    fake.script = staticmethod(fails("engine core died"))
    with pytest.raises(RuntimeError, match="engine core died"):
        talk(question([2]))
    (_, reply) = talk(PROVE)
    assert reply["kind"] == "ModelFolderError", "a model that cannot even answer once was never one for vLLM"


def test_names_of_shared_memory_that_vllm_leaves_are_removed(
    fake: type[FakeLLM], talk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ident = f"test_{os.getpid()}"
    left, other = (Path("/dev/shm") / f"{name}-tp:0-[0-1]-cpushm_0" for name in (ident, f"other_{ident}"))
    monkeypatch.setenv("VLLM_DIST_IDENT", ident)
    try:
        left.touch()
        other.touch()
        talk()
        assert not left.exists()
        assert other.exists()
    finally:
        other.unlink()
        left.unlink(missing_ok=True)


def test_the_process_ends_with_its_connection() -> None:
    """The real child, which here never gets as far as vLLM."""
    import subprocess

    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "benchmarks.vllm_worker", str(theirs.fileno())]
        child = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)
    ours.close()
    assert child.wait(60) == 0


def test_a_busy_process_ends_soon_after_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    killed, ended = [], threading.Event()
    monkeypatch.setattr(vllm_worker, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(vllm_worker.os, "killpg", lambda *arguments: (killed.append(arguments), ended.set()))
    ours, theirs = socket.socketpair()
    with theirs:
        watch = threading.Thread(target=vllm_worker.end_with, args=(theirs,))
        watch.start()
        assert not ended.is_set()
        ours.close()
        watch.join(60)
    assert killed == [(0, 9)]
