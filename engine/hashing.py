"""Hashes of what a run stands on: weights, problems, seeds. BLAKE3."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3

from benchmarks.problems import Problem


def weights_hash(files: Iterable[Path]) -> str:
    """BLAKE3 over the bytes of weight files, in the order of their names; all cores, about a second for a gigabyte."""
    digest = blake3(max_threads=blake3.AUTO)
    for file in sorted(files):
        digest.update(file.name.encode())
        digest.update_mmap(file)
    return digest.hexdigest()


def tensor_hash(tensor: torch.Tensor) -> str:
    """BLAKE3 of a tensor's dtype, shape and values, all cores."""
    digest = blake3(f"{tensor.dtype}{tuple(tensor.shape)}".encode(), max_threads=blake3.AUTO)
    values: Any = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    digest.update(values)
    return digest.hexdigest()


def problems_hash(problems: tuple[Problem, ...]) -> str:
    """BLAKE3 over questions and finals, in order."""
    digest = blake3()
    for problem in problems:
        digest.update(f"{problem.question}\x00{problem.final}\x00".encode())
    return digest.hexdigest()


def derived_seed(*parts: object) -> int:
    """A 32-bit seed from the run's seed and what it is for."""
    return int.from_bytes(blake3(repr(parts).encode()).digest(length=4), "little")
