"""The parent's side: starts the zygote, sends programs, waits by its own clock; `outcome.py` decides the reason.

Covered: a candidate that loops, hogs, crashes, lies about its result, or leaves processes behind. The parent waits
until the whole tree is dead and reaped before it looks at the result, and believes only its own shapes and dtypes.
Not covered: kernel bugs, side channels, programs that are merely clever (`sandbox/README.md`).
"""

from __future__ import annotations

import json
import math
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from sandbox import gpu
from sandbox.confinement import cgroups
from sandbox.confinement.layers import level_of
from sandbox.errors import IsolationError, JobError, ParameterError, SandboxError, ZygoteError
from sandbox.gate import check, signature_of
from sandbox.outcome import Outcome, judge, killed_unasked
from sandbox.records import ExecutionResult, Isolation, Limits, Signature, TensorJob, Verdict
from sandbox.transfer import PackedJobs, mailbox, sealed_bytes
from sandbox.zygote import MESSAGE_BYTES

START_SECONDS = 60.0
"""Longest start of the zygote (importing torch from a cold disk is slow)."""

GRACE_SECONDS = 10.0
"""How long the zygote may take to reap a killed tree before it is itself taken for dead."""

ZYGOTE_FILE = Path(__file__).with_name("zygote.py")

_LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Memory in pages of 2 MiB where there is so much: a third less time for tensors of millions of values, a sixth more for small ones."""

_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
"""All that the zygote gets. A fixed hash seed makes the order of sets the same in every run."""


class Sandbox:
    """Runs merge programs, one forked and confined process each.

    Args:
        limits: for every program run here.
        allow_none: run even where the machine gives no isolation to speak of.
        device: where programs compute. With "cuda" the level is REDUCED at best (`sandbox/gpu.py` says why).
        large_tensors: whether programs mostly see tensors of millions of values, for which memory then comes in large pages.

    Raises (when entered, or at the first use):
        IsolationError: the level is NONE and `allow_none` is false.
        DeviceError: `device` is "cuda" and there is none that can be used.
        ZygoteError: the sandbox's process could not be started.

    One caller at a time (calls from several threads wait for each other). Several objects may live in one process.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        allow_none: bool = False,
        device: Literal["cpu", "cuda"] = "cpu",
        large_tensors: bool = False,
    ) -> None:
        self.limits = limits or Limits()
        _check_limits(self.limits)
        self._allow_none = allow_none
        self._device = device
        self._large = large_tensors
        self._lock = threading.Lock()
        self._zygote: _Zygote | None = None
        self._isolation: Isolation | None = None

    def __enter__(self) -> Sandbox:
        self._started()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Where programs compute."""
        return self._device

    def another(self) -> Sandbox:
        """One more with the same limits, for another thread."""
        return Sandbox(self.limits, allow_none=self._allow_none, device=self._device, large_tensors=self._large)

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
            KilledError: something outside killed the program's process twice.
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
        program = {"source": text, "parameters": dict(parameters), "wants": sorted(signature.wants), "device": self._device,
                   "output_bytes": self.limits.output_bytes, "detail_bytes": self.limits.detail_bytes}  # fmt: skip
        request = sealed_bytes("program", json.dumps(program).encode("ascii"))
        try:
            for attempt in (1, 2):
                with mailbox(packed) as box:
                    outcome = self._run([request, *packed.descriptors, box.outputs, box.report])
                    if attempt == 1 and killed_unasked(outcome, self.limits):
                        continue  # what killed it may be over by now
                    return judge(outcome, box, packed, self.limits, self.isolation)
        finally:
            os.close(request)
        raise AssertionError("unreachable")

    def _run(self, descriptors: list[int]) -> Outcome:
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
        try:
            zygote = _Zygote(self._device, self._large)
        except ZygoteError:  # once more, as for one that dies at work: it may have been killed from outside
            zygote = _Zygote(self._device, self._large)
        if zygote.isolation.level == "NONE" and not self._allow_none:
            zygote.close()
            missing = "; ".join(zygote.isolation.missing)
            raise IsolationError(
                f"expected at least REDUCED isolation, got NONE ({missing}); see `mergewright doctor`, or accept it with --unsafe-no-isolation"
            )
        self._zygote, self._isolation = zygote, zygote.isolation
        return zygote


class _Zygote:
    """The running zygote and the socket to it."""

    def __init__(self, device: str, large_tensors: bool) -> None:
        self._gpu = gpu.open_watch() if device == "cuda" else None
        self._groups: tuple[str, ...] = ()
        environment = {**_ENVIRONMENT, **(_LARGE_PAGES if large_tensors else {}), **_gpu_environment(device)}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        self.owner = os.getpid()
        self._errors = os.memfd_create("zygote-errors")
        command = [sys.executable, "-s", "-P", str(ZYGOTE_FILE), str(theirs.fileno()), device]
        try:
            self._process = subprocess.Popen(
                command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
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
            self._groups = tuple(ready["groups"])
            self.isolation = _isolation(**ready["ready"], gpu_used=device == "cuda")
            self._filtered = "seccomp" in self.isolation.layers
            self._resident_bytes = int(ready["resident_bytes"])
        except (OSError, ZygoteError, ValueError, KeyError, TypeError) as error:
            last = os.pread(self._errors, 65536, 0).decode("utf-8", "replace").strip().splitlines()[-1:]
            self.close()
            why = " ".join(last) or f"{error}, process {self._process.pid}, exit status {self._process.returncode}"
            raise ZygoteError(f"the sandbox's process did not start: {why}") from error

    def run(self, descriptors: list[int], limits: Limits) -> Outcome:
        """Send one program, wait by our own clock, have the tree killed when the time is up.

        Raises:
            ZygoteError, OSError: the zygote is gone.
        """
        request = {"run": {"memory_bytes": limits.memory_bytes, "cpu_seconds": math.ceil(limits.cpu_seconds)}}
        before = self._gpu.used_bytes() if self._gpu else 0
        began = time.monotonic()
        socket.send_fds(self._socket, [json.dumps(request).encode("ascii")], descriptors)
        answered, gpu_bytes = self._await_end(began + limits.wall_seconds, before, limits.gpu_memory_bytes)
        if not answered:
            self._socket.send(b'{"kill": true}')
        answer = self._receive(time.monotonic() + GRACE_SECONDS)
        seconds = time.monotonic() - began
        if self._gpu:
            gpu.wait_until_back(self._gpu, before, *gpu.CLOCK)
        return Outcome(
            status=answer["status"],
            timed_out=not answered and answer["killed"] and gpu_bytes <= limits.gpu_memory_bytes,
            seconds=seconds,
            cpu_seconds=answer["cpu_seconds"],
            peak_bytes=answer["peak_bytes"],
            grown_bytes=max(0, answer["peak_bytes"] - self._resident_bytes),
            filtered=self._filtered,
            started=answer["started"],
            fault=answer["fault"],
            starved=answer["starved"],
            gpu_bytes=gpu_bytes,
        )

    def _await_end(self, deadline: float, before: int, gpu_limit: int) -> tuple[bool, int]:
        """Whether the zygote answered in time, and the most of the GPU's memory seen in use beyond `before`."""
        most = 0
        while self._gpu and most <= gpu_limit and time.monotonic() + gpu.POLL_SECONDS < deadline:
            if self._wait(time.monotonic() + gpu.POLL_SECONDS):
                return True, most
            most = max(most, self._gpu.used_bytes() - before)
        return most <= gpu_limit and self._wait(deadline), most

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
        cgroups.remove(self._groups)
        if self._errors >= 0:
            os.close(self._errors)
            self._errors = -1


def _isolation(held: Sequence[str], missing: Sequence[str], extra: Sequence[str], *, gpu_used: bool) -> Isolation:
    lines = (*missing, gpu.WHY_REDUCED) if gpu_used else tuple(missing)
    return Isolation(level_of(held, lines), lines, tuple(held), tuple(extra))


def _gpu_environment(device: str) -> dict[str, str]:
    return {name: os.environ[name] for name in gpu.ENVIRONMENT if device == "cuda" and name in os.environ}


def _check_limits(limits: Limits) -> None:
    for name, value in asdict(limits).items():
        if not value > 0 or not math.isfinite(value):
            raise SandboxError(f"Limits.{name}: expected a positive number, got {value}; leave it out for the default")


def _check_parameters(signature: Signature, parameters: Mapping[str, float]) -> None:
    for name, value in parameters.items():
        if name not in signature.parameters:
            known = ", ".join(sorted(signature.parameters)) or "none"
            raise ParameterError(
                f"hyper-parameter '{name}': expected one that the program declares ({known}), got '{name}'; name one of these"
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ParameterError(f"hyper-parameter '{name}': expected a finite number, got {value!r}; give a number")


def _rejected(verdict: Verdict, seconds: float, isolation: Isolation) -> ExecutionResult:
    return ExecutionResult(
        False, verdict.reason, verdict.detail, verdict.line, seconds, 0, isolation, None, verdict.rule
    )
