"""What a program's end means: one reason of the list, a result, or a fault of the host.

Decided by the parent alone: by its own clock, then the kernel's word on how the child ended, then the child's report.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any

from sandbox.errors import KilledError, ZygoteError
from sandbox.reasons import Reason
from sandbox.records import ExecutionResult, Isolation, Limits, Verdict
from sandbox.rules import RULES
from sandbox.text import clean
from sandbox.transfer import Mailbox, PackedJobs, not_finite

_FROM_CHILD = frozenset(
    {Reason.POLICY, Reason.SYNTAX, Reason.MEMORY, Reason.GPU_MEMORY, Reason.THREADS, Reason.OUTPUT, Reason.EXCEPTION, Reason.NO_RESULT,
     Reason.WRONG_TYPE, Reason.WRONG_SHAPE, Reason.WRONG_DTYPE}
)  # fmt: skip
"""Reasons that a child may give for itself; the others are the parent's to find."""

_BY_SIGNAL = {signal.SIGXCPU: Reason.CPU, signal.SIGSYS: Reason.SYSCALL, signal.SIGXFSZ: Reason.OUTPUT}


HOG_SHARE = 0.5
"""A program that was killed while it held more than this share of its memory limit is taken for what the machine ran out of."""


@dataclass(frozen=True)
class Outcome:
    """How a child ended, as the zygote saw it.

    Attributes:
        status: as `waitpid` gives it.
        grown_bytes: of `peak_bytes`, what it had beyond the zygote's own pages.
        filtered: the system-call filter held.
        started: it was confined, and the program began.
        fault: what kept it from that.
        starved: the kernel killed in the zygote's control group for want of memory.
        gpu_bytes: of the device's memory, what was in use beyond what was before; 0 without a GPU.
    """

    status: int
    timed_out: bool
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    grown_bytes: int
    filtered: bool
    started: bool = True
    fault: str = ""
    starved: bool = False
    gpu_bytes: int = 0


def judge(outcome: Outcome, box: Mailbox, packed: PackedJobs, limits: Limits, isolation: Isolation) -> ExecutionResult:
    """The result of a program that has ended, with the tree dead and reaped.

    Raises:
        ZygoteError: the child could not be confined, so the program was not run.
        KilledError: something outside killed the program, in this attempt and (the caller's part) in one before it.
    """

    def failed(reason: Reason, detail: str, line: int | None = None, rule: str | None = None) -> ExecutionResult:
        text = clean(detail, limits.detail_bytes)  # again: a report may be forged
        return ExecutionResult(False, reason, text, line, outcome.seconds, outcome.peak_bytes, isolation, None, rule)

    ended = _ending(outcome, limits)
    try:
        report = box.read_report()
    except ValueError as error:
        return failed(ended[0] if ended else Reason.CRASH, ended[1] if ended else str(error))
    if not outcome.started and not (outcome.timed_out or outcome.starved):
        raise ZygoteError(f"a child could not be confined: {outcome.fault or f'wait status {outcome.status}'}")
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
    bad = not_finite(outputs)
    if bad is not None:
        size = outputs[bad[0]].numel()
        return failed(Reason.NONFINITE, f"tensor '{bad[0]}': {bad[1]} of {size} values are NaN or infinite")
    return ExecutionResult(True, None, None, None, outcome.seconds, outcome.peak_bytes, isolation, outputs)


def _ending(outcome: Outcome, limits: Limits) -> tuple[Reason, str] | None:
    """The reason that the way of ending gives; None if the child left in order. Raises KilledError."""
    if killed_unasked(outcome, limits):
        return _killed_again(outcome, limits)
    if outcome.gpu_bytes > limits.gpu_memory_bytes:
        return Reason.GPU_MEMORY, f"held more than {limits.gpu_memory_bytes >> 20} MiB of the GPU's memory"
    if outcome.starved:
        return Reason.MEMORY, f"killed by the system for holding more than {limits.memory_bytes >> 20} MiB of memory"
    if outcome.timed_out:
        return Reason.TIMEOUT, f"still running after {limits.wall_seconds:g} s"
    if os.WIFSIGNALED(outcome.status):
        number = os.WTERMSIG(outcome.status)
        if number == signal.SIGKILL:
            return Reason.CPU, f"more than {limits.cpu_seconds:g} s of processor time"
        name = signal.Signals(number).name if number in signal.valid_signals() else str(number)
        return _BY_SIGNAL.get(signal.Signals(number), Reason.CRASH), f"ended by signal {name}"
    if os.WEXITSTATUS(outcome.status) != 0:
        return Reason.CRASH, f"ended with status {os.WEXITSTATUS(outcome.status)}"
    return None


def killed_unasked(outcome: Outcome, limits: Limits) -> bool:
    """Whether a SIGKILL ended it that was neither ours (time-out) nor that of the processor-time limit."""
    killed = os.WIFSIGNALED(outcome.status) and os.WTERMSIG(outcome.status) == signal.SIGKILL
    asked = outcome.timed_out or outcome.starved or outcome.gpu_bytes > limits.gpu_memory_bytes
    return killed and not asked and outcome.cpu_seconds < limits.cpu_seconds


def _killed_again(outcome: Outcome, limits: Limits) -> tuple[Reason, str]:
    """What it means that a program was killed unasked in both attempts.

    Not that it passed its memory limit: RLIMIT_AS makes the allocation fail, and the program reports that itself. Nor
    that it killed itself, where the system-call filter holds, which lets a process send itself SIGABRT alone. So the
    kernel (for want of memory) or a person did it: a fault of the host, which must not become a candidate's failure that
    another machine would not repeat. Two cases stay the program's, so that no program can stop a campaign that would
    meet it again whenever it is resumed: without the filter it may have killed itself; and one that held most of what it
    may hold is what the machine had no room for.

    Raises:
        KilledError: the program is not to blame.
    """
    if outcome.grown_bytes > HOG_SHARE * limits.memory_bytes:
        return Reason.MEMORY, "killed twice by the system while it held most of the memory that it may have"
    if not outcome.filtered:
        return Reason.CRASH, "killed twice, by the system or by itself (there is no filter of system calls here)"
    raise KilledError(
        f"a program's process was killed twice from outside while it held {outcome.grown_bytes >> 20} MiB of its own, "
        f"of the {limits.memory_bytes >> 20} MiB that it may have; most likely the machine has no memory left: free some, "
        "then go on"
    )


_LINES = 1_000_000
"""More than a program may have."""


def _told(report: Any) -> Verdict | None:
    """The child's report, if it has the runner's form; `ok` where it claims success."""
    if not isinstance(report, dict) or set(report) != {"reason", "detail", "line", "rule"}:
        return None
    reason, detail, line, rule = report["reason"], report["detail"], report["line"], report["rule"]
    if not (line is None or (type(line) is int and 0 <= line <= _LINES)):
        return None
    if not (rule is None or (reason == Reason.POLICY and isinstance(rule, str) and rule in RULES)):
        return None
    if reason is None:
        return Verdict(True)
    if not isinstance(reason, str) or reason not in _FROM_CHILD or not isinstance(detail, str):
        return None
    return Verdict(False, Reason(reason), detail, line, rule)
