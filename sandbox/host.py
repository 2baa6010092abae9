"""The parent's side: starts the zygote, sends programs, decides every reason.

Covered: a candidate that loops, hogs, crashes, lies about its result, or leaves processes behind. The parent waits
until the whole tree is dead and reaped before it looks at the result, and believes only its own shapes and dtypes.
Not covered: kernel bugs, side channels, programs that are merely clever (`sandbox/README.md`).
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from sandbox.confinement.layers import LEAST_LAYERS
from sandbox.errors import IsolationError, JobError, ParameterError, SandboxError, ZygoteError
from sandbox.gate import check, signature_of
from sandbox.reasons import Reason
from sandbox.records import ExecutionResult, Isolation, Limits, Signature, TensorJob, Verdict
from sandbox.text import clean
from sandbox.transfer import Mailbox, PackedJobs, digest, mailbox, sealed_bytes
from sandbox.zygote import HOST_FAULT, MESSAGE_BYTES

START_SECONDS = 60.0
"""Longest start of the zygote (importing torch from a cold disk is slow)."""

GRACE_SECONDS = 10.0
"""How long the zygote may take to reap a killed tree before it is itself taken for dead."""

ZYGOTE_FILE = Path(__file__).with_name("zygote.py")

_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
"""All that the zygote gets. A fixed hash seed makes the order of sets the same in every run."""

_FROM_CHILD = frozenset(
    {Reason.POLICY, Reason.SYNTAX, Reason.MEMORY, Reason.THREADS, Reason.OUTPUT, Reason.EXCEPTION, Reason.NO_RESULT,
     Reason.WRONG_TYPE, Reason.WRONG_SHAPE, Reason.WRONG_DTYPE}
)  # fmt: skip
"""Reasons that a child may give for itself; the others are the parent's to find."""

_BY_SIGNAL = {signal.SIGXCPU: Reason.CPU, signal.SIGSYS: Reason.SYSCALL, signal.SIGXFSZ: Reason.OUTPUT}


@dataclass(frozen=True)
class _Outcome:
    """How a child ended, as the zygote saw it."""

    status: int
    timed_out: bool
    seconds: float
    cpu_seconds: float
    peak_bytes: int


class Sandbox:
    """Runs merge programs, one forked and confined process each.

    Args:
        limits: for every program run here.
        allow_none: run even where the machine gives no isolation to speak of.

    Raises (when entered, or at the first use):
        IsolationError: the level is NONE and `allow_none` is false.
        ZygoteError: the sandbox's process could not be started.

    One caller at a time (calls from several threads wait for each other). Several objects may live in one process.
    """

    def __init__(self, limits: Limits | None = None, *, allow_none: bool = False) -> None:
        self.limits = limits or Limits()
        _check_limits(self.limits)
        self._allow_none = allow_none
        self._lock = threading.Lock()
        self._zygote: _Zygote | None = None
        self._isolation: Isolation | None = None

    def __enter__(self) -> Sandbox:
        self._started()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    @property
    def isolation(self) -> Isolation:
        """The level that this machine gives, with what is missing; starts the zygote if need be."""
        self._started()
        assert self._isolation is not None, "set by _started"
        return self._isolation

    def close(self) -> None:
        """End the zygote. The object can be used again; it then starts another."""
        with self._lock:
            if self._mine() is not None and self._zygote is not None:
                self._zygote.close()
                self._zygote = None

    def pack(self, jobs: Sequence[TensorJob]) -> PackedJobs:
        """Lay the jobs out in sealed memory once, for many programs. Close it when done; later changes to the tensors
        do not show.

        Raises:
            JobError: a job is malformed.
        """
        return PackedJobs(jobs)

    def execute(
        self,
        source: str | bytes,
        jobs: Sequence[TensorJob] | PackedJobs,
        parameters: Mapping[str, float] | None = None,
    ) -> ExecutionResult:
        """Run one program over all jobs in one confined child.

        Args:
            source: the program's text.
            jobs: the tensors, as `TensorJob`s or packed before.
            parameters: hyper-parameters by name; those not named keep the program's defaults.

        Returns:
            The result; whatever the program does is a value here. One bad job fails the whole, its name in `detail`.

        Raises:
            JobError: a job is malformed, or the program wants `base` and a job has none.
            ParameterError: the program does not declare a named hyper-parameter, or a value is not a finite number.
            ZygoteError: the sandbox's own process died twice.
        """
        isolation = self.isolation
        began = time.monotonic()
        verdict = check(source, self.limits)
        if not verdict.ok:
            return _rejected(verdict, time.monotonic() - began, isolation)
        signature = signature_of(source)
        _check_parameters(signature, parameters or {})
        if isinstance(jobs, PackedJobs):
            return self._execute(source, signature, jobs, parameters or {})
        with PackedJobs(jobs) as packed:
            return self._execute(source, signature, packed, parameters or {})

    def _execute(
        self, source: str | bytes, signature: Signature, packed: PackedJobs, parameters: Mapping[str, float]
    ) -> ExecutionResult:
        if "base" in signature.wants and not packed.has_base:
            raise JobError("the program declares 'base', but a job has no base tensor; give the seed's tensors")
        text = source.decode("utf-8") if isinstance(source, bytes) else source
        program = {"source": text, "parameters": dict(parameters), "wants": sorted(signature.wants),
                   "output_bytes": self.limits.output_bytes, "detail_bytes": self.limits.detail_bytes}  # fmt: skip
        with mailbox(packed) as box:
            request = sealed_bytes("program", json.dumps(program).encode("ascii"))
            try:
                outcome = self._run([request, *packed.descriptors, box.outputs, box.report])
            finally:
                os.close(request)
            return _judge(outcome, box, packed, self.limits, self.isolation)

    def _run(self, descriptors: list[int]) -> _Outcome:
        """One program in the zygote; a zygote that died is replaced once."""
        with self._lock:
            for attempt in (1, 2):
                zygote = self._mine() or self._start()
                try:
                    return zygote.run(descriptors, self.limits)
                except (OSError, ZygoteError) as error:
                    zygote.close()
                    self._zygote = None
                    if attempt == 2:
                        raise ZygoteError(
                            f"the sandbox's process died twice ({error}); see `mergewright doctor`"
                        ) from error
                except BaseException:  # Ctrl-C while waiting: an answer nobody read must not meet the next program
                    zygote.close()
                    self._zygote = None
                    raise
        raise AssertionError("unreachable")

    def _mine(self) -> _Zygote | None:
        """The running zygote, unless a fork of this process took it along: the copy must start its own."""
        if self._zygote is not None and self._zygote.owner != os.getpid():
            self._zygote.abandon()
            self._zygote = None
        return self._zygote

    def _started(self) -> None:
        with self._lock:
            if self._mine() is None:
                self._start()

    def _start(self) -> _Zygote:
        zygote = _Zygote()
        if zygote.isolation.level == "NONE" and not self._allow_none:
            zygote.close()
            missing = "; ".join(zygote.isolation.missing)
            raise IsolationError(
                f"expected at least REDUCED isolation, got NONE ({missing}); allow it explicitly if you must"
            )
        self._zygote, self._isolation = zygote, zygote.isolation
        return zygote


class _Zygote:
    """The running zygote and the socket to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        self.owner = os.getpid()
        self._errors = os.memfd_create("zygote-errors")
        command = [sys.executable, "-s", "-P", str(ZYGOTE_FILE), str(theirs.fileno())]
        try:
            self._process = subprocess.Popen(
                command, env=_ENVIRONMENT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=self._errors, start_new_session=True, cwd="/",
            )  # fmt: skip
        except OSError as error:
            ours.close()
            os.close(self._errors)
            raise ZygoteError(f"cannot start {sys.executable}: {error}") from error
        finally:
            theirs.close()
        try:
            ready = self._receive(time.monotonic() + START_SECONDS)
            self.isolation = _isolation(ready["ready"], ready["missing"])
        except (OSError, ZygoteError, ValueError, KeyError) as error:
            last = os.pread(self._errors, 65536, 0).decode("utf-8", "replace").strip().splitlines()[-1:]
            self.close()
            raise ZygoteError(f"the sandbox's process did not start: {' '.join(last) or error}") from error

    def run(self, descriptors: list[int], limits: Limits) -> _Outcome:
        """Send one program, wait by our own clock, have the tree killed when the time is up.

        Raises:
            ZygoteError, OSError: the zygote is gone.
        """
        request = {"run": {"memory_bytes": limits.memory_bytes, "cpu_seconds": math.ceil(limits.cpu_seconds)}}
        began = time.monotonic()
        socket.send_fds(self._socket, [json.dumps(request).encode("ascii")], descriptors)
        timed_out = not self._wait(began + limits.wall_seconds)
        if timed_out:
            self._socket.send(b'{"kill": true}')
        answer = self._receive(time.monotonic() + GRACE_SECONDS)
        seconds = time.monotonic() - began
        return _Outcome(
            answer["status"], timed_out and answer["killed"], seconds, answer["cpu_seconds"], answer["peak_bytes"]
        )

    def _wait(self, deadline: float) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))

    def _receive(self, deadline: float) -> Any:
        if not self._wait(deadline):
            raise ZygoteError("it does not answer")
        message = self._socket.recv(MESSAGE_BYTES)
        if not message:
            raise ZygoteError("it is gone")
        return json.loads(message)

    def abandon(self) -> None:
        """Let go of what belongs to the process we were forked from."""
        self._socket.close()
        os.close(self._errors)
        self._process.returncode = 0  # not ours to wait for

    def close(self) -> None:
        """Hang up; the zygote kills its child, reaps it and leaves. Kill it if it does not."""
        self._socket.close()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._errors >= 0:
            os.close(self._errors)
            self._errors = -1


def _isolation(held: Sequence[str], missing: Sequence[str]) -> Isolation:
    if not set(held) >= LEAST_LAYERS:
        return Isolation("NONE", tuple(missing))
    return Isolation("REDUCED" if missing else "FULL", tuple(missing))


def _check_limits(limits: Limits) -> None:
    for name, value in asdict(limits).items():
        if not value > 0 or not math.isfinite(value):
            raise SandboxError(f"Limits.{name}: expected a positive number, got {value}; leave it out for the default")


def _check_parameters(signature: Signature, parameters: Mapping[str, float]) -> None:
    for name, value in parameters.items():
        if name not in signature.parameters:
            known = ", ".join(sorted(signature.parameters)) or "none"
            raise ParameterError(
                f"hyper-parameter '{name}': expected one that the program declares ({known}), got '{name}'"
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ParameterError(f"hyper-parameter '{name}': expected a finite number, got {value!r}; give a number")


def _rejected(verdict: Verdict, seconds: float, isolation: Isolation) -> ExecutionResult:
    return ExecutionResult(
        False, verdict.reason, verdict.detail, verdict.line, seconds, 0, isolation, None, None, verdict.rule
    )


def _judge(
    outcome: _Outcome, box: Mailbox, packed: PackedJobs, limits: Limits, isolation: Isolation
) -> ExecutionResult:
    """The reason, decided here: by the parent's clock, the kernel's word on how the child ended, then the child's
    report."""

    def failed(reason: Reason, detail: str, line: int | None = None, rule: str | None = None) -> ExecutionResult:
        text = clean(detail, limits.detail_bytes)  # again: a report may be forged
        return ExecutionResult(
            False, reason, text, line, outcome.seconds, outcome.peak_bytes, isolation, None, None, rule
        )

    ended = _ending(outcome, limits)
    try:
        report = box.read_report()
    except ValueError as error:
        return failed(ended[0] if ended else Reason.CRASH, ended[1] if ended else str(error))
    if os.WIFEXITED(outcome.status) and os.WEXITSTATUS(outcome.status) == HOST_FAULT:
        fault = report.get("fault") if isinstance(report, dict) else None
        raise ZygoteError(f"a child could not be confined: {fault}")
    if ended is not None:
        return failed(*ended)
    if report is None:
        return failed(Reason.NO_RESULT, "the program's process ended without a report")
    told = _told(report)
    if told is None:
        return failed(Reason.CRASH, "the report is not one that the runner writes")
    if told.reason is not None:
        return failed(told.reason, told.detail or "", told.line, told.rule)
    outputs = box.read_outputs(packed)
    for name, tensor in outputs.items():
        if not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            return failed(Reason.NONFINITE, f"tensor '{name}': {bad} of {tensor.numel()} values are NaN or infinite")
    return ExecutionResult(
        True, None, None, None, outcome.seconds, outcome.peak_bytes, isolation, outputs, digest(outputs)
    )


def _ending(outcome: _Outcome, limits: Limits) -> tuple[Reason, str] | None:
    """The reason that the way of ending gives; None if the child left in order."""
    if outcome.timed_out:
        return Reason.TIMEOUT, f"still running after {limits.wall_seconds:g} s"
    if os.WIFSIGNALED(outcome.status):
        number = os.WTERMSIG(outcome.status)
        if number == signal.SIGKILL:
            if outcome.cpu_seconds >= limits.cpu_seconds:
                return Reason.CPU, f"more than {limits.cpu_seconds:g} s of processor time"
            return Reason.MEMORY, "killed by the system, most likely for want of memory"
        name = signal.Signals(number).name if number in signal.valid_signals() else str(number)
        return _BY_SIGNAL.get(signal.Signals(number), Reason.CRASH), f"ended by signal {name}"
    if os.WEXITSTATUS(outcome.status) not in (0, HOST_FAULT):
        return Reason.CRASH, f"ended with status {os.WEXITSTATUS(outcome.status)}"
    return None


def _told(report: Any) -> Verdict | None:
    """The child's report, if it has the runner's form; `ok` where it claims success."""
    if not isinstance(report, dict) or set(report) != {"reason", "detail", "line", "rule"}:
        return None
    reason, detail, line, rule = report["reason"], report["detail"], report["line"], report["rule"]
    if not isinstance(line, int | None) or isinstance(line, bool) or not isinstance(rule, str | None):
        return None
    if reason is None:
        return Verdict(True)
    if not isinstance(reason, str) or reason not in _FROM_CHILD or not isinstance(detail, str):
        return None
    return Verdict(False, Reason(reason), detail, line, rule)
