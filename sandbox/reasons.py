"""The one list of reasons: why a candidate program has no result. Used by the sandbox, the archive and the documents.

A candidate's fault is a value with a reason (this list); a host's fault is an exception (`sandbox.errors`). The parent
process decides every reason; what the child says is only heard where the child ended in order.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a program was rejected (by the gate, before it ran) or failed (while or after it ran)."""

    POLICY = "policy"
    SYNTAX = "syntax"
    SOURCE_SIZE = "source_size"
    TIMEOUT = "timeout"
    CPU = "cpu"
    MEMORY = "memory"
    GPU_MEMORY = "gpu_memory"
    THREADS = "threads"
    OUTPUT = "output"
    SYSCALL = "syscall"
    CRASH = "crash"
    EXCEPTION = "exception"
    NO_RESULT = "no_result"
    WRONG_TYPE = "wrong_type"
    WRONG_SHAPE = "wrong_shape"
    WRONG_DTYPE = "wrong_dtype"
    NONFINITE = "nonfinite"

    @property
    def meaning(self) -> str:
        """One line for people: what happened, as the documents print it."""
        return _MEANINGS[self]


_MEANINGS: dict[Reason, str] = {
    Reason.POLICY: "the program uses what merge programs are not given; rule, name and line say what",
    Reason.SYNTAX: "the text is not valid Python, or is nested too deeply to be compiled",
    Reason.SOURCE_SIZE: "the source text is longer than the limit",
    Reason.TIMEOUT: "the program was still running when the wall-clock limit passed; its processes were killed",
    Reason.CPU: "the program used more processor time than the limit",
    Reason.MEMORY: "the program asked for more memory than the limit, or held so much of it that the system killed it twice",
    Reason.GPU_MEMORY: "the program held more of the GPU's memory than the limit, or the device had no more to give",
    Reason.THREADS: "the program tried to start a thread or a process",
    Reason.OUTPUT: "the program printed more than the limit, or tried to write a file",
    Reason.SYSCALL: "the kernel killed the program for a system call that tensor arithmetic does not need",
    Reason.CRASH: "the program's process died (signal, abort, forged or torn report)",
    Reason.EXCEPTION: "the program raised an exception",
    Reason.NO_RESULT: "the program ended without a merged tensor (it returned None, or left early)",
    Reason.WRONG_TYPE: "the program returned something other than one dense CPU tensor",
    Reason.WRONG_SHAPE: "the returned tensor's shape is not the inputs' shape",
    Reason.WRONG_DTYPE: "the returned tensor's dtype is not a real floating dtype",
    Reason.NONFINITE: "the returned tensor holds NaN or infinity after the cast to float32",
}
