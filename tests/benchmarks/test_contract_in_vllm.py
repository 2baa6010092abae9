"""The contract suite of all evaluators over vLLM: the tests are those of `test_evaluators.py`, the models four times as wide, for vLLM's
attention on CPUs has no heads of eight."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from benchmarks import VLLMEvaluator, VLLMSettings
from tests.benchmarks.conftest import WORDS, grouped_llama, llama, save
from tests.benchmarks.test_evaluators import (  # noqa: F401
    test_a_long_shared_prefix_changes_no_answer,
    test_a_swap_gives_the_answers_of_the_model_that_has_these_weights,
    test_a_wrong_swap_is_one_line_and_changes_nothing,
    test_answers_are_those_of_plain_generate,
    test_answers_do_not_depend_on_threads_or_the_order_of_prompts,
    test_end_tokens_and_stop_strings_end_an_answer,
    test_prompts_beyond_the_context_are_refused,
    test_swapped_tensors_are_copied_and_cast,
    test_threads_of_the_caller_are_left_as_they_were,
    test_weights_not_named_are_the_bases_again,
    test_weights_that_are_not_finite_give_wrong_answers_not_errors,
)
from tests.environments import VLLM_CACHE

pytestmark = pytest.mark.full


def wider(model: LlamaForCausalLM) -> LlamaForCausalLM:
    model.config.update({"hidden_size": 128, "head_dim": 32})
    torch.manual_seed(3)
    return LlamaForCausalLM(model.config).eval()


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(3)
    sizes = {"vocab_size": len(WORDS), "n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 128}
    return GPT2LMHeadModel(GPT2Config(**sizes, initializer_range=0.3, eos_token_id=1)).eval()


MODELS = {"tied": lambda: wider(llama()), "untied, grouped": lambda: wider(grouped_llama()), "no llama": gpt2}


@pytest.fixture(scope="module", params=MODELS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model"), MODELS[request.param]())


@pytest.fixture(scope="module")
def llama_folder(folder: Path) -> Path:
    return folder


@pytest.fixture(scope="module")
def resident(folder: Path, vllm_python: Path) -> Iterator[VLLMEvaluator]:
    made = VLLMEvaluator(folder, settings=VLLMSettings(python=vllm_python, memory=1, environment=VLLM_CACHE))
    yield made
    made.close()


@pytest.fixture
def evaluator(resident: VLLMEvaluator) -> VLLMEvaluator:
    resident.restore()
    return resident
