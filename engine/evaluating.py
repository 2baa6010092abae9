"""Which evaluator a campaign or a command uses, and with how many threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from benchmarks.evaluators import Evaluator, TransformersEvaluator
from benchmarks.vllm_evaluator import VLLMEvaluator
from benchmarks.vllm_process import VLLMSettings
from engine.config import EvaluatorSection, ModelsSection
from merges.cores import usable_cores


def thread_count(models: ModelsSection) -> int:
    """Threads for scoring and training: as configured, else one per core that this process may use, at most 16."""
    return models.threads or min(usable_cores(), 16)


def vllm_settings(section: EvaluatorSection) -> VLLMSettings:
    """How vLLM is run, for an evaluator and for a generator alike."""
    return VLLMSettings(
        python=section.python,
        tensor_parallel=section.tensor_parallel,
        memory=section.memory,
        threads=section.threads,
        eager=section.eager,
    )


def open_evaluator(
    section: EvaluatorSection, models: ModelsSection, base: str | Path, *, batch: int | None = None
) -> Evaluator:
    """The evaluator that `section` names, holding `base`, with the dtype, device and threads of `models`.

    Args:
        batch: prompts decoded together; None: the evaluator's own default. vLLM batches by itself.

    Raises:
        BenchmarkUserError: the model cannot be loaded, or the machine has not what is asked for.
    """
    dtype = getattr(torch, models.dtype)
    if section.kind == "vllm":
        return VLLMEvaluator(base, dtype=dtype, settings=vllm_settings(section))
    options: dict[str, Any] = {"batch_size": batch} if batch else {}
    return TransformersEvaluator(base, dtype=dtype, threads=thread_count(models), device=models.device, **options)
