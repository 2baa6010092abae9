"""One warm sandbox for the whole run, and small seeded jobs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from sandbox import Limits, Sandbox, TensorJob


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # the sandbox runs on one; sums must be split alike


@pytest.fixture(scope="session")
def box() -> Iterator[Sandbox]:
    with Sandbox(Limits(wall_seconds=30, cpu_seconds=30)) as sandbox:
        yield sandbox


@pytest.fixture
def jobs() -> list[TensorJob]:
    """Three shapes, three models; the names that honest programs look for."""
    made = []
    for index, (name, shape) in enumerate(
        {"layers.3.attn.weight": (6, 4), "layers.7.mlp": (4, 9), "norm.bias": (5,)}.items()
    ):
        generator = torch.Generator().manual_seed(index)
        vectors = {model: torch.randn(shape, generator=generator) for model in ("math", "code", "chat")}
        made.append(TensorJob(name, index / 2, vectors, torch.randn(shape, generator=generator), 1000 + index))
    return made
