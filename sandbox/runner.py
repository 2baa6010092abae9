"""The one file that runs candidate code. Everything here happens in a forked child that is destroyed afterwards.

Order: map the memory, close every descriptor, confine, and only then compile and run. The report is written into
memory that was mapped before; nothing is returned through a descriptor.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any

import torch

from sandbox import fresh
from sandbox.facade import Facade
from sandbox.failures import Failure, judged, refused, unreadable
from sandbox.gate import compile_program
from sandbox.guards import Guards
from sandbox.reasons import Reason
from sandbox.rules import PolicyViolation
from sandbox.signature import ENTRY
from sandbox.text import clean
from sandbox.transfer import REPORT_BYTES, tensor_over


@dataclass(frozen=True)
class Program:
    """What the parent asks for: text, hyper-parameters, optional inputs, and the limits the child itself enforces."""

    source: str
    parameters: Mapping[str, float]
    wants: tuple[str, ...]
    device: str
    output_bytes: int
    detail_bytes: int


@dataclass(frozen=True)
class Mapped:
    """The child's memory: jobs as the parent laid them out, inputs (private), outputs and report (shared)."""

    jobs: list[dict[str, Any]]
    inputs: mmap.mmap | None
    outputs: mmap.mmap | None
    report: mmap.mmap

    @classmethod
    def from_descriptors(cls, jobs: int, inputs: int, outputs: int, report: int) -> Mapped:
        """Maps the four memfds. Inputs are private: in-place operations work and the parent's bytes stay as they
        are."""

        def whole(fd: int, flags: int) -> mmap.mmap | None:
            size = _size(fd)
            return mmap.mmap(fd, size, flags, mmap.PROT_READ | mmap.PROT_WRITE) if size else None

        shared = whole(report, mmap.MAP_SHARED)
        assert shared is not None, "the report always has a size"
        return cls(
            json.loads(_read_all(jobs)), whole(inputs, mmap.MAP_PRIVATE), whole(outputs, mmap.MAP_SHARED), shared
        )


def _size(fd: int) -> int:
    return os.fstat(fd).st_size


def _read_all(fd: int) -> bytes:
    return os.pread(fd, _size(fd), 0)


def read_program(fd: int) -> Program:
    """The program from its sealed memfd (written by the parent, so trusted in form)."""
    return Program(**json.loads(_read_all(fd)))


_REHEARSAL = """
import torch
def merge_models(model_dict, device):
    print(f"{len(model_dict)} models", device)
    out = torch.zeros_like(next(iter(model_dict.values())))
    for name, tensor in model_dict.items():
        out += 0.5 * tensor.to(device)
    return (out + sum(model_dict.values())) * 0.25
"""
_REHEARSAL_SIDE = 320


def rehearse(facades: Mapping[str, Facade]) -> None:
    """Run a program of our own, so that the pages which every program writes to are this process's own before its program comes."""
    side = _REHEARSAL_SIDE
    memory, outputs, report = (mmap.mmap(-1, size) for size in (8 * side * side, 4 * side * side, REPORT_BYTES))
    job = {
        "name": "w",
        "depth": 0.0,
        "vectors": [("a", 0), ("b", 4 * side * side)],
        "shape": [side, side],
        "base": None,
        "output": 0,
    }
    mapped = Mapped([{**job, "seed": seed} for seed in range(3)], memory, outputs, report)
    write_report(report, _perform(Program(_REHEARSAL, {}, (), "cpu", 10_000, 2048), mapped, facades))


def run(program: Program, mapped: Mapped, facades: Mapping[str, Facade]) -> None:
    """Compile and run the program over every job, then write the report. Raises nothing that the program caused."""
    sys.addaudithook(_refuse_files)
    write_report(mapped.report, _perform(program, mapped, facades))


def _perform(program: Program, mapped: Mapped, facades: Mapping[str, Facade]) -> dict[str, Any]:
    """The report: no reason if every job's tensor is in the outputs."""
    guards = Guards(facades, program.output_bytes)
    fresh.start()
    try:
        code = judged(guards, lambda: _compiled(program.source))
        for job in mapped.jobs:
            try:
                _run_job(program, code, guards, job, mapped)
            except Failure as failure:
                failure.detail = f"tensor '{job['name']}': {failure.detail}"
                raise
    except Failure as failure:
        detail = clean(failure.detail, program.detail_bytes)
        return {"reason": failure.reason, "detail": detail, "line": failure.line, "rule": failure.rule}
    return {"reason": None, "detail": None, "line": None, "rule": None}


def _compiled(source: str) -> CodeType:
    try:
        return compile_program(source)
    except PolicyViolation as violation:
        raise refused(violation) from None
    except SyntaxError as error:
        raise unreadable(error) from None


def _refuse_files(event: str, _arguments: object) -> None:
    """Python's compiler and its tracebacks open the file that a piece of code says it comes from, to quote a line. The kernel would end the
    process for it, and an honest mistake would read as an attack; refused here, they do without."""
    if event == "open":
        raise PermissionError("no files here")


def write_report(target: mmap.mmap, report: Mapping[str, Any]) -> None:
    """JSON text behind a 4-byte length, at the start of the shared report."""
    text = json.dumps(report).encode("ascii")
    assert len(text) + 4 <= REPORT_BYTES, "detail_bytes is bounded by Limits"
    target[4 : 4 + len(text)] = text
    target[:4] = len(text).to_bytes(4, "little")


def _run_job(program: Program, code: CodeType, guards: Guards, job: Mapping[str, Any], mapped: Mapped) -> None:
    device = torch.device(program.device)
    vectors = {name: tensor_over(mapped.inputs, offset, job["shape"]).to(device) for name, offset in job["vectors"]}
    extras: dict[str, Any] = {"name": job["name"], "depth": job["depth"], "base": None, "rng": None}
    if job["base"] is not None and "base" in program.wants:
        extras["base"] = tensor_over(mapped.inputs, job["base"], job["shape"]).to(device)
    if "rng" in program.wants:
        extras["rng"] = torch.Generator().manual_seed(job["seed"])
    keywords = {name: extras[name] for name in program.wants} | dict(program.parameters)

    namespace = guards.namespace()

    def call() -> None:
        exec(code, namespace)  # the candidate; this is what the whole package is for
        result = namespace[ENTRY](vectors, device, **keywords)
        _deliver(result, job["shape"], device, mapped.outputs, job["output"])

    def attempt() -> None:
        with fresh.forgotten(namespace, vectors, extras, keywords):
            fresh.run(call)

    fresh.seed(job["seed"])
    if device.type == "cuda":
        torch.cuda.manual_seed_all(job["seed"])
    judged(guards, attempt)


def _deliver(result: Any, shape: list[int], device: torch.device, memory: mmap.mmap | None, offset: int) -> None:
    """Checks what came back and copies it out as float32. The parent checks finiteness, after this cast."""
    if result is None:
        raise Failure(Reason.NO_RESULT, "merge_models returned None; return the merged tensor")
    if type(result) not in (torch.Tensor, torch.nn.Parameter):
        raise Failure(Reason.WRONG_TYPE, f"expected a torch.Tensor, got {type(result).__name__}")
    if result.layout is not torch.strided or result.device.type not in ("cpu", device.type):
        got = f"{result.layout} on {result.device.type}"
        raise Failure(Reason.WRONG_TYPE, f"expected a dense {device.type.upper()} tensor, got {got}")
    if not result.dtype.is_floating_point:
        raise Failure(Reason.WRONG_DTYPE, f"expected a real floating dtype, got {result.dtype}")
    if list(result.shape) != shape:
        raise Failure(Reason.WRONG_SHAPE, f"expected shape {tuple(shape)}, as the inputs, got {tuple(result.shape)}")
    if result.numel():
        tensor_over(memory, offset, shape).copy_(result.detach())
