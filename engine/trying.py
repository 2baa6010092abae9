"""`try`: one program, in the full sandbox, on tensors of the user's or on three small seeded random models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from engine.assess import STATIC_REASONS
from engine.errors import UserError
from merges.checkpoints import depth_of, layer_count
from merges.contract import program_id
from merges.task_vectors import tensor_seed
from sandbox import ExecutionResult, Sandbox, TensorJob

BASE = "base"
RANDOM_SEED = 0
RANDOM_SHAPES = {
    "model.embed_tokens.weight": (32, 16),
    "model.layers.0.mlp.up_proj.weight": (48, 16),
    "model.layers.1.mlp.down_proj.weight": (16, 48),
    "model.norm.weight": (16,),
}


@dataclass(frozen=True)
class TrialRun:
    """What `try` prints, and the merged task vectors under their parameter names (None unless ok)."""

    facts: dict[str, Any]
    outputs: dict[str, torch.Tensor] | None


def run_trial(source: str, jobs: list[TensorJob], parameters: Mapping[str, float], sandbox: Sandbox) -> TrialRun:
    """Run `source` over `jobs` in an open sandbox; facts have the fixed form of `try --json`."""
    jobs = [
        TensorJob(j.name, j.depth, j.vectors, j.base, tensor_seed(RANDOM_SEED, program_id(source), j.name))
        for j in jobs
    ]
    result = sandbox.execute(source, jobs, parameters)
    return TrialRun(_facts(result), dict(result.outputs) if result.outputs is not None else None)


def _facts(result: ExecutionResult) -> dict[str, Any]:
    verdict = "ok" if result.ok else "rejected" if result.reason in STATIC_REASONS else "failed"
    return {
        "verdict": verdict,
        "reason": result.reason.value if result.reason else None,
        "detail": result.detail,
        "line": result.line,
        "seconds": result.seconds,
        "peak_memory_bytes": result.peak_memory_bytes,
        "isolation": {"level": result.isolation.level, "missing": list(result.isolation.missing)},
        "sha256": result.sha256,
    }


def read_tensors(path: Path | None) -> list[TensorJob]:
    """Jobs from a safetensors file with keys `<model name>/<parameter name>`; None: three small random models.

    Raises:
        UserError: the file cannot be read, or its keys, shapes or dtypes do not make a merge.
    """
    if path is None:
        return _random_jobs()
    try:
        with safe_open(path, framework="pt") as handle:
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise UserError(f"tensors '{path}': expected a safetensors file, got: {error}; check the path") from error
    by_parameter: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        model, slash, parameter = key.partition("/")
        if not slash or not model or not parameter:
            raise UserError(f"tensors '{path}': key '{key}': expected <model name>/<parameter name>; rename it")
        if not tensor.is_floating_point():
            raise UserError(f"tensors '{path}': key '{key}': expected a floating dtype, got {tensor.dtype}; convert it")
        by_parameter.setdefault(parameter, {})[model] = tensor.to(torch.float32).contiguous()
    layers = layer_count(by_parameter)  # of what the file holds: it does not say how deep its model was
    return [_job(path, parameter, models, layers) for parameter, models in sorted(by_parameter.items())]


def _job(path: Path, parameter: str, models: dict[str, torch.Tensor], layers: int) -> TensorJob:
    base = models.pop(BASE, None)
    if not models:
        raise UserError(
            f"tensors '{path}': parameter '{parameter}': expected at least one model's task vector, got the base only; add <model name>/{parameter}"
        )
    shape = next(iter(models.values())).shape
    for model, tensor in [*models.items(), *([(BASE, base)] if base is not None else [])]:
        if tensor.shape != shape:
            raise UserError(
                f"tensors '{path}': '{model}/{parameter}': expected shape {tuple(shape)} as in the others, got {tuple(tensor.shape)}; mend the file"
            )
    return TensorJob(parameter, depth_of(parameter, layers), models, base, 0)


def _random_jobs() -> list[TensorJob]:
    generator = torch.Generator().manual_seed(RANDOM_SEED)
    jobs = []
    for parameter, shape in RANDOM_SHAPES.items():
        models = {
            name: scale * torch.randn(shape, generator=generator)
            for name, scale in (("expert_a", 0.01), ("expert_b", 0.02), ("expert_c", 0.005))
        }
        jobs.append(
            TensorJob(
                parameter,
                depth_of(parameter, layer_count(RANDOM_SHAPES)),
                models,
                0.1 * torch.randn(shape, generator=generator),
                0,
            )
        )
    return jobs
