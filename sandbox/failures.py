"""From what a program raised to a reason, a plain text and a line. Runs in the child: what is said here is heard by the parent only where
the child ended in order, and the program's own `__str__` may be part of it."""

from __future__ import annotations

import dis
import re
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch

from sandbox.gate import CANDIDATE_FILE
from sandbox.guards import Guards, throw
from sandbox.reasons import Reason
from sandbox.rules import PolicyViolation

_OUT_OF_MEMORY = re.compile(r"\[enforce fail at \S*alloc_cpu\.cpp|std::bad_alloc|bad allocation")
_OUT_OF_THREADS = re.compile(r"can't start new thread|Resource temporarily unavailable")
"""How messages of the libraries begin; further on there may be words of the program's own."""

_UNREADABLE = "(its message could not be read)"
_class_name: Callable[[type], str] = type.__dict__["__name__"].__get__


class Failure(Exception):
    """One job failed: reason, plain detail, line in the program's source."""

    def __init__(self, reason: Reason, detail: str, line: int | None = None, rule: str | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.line, self.rule = reason, detail, line, rule


def judged(guards: Guards, act: Callable[[], Any]) -> Any:
    """The result of `act`, or a Failure that says which reason its exception means.

    What the guards noted comes first, whatever the program made of the exception; it is looked at last, since telling the failure may
    run the program's code.
    """
    result, failure = None, None
    try:
        result = act()
    except BaseException as error:
        failure = _failure_of(error)
    if guards.violation is not None:
        refusal, line = guards.violation
        raise Failure(Reason.POLICY, refusal.detail, line, refusal.rule)
    if guards.flooded:
        raise Failure(Reason.OUTPUT, "printed more than the limit")
    if failure is not None:
        raise failure
    return result


def unreadable(error: SyntaxError) -> Failure:
    """For a text that Python's compiler refuses where its parser did not."""
    return Failure(Reason.SYNTAX, f"{type(error).__name__}: {error.msg}", error.lineno)


def refused(violation: PolicyViolation) -> Failure:
    """For a text that the gate refuses in the child; the host asked the same gate before, so this does not happen."""
    refusal = violation.refusal
    return Failure(Reason.POLICY, refusal.detail, refusal.line, refusal.rule)


def _failure_of(error: BaseException) -> Failure:
    if isinstance(error, Failure):
        return error
    line = _candidate_line(error.__traceback__)
    text = _plain_text(error)
    message = text.partition(": ")[2]
    if _raised_by_the_program(error.__traceback__):  # it cannot choose its reason by raising MemoryError
        return Failure(Reason.EXCEPTION, text, line)
    if isinstance(error, torch.OutOfMemoryError):
        return Failure(Reason.GPU_MEMORY, text, line)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _OUT_OF_MEMORY.match(message)):
        return Failure(Reason.MEMORY, text, line)
    if isinstance(error, RuntimeError | OSError) and _OUT_OF_THREADS.match(message):
        return Failure(Reason.THREADS, text, line)
    return Failure(Reason.EXCEPTION, text, line)


def _plain_text(error: BaseException) -> str:
    """`TypeName: message`. The message may come from the program's own `__str__`, which may itself fail or give what only looks
    like text."""
    name = str.__str__(_class_name(type(error)))
    try:
        message = str.__str__(str(error))
    except BaseException:
        message = _UNREADABLE
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
    if code is throw.__code__:
        return True
    return code.co_filename == CANDIDATE_FILE and code.co_code[frames.tb_lasti] in _RAISING


def _candidate_line(frames: TracebackType | None) -> int | None:
    lines = [number for frame, number in traceback.walk_tb(frames) if frame.f_code.co_filename == CANDIDATE_FILE]
    return lines[-1] if lines else None
