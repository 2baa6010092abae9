"""A seccomp allow-list: what warm tensor arithmetic needs of the kernel, and nothing else. Anything else kills the process.

Threads and processes are refused with an error instead, so that the reason can be `threads`: `clone3` says ENOSYS (its flags lie
in memory that a filter cannot read, and glibc then falls back), `clone`, `fork` and `vfork` say EAGAIN.
PROT_EXEC stays allowed: oneDNN writes its kernels at run time, and refusing would change the numbers.
Only x86-64 is coded; elsewhere the layer is reported missing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import struct
from collections.abc import Callable, Mapping

from sandbox.confinement.linux import MACHINE, PR_SET_SECCOMP, prctl
from sandbox.confinement.plan import LayerAbsent, Plan

_ARCH_X86_64 = 0xC000003E
_X32_BIT = 0x40000000
_MODE_FILTER = 2

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000

ALLOWED = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12,
    "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24, "mremap": 25, "madvise": 28,
    "nanosleep": 35, "getpid": 39, "exit": 60, "uname": 63, "gettimeofday": 96, "getrusage": 98, "sysinfo": 99,
    "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110, "sigaltstack": 131,
    "gettid": 186, "time": 201, "futex": 202, "sched_getaffinity": 204, "restart_syscall": 219, "clock_gettime": 228,
    "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "set_robust_list": 273, "getcpu": 309,
    "getrandom": 318, "membarrier": 324, "rseq": 334,
}  # fmt: skip
"""x86-64 numbers. No descriptor is open but /dev/null, and none can be made: read, write and mmap reach nothing."""

REFUSED = {
    "clone": (56, errno.EAGAIN),
    "fork": (57, errno.EAGAIN),
    "vfork": (58, errno.EAGAIN),
    "clone3": (435, errno.ENOSYS),
}
"""Name -> number and the error it gets."""

_TGKILL, _PRLIMIT64 = 234, 302

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # BPF: LD|W|ABS, JMP|JEQ|K, JMP|JGE|K, RET|K
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value & 0xFFFFFFFF)


def _return_if(number: int, action: int) -> list[bytes]:
    return [_instruction(_EQUAL, number, 0, 1), _instruction(_RETURN, action)]


def _allow_if_arguments(number: int, wanted: Mapping[int, int]) -> list[bytes]:
    """Allow the call only if every argument named by index (64 bits, compared by halves) has its value; kill
    otherwise."""
    halves = [
        (_ARGUMENTS + 8 * index + 4 * high, value >> 32 * high) for index, value in wanted.items() for high in (0, 1)
    ]
    steps = [_instruction(_EQUAL, number, 0, 2 * len(halves) + 2)]
    for left, (offset, half) in zip(range(len(halves), 0, -1), halves, strict=True):
        steps += [_instruction(_LOAD, offset), _instruction(_EQUAL, half, 0, 2 * left - 1)]
    return [*steps, _instruction(_RETURN, _ALLOW), _instruction(_RETURN, _KILL)]


def program(pid: int) -> bytes:
    """The filter. The process may send itself SIGABRT (abort ends as `crash`) and read, not set, its limits.

    No other signal, even to itself: a SIGKILL that the program cannot have sent is the host's doing (`sandbox.outcome`).
    """
    steps = [_instruction(_LOAD, _ARCH), _instruction(_EQUAL, _ARCH_X86_64, 1, 0), _instruction(_RETURN, _KILL)]
    steps += [_instruction(_LOAD, _NUMBER), _instruction(_AT_LEAST, _X32_BIT, 0, 1), _instruction(_RETURN, _KILL)]
    for number in ALLOWED.values():
        steps += _return_if(number, _ALLOW)
    for number, error in REFUSED.values():
        steps += _return_if(number, _ERRNO | error)
    steps += _allow_if_arguments(_TGKILL, {0: pid, 2: signal.SIGABRT})
    steps += _allow_if_arguments(_PRLIMIT64, {2: 0})
    steps.append(_instruction(_RETURN, _KILL))
    return b"".join(steps)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def apply(plan: Plan) -> None:
    """Install the filter; needs no_new_privs."""
    if MACHINE != "x86_64":
        raise LayerAbsent(f"the filter is not coded for {MACHINE}")
    instructions = program(os.getpid())
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    filled = _Program(len(instructions) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    prctl(PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(filled))


def _deadly(deed: Callable[[], object], what: str) -> Callable[[Plan], None]:
    """A probe that must not live to see the deed's outcome, not even an error."""

    def probe(plan: Plan) -> None:
        try:
            deed()
        except OSError as error:
            raise LayerAbsent(f"{what} gave an error instead of ending the process: {error}") from error
        raise LayerAbsent(f"{what} was let through")

    return probe


def _no_process(plan: Plan) -> None:
    try:
        child = os.fork()
    except OSError:
        return
    if child == 0:
        os._exit(0)
    raise LayerAbsent("a process could be started")


PROBES = (
    _no_process,
    _deadly(lambda: os.open("/", os.O_RDONLY), "open"),
    _deadly(lambda: os.stat("/"), "stat"),
    _deadly(lambda: socket.socket(), "socket"),
    _deadly(lambda: os.execv("/bin/true", ["true"]), "exec"),
    _deadly(lambda: os.kill(os.getppid(), signal.SIGCONT), "kill"),
)
