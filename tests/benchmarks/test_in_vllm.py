"""vLLM itself, in its environment, against transformers: the pocket models' dev set, greedy, float32, in the same run.

Both sum in another order, so a near tie of the next token may fall differently: 99 of 100 answers are to be the same, and each test
says how many were.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from benchmarks import (
    BenchmarkError,
    BenchmarkUserError,
    Evaluator,
    ModelFolderError,
    TransformersEvaluator,
    VLLMEvaluator,
    VLLMSettings,
    child,
    load_benchmark,
    vllm_evaluator,
)
from benchmarks.decoding import shared_prefix
from engine.locations import pocket_model
from tests.benchmarks.conftest import llama, save
from tests.environments import VLLM_CACHE

pytestmark = pytest.mark.full

POCKET = load_benchmark("pocket")
PROMPTS = [POCKET.prompt(problem) for problem in POCKET.problems("dev")]
AGREED = 0.99
EXPERT = load_file(pocket_model("expert_a") / "model.safetensors")
PARTS: dict[str, Callable[[str], bool]] = {
    "all": lambda name: True,
    "mlp": lambda name: ".mlp." in name,
    "one q": lambda name: name == "model.layers.1.self_attn.q_proj.weight",
    "one gate": lambda name: name == "model.layers.2.mlp.gate_proj.weight",
    "norms": lambda name: "norm" in name,
    "tied embedding": lambda name: "embed_tokens" in name,
}


def settings(python: Path, **changes: Any) -> VLLMSettings:
    return VLLMSettings(**{"python": python, "memory": 1, "environment": VLLM_CACHE} | changes)


@pytest.fixture(scope="module")
def resident(vllm_python: Path) -> Iterator[VLLMEvaluator]:
    made = VLLMEvaluator(pocket_model("seed"), settings=settings(vllm_python))
    yield made
    made.close()


@pytest.fixture
def vllm(resident: VLLMEvaluator) -> VLLMEvaluator:
    resident.restore()
    return resident


@pytest.fixture(scope="module")
def transformers() -> Iterator[TransformersEvaluator]:
    made = TransformersEvaluator(pocket_model("seed"))
    yield made
    made.close()


def answers(evaluator: Evaluator) -> list[str]:
    return evaluator.answer(PROMPTS, max_new_tokens=POCKET.max_new_tokens, stop=POCKET.stop)


def ids(evaluator: VLLMEvaluator) -> list[list[int]]:
    return evaluator.answer_ids(PROMPTS, POCKET.max_new_tokens, POCKET.stop)


def chosen(part: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in EXPERT.items() if PARTS[part](name)}


def agree(ours: list[str], theirs: list[str]) -> None:
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    print(f"{same} of {len(theirs)} answers the same")
    assert same >= AGREED * len(theirs), f"{same} of {len(theirs)}"


def test_the_same_model_gives_the_same_answers(vllm: VLLMEvaluator, transformers: TransformersEvaluator) -> None:
    transformers.restore()
    theirs = answers(transformers)
    assert len(set(theirs)) > 100
    agree(answers(vllm), theirs)


@pytest.mark.parametrize("part", PARTS)
def test_a_swap_gives_the_answers_of_the_same_swap_in_transformers(
    vllm: VLLMEvaluator, transformers: TransformersEvaluator, part: str
) -> None:
    before = answers(vllm)
    vllm.swap(chosen(part))
    transformers.swap(chosen(part))
    ours = answers(vllm)
    assert ours != before
    agree(ours, answers(transformers))


def test_swapping_back_restores_every_token(vllm: VLLMEvaluator) -> None:
    before = ids(vllm)
    vllm.swap(chosen("all"))
    swapped = ids(vllm)
    assert swapped != before
    vllm.swap(chosen("mlp"))
    vllm.restore()
    assert ids(vllm) == before
    vllm.swap(chosen("all"))
    assert ids(vllm) == swapped


def test_an_answer_does_not_depend_on_what_was_asked_before(vllm: VLLMEvaluator) -> None:
    alone = [vllm.answer_ids([prompt], POCKET.max_new_tokens, POCKET.stop) for prompt in PROMPTS[:10]]
    ids(vllm)
    again = [vllm.answer_ids([prompt], POCKET.max_new_tokens, POCKET.stop) for prompt in PROMPTS[:10][::-1]]
    assert again[::-1] == alone


def test_a_prefix_that_was_read_before_a_swap_is_read_again(
    vllm: VLLMEvaluator, transformers: TransformersEvaluator
) -> None:
    """More than a block of vLLM's cache, which has 128 tokens, is the same in all prompts."""
    problems = POCKET.problems("dev")
    shown = "".join(f"{POCKET.prompt(problem)}{problem.answer}\n\n" for problem in problems[:9])
    examples = vllm._texts.decode(vllm._texts.encode([shown])[0][:140])
    prompts = [f"{examples} {number}" for number in range(40)]
    assert shared_prefix(vllm._texts.encode(prompts)) > 128

    def short(evaluator: Evaluator) -> list[str]:
        return evaluator.answer(prompts, max_new_tokens=32, stop=POCKET.stop)

    before = short(vllm)
    vllm.swap(chosen("all"))
    transformers.swap(chosen("all"))
    ours = short(vllm)
    assert ours != before
    agree(ours, short(transformers))


def test_a_vllm_that_is_killed_in_the_middle_of_an_answer_is_survived(
    vllm: VLLMEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    vllm.swap(chosen("all"))
    expected, restarts, whole = long(vllm), vllm.restarts, child.receive

    def deadly(connection: socket.socket) -> dict[str, Any]:
        frame = whole(connection)
        if "alive" in frame:
            monkeypatch.undo()
            assert vllm._process._child is not None
            os.kill(vllm._process._child.pid, signal.SIGKILL)
        return frame

    monkeypatch.setattr(child, "receive", deadly)
    assert long(vllm) == expected
    assert vllm.restarts == restarts + 1


def long(evaluator: VLLMEvaluator) -> list[list[int]]:
    """Answers that take several seconds, so that signs of life come before them."""
    return evaluator.answer_ids(PROMPTS * 5, POCKET.max_new_tokens, POCKET.stop)


def test_two_processes_share_the_model(vllm_python: Path, transformers: TransformersEvaluator) -> None:
    before_all = in_shared_memory()
    vllm = VLLMEvaluator(pocket_model("seed"), settings=settings(vllm_python, tensor_parallel=2))
    try:
        before = ids(vllm)
        for part in ("all", "mlp", "one q"):
            vllm.swap(chosen(part))
            transformers.swap(chosen(part))
            agree(answers(vllm), answers(transformers))
        vllm.restore()
        assert ids(vllm) == before
    finally:
        vllm.close()
    assert in_shared_memory() <= before_all


def in_shared_memory() -> set[str]:
    """What lies in shared memory, less what the database server of a test beside this one keeps there."""
    return {name for name in os.listdir("/dev/shm") if not name.startswith("PostgreSQL.")}


@pytest.mark.parametrize(("parallel", "words"), [(1, "Unsupported CPU attention"), (3, "must be divisible by tensor")])
def test_a_model_that_vllm_cannot_run_is_the_users_to_change(
    vllm_python: Path, tmp_path: Path, parallel: int, words: str
) -> None:
    narrow = save(tmp_path / "narrow", llama())  # heads of eight
    with pytest.raises(ModelFolderError, match=rf"expected one that vLLM can run, got: .*{words}.*; use evaluator"):
        VLLMEvaluator(narrow, settings=settings(vllm_python, tensor_parallel=parallel))


def test_half_a_matrix_that_is_not_read_again_is_found_at_the_start(
    vllm_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were names grouped wrongly, or a model packed in another way, a swap would leave chance in its weights."""
    monkeypatch.setattr(vllm_evaluator, "halves", lambda names: (list(names)[::2], list(names)[1::2]))
    with pytest.raises(ModelFolderError, match="expected the same answers after vLLM has read its weights again"):
        VLLMEvaluator(pocket_model("seed"), settings=settings(vllm_python))


def test_want_of_memory_is_one_line(vllm_python: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"expected enough memory, got none \(") as caught:
        VLLMEvaluator(pocket_model("seed"), settings=settings(vllm_python, memory=100_000))
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, BenchmarkUserError)
