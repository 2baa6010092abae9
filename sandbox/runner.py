"""The one file that runs candidate code. Everything here happens in a forked child that is destroyed afterwards.

Order: map the memory, close every descriptor, confine, and only then compile and run. The report is written into
memory that was mapped before; nothing is returned through a descriptor.
"""

from __future__ import annotations

import dis
import json
import mmap
import random
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CodeType, TracebackType
from typing import Any

import numpy as np
import torch

from sandbox import identity
from sandbox.facade import Facade
from sandbox.gate import CANDIDATE_FILE, compile_program
from sandbox.guards import Guards, OutputLimit
from sandbox.reasons import Reason
from sandbox.rules import PolicyViolation
from sandbox.signature import ENTRY
from sandbox.text import clean
from sandbox.transfer import REPORT_BYTES, tensor_over

_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "Cannot allocate memory", "bad_alloc", "bad allocation")
_OUT_OF_THREADS = ("can't start new thread", "Resource temporarily unavailable")


@dataclass(frozen=True)
class Program:
    """What the parent asks for: text, hyper-parameters, optional inputs, and the limits the child itself enforces."""

    source: str
    parameters: Mapping[str, float]
    wants: tuple[str, ...]
    device: str
    output_bytes: int
    detail_bytes: int


class Failure(Exception):
    """One job failed: reason, plain detail, line in the program's source."""

    def __init__(self, reason: Reason, detail: str, line: int | None = None, rule: str | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.line, self.rule = reason, detail, line, rule


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
    import os

    return os.fstat(fd).st_size


def _read_all(fd: int) -> bytes:
    import os

    return os.pread(fd, _size(fd), 0)


def read_program(fd: int) -> Program:
    """The program from its sealed memfd (written by the parent, so trusted in form)."""
    return Program(**json.loads(_read_all(fd)))


def run(program: Program, mapped: Mapped, facades: Mapping[str, Facade]) -> None:
    """Compile and run the program over every job, then write the report. Raises nothing that the program caused."""
    guards = Guards(facades, program.output_bytes)
    try:
        code = _judge(guards, lambda: compile_program(program.source))
        for job in mapped.jobs:
            try:
                _run_job(program, code, guards, job, mapped)
            except Failure as failure:
                failure.detail = f"tensor '{job['name']}': {failure.detail}"
                raise
    except Failure as failure:
        report = {"reason": failure.reason, "detail": clean(failure.detail, program.detail_bytes),
                  "line": failure.line, "rule": failure.rule}  # fmt: skip
    else:
        report = {"reason": None, "detail": None, "line": None, "rule": None}
    write_report(mapped.report, report)


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

    def call() -> Any:
        namespace = guards.namespace()
        exec(code, namespace)  # the candidate; this is what the whole package is for
        return namespace[ENTRY](vectors, device, **keywords)

    seed_everything(job["seed"])
    if device.type == "cuda":
        torch.cuda.manual_seed_all(job["seed"])
    result = _judge(guards, call)
    _deliver(result, job["shape"], device, mapped.outputs, job["output"])


def seed_everything(seed: int) -> None:
    """Seeds every generator the program can reach and resets the switches it may flip: nothing carries over between
    jobs."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)
    identity.restart()
    torch.set_grad_enabled(True)
    np.seterr(divide="warn", over="warn", under="ignore", invalid="warn")  # numpy's own defaults


def _judge(guards: Guards, act: Callable[[], Any]) -> Any:
    """The result of `act`, or a Failure that says which reason its exception means."""
    result, failure = None, None
    try:
        result = act()
    except BaseException as error:
        failure = _failure_of(error)
    if guards.violation is not None:  # also where the program caught it
        refusal, line = guards.violation
        failure = Failure(Reason.POLICY, refusal.detail, line, refusal.rule)
    if failure is not None:
        raise failure
    return result


def _failure_of(error: BaseException) -> Failure:
    line = _candidate_line(error.__traceback__)
    if isinstance(error, PolicyViolation):
        return Failure(Reason.POLICY, error.refusal.detail, error.refusal.line or line, error.refusal.rule)
    if isinstance(error, OutputLimit):
        return Failure(Reason.OUTPUT, "printed more than the limit", line)
    text = _plain_text(error)
    if isinstance(error, SyntaxError) and line is None:
        return Failure(Reason.SYNTAX, text, error.lineno)
    if _raised_by_the_program(error.__traceback__):  # it cannot choose its reason by raising MemoryError
        return Failure(Reason.EXCEPTION, text, line)
    if isinstance(error, torch.OutOfMemoryError):
        return Failure(Reason.GPU_MEMORY, text, line)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in text for w in _OUT_OF_MEMORY)):
        return Failure(Reason.MEMORY, text, line)
    if isinstance(error, RuntimeError | OSError) and any(words in text for words in _OUT_OF_THREADS):
        return Failure(Reason.THREADS, text, line)
    return Failure(Reason.EXCEPTION, text, line)


def _plain_text(error: BaseException) -> str:
    """`TypeName: message`. The message may come from the program's own `__str__`, which may itself fail."""
    name = type(error).__name__
    try:
        message = str(error)
    except BaseException:
        message = "(its message could not be read)"
    return f"{name}: {message}" if message else name


_RAISING = frozenset(dis.opmap[name] for name in ("RAISE_VARARGS", "RESUME", "YIELD_VALUE", "SEND"))
"""Instructions at which an exception is the program's own: `raise`, or `throw` into a generator of its own."""


def _raised_by_the_program(frames: TracebackType | None) -> bool:
    """Whether the exception began at the program's own `raise` or `throw`, and not in what the program called."""
    if frames is None:
        return False
    while frames.tb_next is not None:
        frames = frames.tb_next
    code = frames.tb_frame.f_code
    return code.co_filename == CANDIDATE_FILE and code.co_code[frames.tb_lasti] in _RAISING


def _candidate_line(frames: TracebackType | None) -> int | None:
    lines = [number for frame, number in traceback.walk_tb(frames) if frame.f_code.co_filename == CANDIDATE_FILE]
    return lines[-1] if lines else None


def _deliver(result: Any, shape: list[int], device: torch.device, memory: mmap.mmap | None, offset: int) -> None:
    """Checks what came back and copies it out as float32. The parent checks finiteness, after this cast."""
    if result is None:
        raise Failure(Reason.NO_RESULT, "merge_models returned None; return the merged tensor")
    if not isinstance(result, torch.Tensor):
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
