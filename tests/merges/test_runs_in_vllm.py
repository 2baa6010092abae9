"""Folders that `apply` wrote, loaded by vLLM in an environment of its own: its greedy answers are those of transformers on the same folder.

Two kinds: the pocket models (Llama, tied embeddings, bfloat16, one file) and small Qwen2s (biases, an own head, float32, three shards). Both are computed in
float32: in bfloat16 the two sum in another order, and near ties of the next token fall differently.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from benchmarks.pocket import format_prompt, load
from engine.locations import pocket_model
from merges import layout, library, plan
from merges.apply import apply_program
from sandbox import Sandbox
from tests.environments import VLLM_SETTINGS, outside

pytestmark = pytest.mark.full

PROBLEMS = 20
NEW_TOKENS = 48
END = 2

ANSWER = """\
import json, sys
from vllm import LLM, SamplingParams
folder, out = sys.argv[1:]
job = json.load(sys.stdin)
model = LLM(folder, dtype="float32", enforce_eager=True, seed=0)
answers = model.generate(job["prompts"], SamplingParams(temperature=0, max_tokens=job["new_tokens"]), use_tqdm=False)
with open(out, "w") as file:
    json.dump([list(answer.outputs[0].token_ids) for answer in answers], file)
"""

Answers = list[list[int]]
"""Tokens, the end token included."""


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    return [format_prompt(problem.question) for problem in load("dev")[:PROBLEMS]]


@pytest.fixture
def in_vllm(vllm_python: Path, prompts: list[str], tmp_path: Path) -> Callable[[Path], Answers]:
    """in_vllm(folder) -> its answers."""

    def answer(folder: Path) -> Answers:
        out = tmp_path / "answers.json"
        done = subprocess.run(
            [vllm_python, "-c", ANSWER, folder, out],
            input=json.dumps({"prompts": prompts, "new_tokens": NEW_TOKENS}),
            env={**outside(), **VLLM_SETTINGS},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        answers: Answers = json.loads(out.read_text())
        return answers

    return answer


def in_transformers(folder: Path, prompts: list[str]) -> Answers:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    answers, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    for prompt in prompts:
        asked = tokenizer(prompt, return_tensors="pt")["input_ids"]
        whole = model.generate(
            asked, attention_mask=torch.ones_like(asked), do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=0
        )
        answers.append(whole[0, asked.shape[1] :].tolist())
    torch.set_num_threads(threads)
    return answers


def merged(base: Path, experts: Mapping[str, Path], out: Path, sandbox: Sandbox) -> Path:
    apply_program(library.source("ties"), base=base, experts=experts, out=out, sandbox=sandbox)
    return out


def test_a_merge_of_the_pocket_models_answers_in_vllm_as_in_transformers(
    in_vllm: Callable[[Path], Answers], prompts: list[str], sandbox: Sandbox, tmp_path: Path
) -> None:
    experts = {name: pocket_model(name) for name in ("expert_a", "expert_b", "expert_c")}
    folder = merged(pocket_model("seed"), experts, tmp_path / "merged", sandbox)
    theirs = in_transformers(folder, prompts)
    assert theirs != in_transformers(pocket_model("seed"), prompts), "the merge is to change answers"
    assert in_vllm(folder) == theirs
    assert all(answer[-1] == END for answer in theirs), "they are answers, each brought to its end"


@pytest.fixture
def qwens(tmp_path: Path) -> list[Path]:
    """Three small random Qwen2s in float32, the second and third near the first, with the pocket models' tokenizer."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=756,
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=192,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        dtype="float32",
    )
    torch.manual_seed(0)
    model, folders = Qwen2ForCausalLM(config), []
    for number in range(3):
        for parameter in model.parameters():  # biases start as zeros, norms as ones
            parameter.data += (0.1 if number == 0 else 0.02) * torch.randn_like(parameter)
        folders.append(tmp_path / f"qwen_{number}")
        model.save_pretrained(folders[-1])
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(pocket_model("seed") / name, folders[-1])
    return folders


def test_a_sharded_merge_with_an_own_head_answers_in_vllm_as_in_transformers(
    in_vllm: Callable[[Path], Answers],
    prompts: list[str],
    qwens: list[Path],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(plan, "plan_shards", lambda entries, limit: layout.plan_shards(entries, 1_000_000))
    folder = merged(qwens[0], {"a": qwens[1], "b": qwens[2]}, tmp_path / "merged", sandbox)
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 1
    theirs = in_transformers(folder, prompts)
    assert theirs != in_transformers(qwens[0], prompts), "the merge is to change answers"
    assert in_vllm(folder) == theirs
