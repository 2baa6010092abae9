"""Honest programs are accepted, and the sandbox changes no bit of what they compute."""

from __future__ import annotations

import inspect
import random
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from sandbox import Sandbox, TensorJob, check, signature_of
from tests.sandbox.honest import PROGRAMS, program

LIBRARY = Path(__file__).parents[2] / "merges" / "library"


def plain_python(source: str, job: TensorJob) -> torch.Tensor:
    """What the program gives outside, seeded in the same way, on private copies."""
    torch.manual_seed(job.seed)
    np.random.seed(job.seed)
    random.seed(job.seed)
    namespace: dict[str, Any] = {"__name__": "candidate"}
    sys.modules.setdefault("candidate", ModuleType("candidate"))  # where dataclasses look
    exec(compile(source, "<plain>", "exec", dont_inherit=True), namespace)
    merge = namespace["merge_models"]
    base = None if job.base is None else job.base.clone()
    extras = {"name": job.name, "depth": job.depth, "base": base, "rng": torch.Generator().manual_seed(job.seed)}
    wanted = {name: extras[name] for name in inspect.signature(merge).parameters if name in extras}
    result = merge({name: v.clone() for name, v in job.vectors.items()}, torch.device("cpu"), **wanted)
    assert isinstance(result, torch.Tensor)
    return result.detach().to(torch.float32)


def test_the_suite_is_wide() -> None:
    assert len(PROGRAMS) >= 80


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.filterwarnings("ignore")
def test_honest_program_gives_the_same_bits_inside(name: str, box: Sandbox, jobs: list[TensorJob]) -> None:
    accepted_and_equal(program(name), box, jobs)


@pytest.mark.parametrize("path", sorted(LIBRARY.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_library_merge_gives_the_same_bits_inside(path: Path, box: Sandbox, jobs: list[TensorJob]) -> None:
    most = {"slerp": 2, "nuslerp": 2, "nearswap": 1, "arcee_fusion": 1}.get(path.stem)
    given = [replace(job, vectors=dict(list(job.vectors.items())[:most])) for job in jobs]
    accepted_and_equal(path.read_text(), box, given)


def accepted_and_equal(source: str, box: Sandbox, jobs: list[TensorJob]) -> None:
    """The gate takes it, and every tensor has the bits that plain Python gives."""
    assert check(source).detail is None
    result = box.execute(source, jobs)
    assert result.ok, (result.reason, result.detail, result.line)
    assert result.outputs is not None
    for job in jobs:
        assert torch.equal(result.outputs[job.name], plain_python(source, job)), job.name


def test_extras_and_parameters_are_read_from_the_text() -> None:
    signature = signature_of(program("declared_extras"))
    assert signature.wants == {"name", "depth", "base"}
    assert signature.parameters == {"scale": 0.4, "layers": 12}
