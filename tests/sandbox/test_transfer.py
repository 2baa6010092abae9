"""Memory between parent and child: sealed, aligned, checked; a forged report is not believed."""

from __future__ import annotations

import json
import mmap
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import JobError, TensorJob
from sandbox.outcome import _told
from sandbox.transfer import ALIGNMENT, REPORT_BYTES, Mailbox, PackedJobs, digest, mailbox, memfd, sealed_bytes


def job(name: str = "w", seed: int = 0, base: torch.Tensor | None = None, **vectors: torch.Tensor) -> TensorJob:
    return TensorJob(name, 0.0, vectors or {"a": torch.ones(3), "b": torch.ones(3)}, base, seed)


def test_inputs_cannot_be_written_or_resized_and_start_on_boundaries() -> None:
    with PackedJobs([job("first"), job("second", base=torch.zeros(3))]) as packed:
        jobs, inputs = packed.descriptors
        for fd in (jobs, inputs):
            with pytest.raises(PermissionError, match="not permitted"):
                os.pwrite(fd, b"x", 0)
            with pytest.raises(PermissionError, match="not permitted"):
                os.ftruncate(fd, 0)
            with pytest.raises(PermissionError, match="not permitted"):
                mmap.mmap(fd, 4, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        assert all(offset % ALIGNMENT == 0 for offset in packed.output_offsets.values())


def test_a_memory_file_keeps_its_size() -> None:
    fd = memfd("x", 10)
    try:
        with pytest.raises(PermissionError, match="not permitted"):
            os.ftruncate(fd, 20)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        ([], "expected at least one tensor job"),
        ([job(), job()], "expected unique names"),
        ([TensorJob("w", 0.0, {}, None, 0)], "expected at least one task vector"),
        ([job(seed=-1)], "expected a seed in"),
        ([job(seed=2**64)], "expected a seed in"),
        ([job(a=torch.ones(2, dtype=torch.float64))], "expected float32 on the CPU, got torch.float64 on cpu from 'a'"),
        ([job(a=torch.ones(2, device="meta"))], "got torch.float32 on meta"),
        ([job(a=torch.ones(2), b=torch.ones(3))], r"expected shape \(2,\) from every model, got \(3,\) from 'b'"),
        ([job(base=torch.ones(4))], r"got \(4,\) from 'base'"),
    ],
)
def test_malformed_jobs_are_the_callers_error(jobs: list[TensorJob], message: str) -> None:
    with pytest.raises(JobError, match=message):
        PackedJobs(jobs)


def test_non_contiguous_inputs_are_packed_by_value() -> None:
    given = torch.arange(6.0).view(2, 3).t()
    with PackedJobs([job(a=given)]) as packed:
        raw = os.pread(packed.descriptors[1], 24, 0)
    assert torch.equal(torch.frombuffer(bytearray(raw), dtype=torch.float32).view(3, 2), given.contiguous())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_a_report_are_told_apart_from_a_result(content: bytes) -> None:
    with PackedJobs([job()]) as packed, mailbox(packed) as box:
        os.pwrite(box.report, content, 0)
        try:
            report = box.read_report()
        except ValueError:
            return
        assert report is None or _told(report) is None


@pytest.mark.parametrize(
    "report",
    [
        [], {}, "ok", {"reason": None}, {"reason": "timeout", "detail": "", "line": None, "rule": None},
        {"reason": "exception", "detail": 3, "line": None, "rule": None},
        {"reason": None, "detail": None, "line": True, "rule": None},
        {"reason": [], "detail": "", "line": None, "rule": None},
    ],
)  # fmt: skip
def test_reports_of_another_form_are_not_believed(report: object) -> None:
    assert _told(report) is None


def test_deeply_nested_report_is_a_value_error() -> None:
    fd = memfd("report", REPORT_BYTES)
    text = b"[" * (REPORT_BYTES - 4)
    os.pwrite(fd, len(text).to_bytes(4, "little") + text, 0)
    try:
        with pytest.raises(ValueError, match="nested too deeply"):
            Mailbox(-1, fd).read_report()
    finally:
        os.close(fd)


def test_digest_follows_names_shapes_and_bytes_not_order() -> None:
    a, b = torch.ones(2, 3), torch.zeros(3)
    assert digest({"a": a, "b": b}) == digest({"b": b, "a": a})
    others = [{"a": a}, {"a": a, "c": b}, {"a": a.view(3, 2), "b": b}, {"a": a * 2, "b": b}]
    assert len({digest({"a": a, "b": b}), *map(digest, others)}) == 5


def test_sealed_bytes_hold_their_content() -> None:
    fd = sealed_bytes("x", b"abc")
    try:
        assert os.pread(fd, 10, 0) == b"abc"
    finally:
        os.close(fd)


def test_reseeded_jobs_share_the_tensors_and_differ_in_their_seeds_only() -> None:
    with PackedJobs([job("first", seed=1), job("second", seed=2)]) as packed:
        with packed.reseeded({"first": 7, "second": 8}) as other:
            told = [json.loads(os.pread(p.descriptors[0], 1 << 16, 0)) for p in (packed, other)]
            assert [j.pop("seed") for j in told[1]] == [7, 8]
            assert [j.pop("seed") for j in told[0]] == [1, 2]
            assert told[0] == told[1]
            assert os.fstat(packed.descriptors[1]).st_ino == os.fstat(other.descriptors[1]).st_ino
        packed.descriptors  # noqa: B018 - still open though the copy is closed
