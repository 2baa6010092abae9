"""Which evaluator a campaign or a command uses, and with how many threads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from benchmarks.evaluators import Evaluator, TransformersEvaluator
from benchmarks.vllm_evaluator import VLLMEvaluator
from benchmarks.vllm_process import VLLMSettings
from engine.config import EvaluatorSection, ModelsSection
from engine.errors import ConfigError


def thread_count(models: ModelsSection) -> int:
    """Threads for scoring and training: as configured, else one per core, at most 16."""
    return models.threads or max(1, min(os.cpu_count() or 1, 16))


def open_evaluator(
    section: EvaluatorSection, models: ModelsSection, base: str | Path, *, batch: int | None = None
) -> Evaluator:
    """The evaluator that `section` names, holding `base`, with the dtype, device and threads of `models`.

    Args:
        batch: prompts decoded together; None: the evaluator's own default.

    Raises:
        BenchmarkUserError: the model cannot be loaded, or the machine has not what is asked for.
    """
    dtype = getattr(torch, models.dtype)
    if section.kind == "vllm":
        if batch is not None:
            raise ConfigError(
                f"benchmark.batch: expected none with evaluator.kind 'vllm', which batches by itself, got {batch}; leave it out"
            )
        settings = VLLMSettings(
            python=section.python,
            tensor_parallel=section.tensor_parallel,
            memory=section.memory,
            threads=models.threads or 1,  # on a busy machine two of its threads wait for each other
        )
        return VLLMEvaluator(base, dtype=dtype, settings=settings)
    options: dict[str, Any] = {"batch_size": batch} if batch else {}
    return TransformersEvaluator(base, dtype=dtype, threads=thread_count(models), device=models.device, **options)
