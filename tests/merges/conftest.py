"""A sandbox for the whole session, jobs from plain tensors, and tiny model folders made on the spot."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from merges import library
from sandbox import Sandbox, TensorJob

Run = Callable[..., Tensor]


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as started:
        yield started


@pytest.fixture(scope="session")
def run(sandbox: Sandbox) -> Run:
    """run(program name or source, vectors, base=None, seed=0, **hyper-parameters) -> merged task vector."""

    def execute(program: str, vectors: list[Tensor], *, base: Tensor | None = None, seed: int = 0, **parameters: float):
        source = program if "\n" in program else library.source(program)
        named = {f"model_{i}": vector for i, vector in enumerate(vectors)}
        zeros = torch.zeros_like(vectors[0]) if base is None else base
        job = TensorJob(name="model.layers.0.mlp.weight", depth=0.0, vectors=named, base=zeros, seed=seed)
        result = sandbox.execute(source, [job], parameters)
        assert result.ok, f"{result.reason}: {result.detail}"
        return result.outputs[job.name]

    return execute
