"""From checkpoints to what the sandbox runs: one job per parameter tensor, task vectors in float32.

Random numbers come from H(run seed, program, tensor name) (BLAKE3), so a result does not depend on the order of the
tensors, on workers or on devices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from blake3 import blake3
from torch import Tensor

from merges.checkpoints import depth_of
from merges.errors import CheckpointError, OptionError, ShapeError
from merges.weights import Weights
from sandbox import TensorJob

__all__ = ["check_compatible", "mergeable", "misfits", "reseeded", "task_jobs", "tensor_seed"]


def mergeable(base: Weights, names: Iterable[str]) -> tuple[str, ...]:
    """Those of `names` that are floating point in the base; integer tensors (masks, positions) are always copied."""
    return tuple(name for name in names if base.dtypes[name].is_floating_point)


def check_compatible(base: Weights, experts: Mapping[str, Weights], names: Iterable[str]) -> None:
    """See that every expert has every merged tensor in the base's shape. Tensors outside `names` may differ.

    Raises:
        ShapeError: the first tensor that does not fit, and how many more there are.
    """
    problems = misfits(base, experts, names)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ShapeError(problems[0] + more)


def misfits(base: Weights, experts: Mapping[str, Weights], names: Iterable[str]) -> list[str]:
    """One line for every tensor of every expert that does not fit the base's."""
    tables = [(expert, model, model.shapes) for expert, model in experts.items()]
    expected = base.shapes
    return [
        problem
        for name in names
        for expert, model, shapes in tables
        if shapes.get(name) != expected[name] and (problem := _misfit(base, expert, model, name))
    ]


def tensor_seed(run_seed: int, program_id: str, tensor_name: str) -> int:
    """Seed of one tensor in one run of one program: 63 bits, never negative, so it fits a signed 64-bit column."""
    text = f"tensor seed\x00{run_seed}\x00{program_id}\x00{tensor_name}"
    return int.from_bytes(blake3(text.encode()).digest(length=8), "little") >> 1


def reseeded(jobs: Iterable[TensorJob], *, run_seed: int, program_id: str) -> list[TensorJob]:
    """The same jobs, tensors shared, seeded for another program: a campaign builds its task vectors once."""
    return [replace(job, seed=tensor_seed(run_seed, program_id, job.name)) for job in jobs]


def task_jobs(
    base: Weights,
    experts: Mapping[str, Weights],
    names: Sequence[str],
    *,
    run_seed: int,
    program_id: str,
    order: Sequence[str] | None = None,
    with_base: bool = True,
) -> list[TensorJob]:
    """Read the task vectors (expert - base) of the named tensors.

    Args:
        base: the seed model.
        experts: expert name -> checkpoint, already found compatible.
        names: tensors to read; each costs (experts + 1) float32 copies of memory.
        run_seed: seed of the run, see `tensor_seed`.
        program_id: id of the program the jobs are for; `reseeded` serves others.
        order: expert names in the order the program shall see them; None takes the mapping's order.
        with_base: also hand over the base's tensor, for programs that declare `base`.

    Raises:
        OptionError: `order` is not a permutation of the experts.
        CheckpointError: a tensor cannot be read or holds NaN or infinity.
    """
    chosen = tuple(experts) if order is None else tuple(order)
    if sorted(chosen) != sorted(experts):
        raise OptionError(f"order: expected each of {sorted(experts)} once, got {list(chosen)}; correct the order")
    jobs = []
    for name in names:
        seed_tensor = _finite(base, "the base", name, base.read(name))
        vectors = {expert: _task_vector(experts[expert], expert, name, base, seed_tensor) for expert in chosen}
        jobs.append(
            TensorJob(
                name=name,
                depth=depth_of(name, base.n_layers),
                vectors=vectors,
                base=seed_tensor if with_base else None,
                seed=tensor_seed(run_seed, program_id, name),
            )
        )
    return jobs


def _misfit(base: Weights, expert: str, checkpoint: Weights, name: str) -> str | None:
    stored = checkpoint.resolve(name)
    expected = base.shapes[name]
    if stored is None:
        return (
            f"tensor {name!r}: expected shape {expected} as in the base, got no such tensor in expert {expert!r}; "
            "give an expert of the same architecture or leave the tensor out of the selection"
        )
    got = checkpoint.shapes[stored]
    if got != expected:
        return (
            f"tensor {name!r}: expected shape {expected} as in the base, got {got} in expert {expert!r}; "
            "resize embeddings before merging or leave the tensor out of the selection"
        )
    return None


def _task_vector(expert: Weights, called: str, name: str, base: Weights, seed_tensor: Tensor) -> Tensor:
    known = expert.change(name, 0, seed_tensor.numel(), base)
    if known is None:
        return _finite(expert, repr(called), name, expert.read(name)).sub_(seed_tensor)
    return _finite(expert, repr(called), name, known.reshape(seed_tensor.shape).clone())


def _finite(checkpoint: Weights, owner: str, name: str, values: Tensor) -> Tensor:
    tensor = values.to(torch.float32).contiguous()
    if not torch.isfinite(tensor).all():
        raise CheckpointError(
            f"tensor {name!r} of {owner} ({checkpoint.path}): expected finite values, got NaN or infinity; "
            "download it again or leave the tensor out of the selection"
        )
    return tensor
