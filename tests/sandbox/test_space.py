"""Memory that jobs are laid out in again and again: programs see what was written last, and can neither write it nor keep it."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from sandbox import JobError, JobSlot, JobSpace, Sandbox, TensorJob

SOURCE = """
def merge_models(model_dict, device, base):
    first, second = model_dict.values()
    first += 1  # the program's own copy
    return first * 10 + second + base
"""


def slot(
    name: str = "w", shape: tuple[int, ...] = (2, 3), seed: int = 0, models: Sequence[str] = ("a", "b")
) -> JobSlot:
    return JobSlot(name, 0.5, shape, tuple(models), True, seed)


def fill(space: JobSpace, name: str, **values: float) -> None:
    for model, value in values.items():
        space.array(name, None if model == "base" else model)[:] = value


@pytest.fixture(scope="module")
def box() -> Sandbox:
    with Sandbox(allow_none=True) as started:
        yield started  # type: ignore[misc]


def test_programs_see_what_was_written_for_them_batch_after_batch(box: Sandbox) -> None:
    space = JobSpace(1 << 12)
    for number, shape in enumerate(
        [(2, 3), (40, 40), (), (1,), (0, 4), (40, 40)]
    ):  # within the room that is kept, and beyond
        with space.lay_out([slot("one", shape), slot("two", shape)]) as jobs:
            fill(space, "one", a=number, b=1, base=0.5)
            fill(space, "two", a=0, b=0, base=number)
            result = box.execute(SOURCE, jobs)
            assert result.ok, result.detail
            assert result.outputs is not None
            assert torch.equal(result.outputs["one"], torch.full(shape, 10 * (number + 1) + 1.5))
            assert torch.equal(result.outputs["two"], torch.full(shape, 10.0 + number))
            assert (space.array("one", "a") == number).all()
    space.close()


def test_results_stay_when_the_room_is_used_again(box: Sandbox) -> None:
    space, kept = JobSpace(1 << 20), []
    for number in range(3):
        with space.lay_out([slot()]) as jobs:
            fill(space, "w", a=number, b=0, base=0)
            kept.append(box.execute(SOURCE, jobs).outputs)
    assert [float(outputs["w"][0, 0]) for outputs in kept if outputs] == [10, 20, 30]


def test_the_same_numbers_as_from_tensors(box: Sandbox) -> None:
    rng = torch.Generator().manual_seed(3)
    vectors, base = {name: torch.randn(7, 5, generator=rng) for name in "ab"}, torch.randn(7, 5, generator=rng)
    source = "import torch\ndef merge_models(model_dict, device, rng, depth, name, base):\n    return torch.rand(base.shape, generator=rng) * depth + sum(model_dict.values()) + base + len(name)\n"
    plain = box.execute(source, [TensorJob("w", 0.5, vectors, base, 9)])
    space = JobSpace(0)
    with space.lay_out([slot(shape=(7, 5), seed=9)]) as jobs:
        for model, tensor in (*vectors.items(), (None, base)):
            space.array("w", model)[:] = tensor.reshape(-1).numpy()
        placed = box.execute(source, jobs)
    assert plain.outputs is not None
    assert placed.outputs is not None
    assert torch.equal(plain.outputs["w"], placed.outputs["w"])


def test_memory_is_kept_up_to_the_bound_and_not_beyond() -> None:
    space = JobSpace(1 << 16)
    files = []
    for side in (8, 100, 8, 300, 8):
        with space.lay_out([slot(shape=(side, side))]) as jobs:
            files.append(os.fstat(jobs.descriptors[1]).st_ino)
    assert files[0] != files[1]  # 100 * 100 * 12 bytes do not fit
    assert len({files[1], files[2], files[3]}) == 3
    space = JobSpace(1 << 20)
    inodes = set()
    for side in (8, 100, 8):
        with space.lay_out([slot(shape=(side, side))]) as jobs:
            inodes.add(os.fstat(jobs.descriptors[1]).st_ino)
    assert len(inodes) == 1


def test_nobody_but_the_host_can_write_it() -> None:
    space = JobSpace(1 << 12)
    with space.lay_out([slot()]) as jobs:
        descriptor = jobs.descriptors[1]
        with pytest.raises(PermissionError, match="not permitted"):
            os.pwrite(descriptor, b"x", 0)
        with pytest.raises(PermissionError, match="not permitted"):
            mmap.mmap(descriptor, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        with pytest.raises(PermissionError, match="not permitted"):
            os.ftruncate(descriptor, 0)
        space.array("w", "a")[:] = 4.0
        assert np.frombuffer(os.pread(descriptor, 4, 0), np.float32)[0] == 4.0


@pytest.mark.parametrize("slots", [[], [slot(), slot()], [slot(models=())]])
def test_malformed_jobs_are_the_callers_error(slots: list[JobSlot]) -> None:
    with pytest.raises(JobError, match="expected jobs of different names with a model each"):
        JobSpace(0).lay_out(slots)


def test_a_model_or_job_that_is_not_there_is_told() -> None:
    space = JobSpace(0)
    space.lay_out([JobSlot("w", 0.0, (2,), ("a",), False, 0)]).close()
    for job, model, absent in (("w", "b", "'b'"), ("v", "a", "'v'"), ("w", None, "job 'w' has no base")):
        with pytest.raises(KeyError, match=absent):
            space.array(job, model)


def test_large_pages_are_asked_for_where_tensors_are_large_and_change_no_number() -> None:
    with Sandbox(allow_none=True, large_tensors=True) as large, large.another() as another:
        results = []
        for box in (large, another):
            assert box._zygote is not None
            environment = Path(f"/proc/{box._zygote._process.pid}/environ").read_bytes()
            assert b"glibc.malloc.hugetlb=1" in environment
            results.append(
                box.execute(
                    "def merge_models(d, device):\n    return sum(d.values())\n",
                    [TensorJob("w", 0, {"a": torch.ones(3)}, None, 0)],
                )
            )
        assert all(result.outputs is not None and torch.equal(result.outputs["w"], torch.ones(3)) for result in results)
