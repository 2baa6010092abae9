"""A seccomp allow-list: what warm tensor arithmetic needs of the kernel, and nothing else. Anything else kills the process.

Threads and processes are refused with an error instead, so that the reason can be `threads`: `clone3` says ENOSYS (its flags lie
in memory that a filter cannot read, and glibc then falls back), `clone`, `fork` and `vfork` say EAGAIN.
PROT_EXEC stays allowed: oneDNN writes its kernels at run time, and refusing would change the numbers.
The numbers stand in `syscall_numbers.py`. The aarch64 filter is coded but has not run on such a machine; the self-test would show it.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import signal
import socket
import struct
from collections.abc import Callable, Mapping

from sandbox.confinement.linux import MACHINE, prctl, syscall
from sandbox.confinement.plan import LayerAbsent, Plan
from sandbox.confinement.probing import no_process
from sandbox.confinement.syscall_numbers import ARCHITECTURES, Architecture
from sandbox.words import words

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000

ALLOWED = words(
    """
    read write close fstat lseek mmap mprotect munmap brk mremap madvise
    rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall exit exit_group
    sched_yield sched_getaffinity getcpu futex set_robust_list rseq membarrier
    nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times getrusage sysinfo uname getrandom
    getpid getppid gettid getuid getgid geteuid getegid
    """
)
"""No descriptor is open but /dev/null, and none can be made: read, write and mmap reach nothing."""

ALLOWED_WITH_GPU = words("ioctl poll ppoll fcntl sched_setaffinity sched_getparam sched_getscheduler set_tid_address")
"""What the NVIDIA driver asks of a process whose context is made: `ioctl` on the devices that are open, and waiting."""

REFUSED = {"clone": errno.EAGAIN, "fork": errno.EAGAIN, "vfork": errno.EAGAIN, "clone3": errno.ENOSYS}
"""System call and the error it gets."""

REFUSED_WITH_GPU = dict.fromkeys(
    ("open", "openat", "stat", "newfstatat", "statx", "access", "faccessat", "readlink"), errno.EACCES
)
"""The driver looks for optional files whenever it likes, and goes on without them."""

_SET_MODE_FILTER, _ALL_THREADS = 1, 1  # seccomp(2): SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # BPF: LD|W|ABS, JMP|JEQ|K, JMP|JGE|K, RET|K
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32_BIT = 0x40000000


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


def program(pid: int, architecture: Architecture, *, gpu: bool = False) -> bytes:
    """The filter. The process may send itself SIGABRT (abort ends as `crash`) and read, not set, its limits.

    No other signal, even to itself: a SIGKILL that the program cannot have sent is the host's doing (`sandbox.outcome`).
    """
    before, after = _fixed_parts(architecture, gpu)
    return before + b"".join(_allow_if_arguments(architecture.numbers["tgkill"], {0: pid, 2: signal.SIGABRT})) + after


@functools.cache  # filled by the self-test, so that no child builds it
def _fixed_parts(architecture: Architecture, gpu: bool) -> tuple[bytes, bytes]:
    """What stands before and after the one rule that depends on the process."""
    numbers = architecture.numbers
    steps = [_instruction(_LOAD, _ARCH), _instruction(_EQUAL, architecture.audit, 1, 0), _instruction(_RETURN, _KILL)]
    steps += [_instruction(_LOAD, _NUMBER), _instruction(_AT_LEAST, _X32_BIT, 0, 1), _instruction(_RETURN, _KILL)]
    for name in sorted(ALLOWED | (ALLOWED_WITH_GPU if gpu else frozenset())):
        if name in numbers:
            steps += _return_if(numbers[name], _ALLOW)
    for name, error in {**REFUSED, **(REFUSED_WITH_GPU if gpu else {})}.items():
        if name in numbers:
            steps += _return_if(numbers[name], _ERRNO | error)
    after = [*_allow_if_arguments(numbers["prlimit64"], {2: 0}), _instruction(_RETURN, _KILL)]
    return b"".join(steps), b"".join(after)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def apply(plan: Plan) -> None:
    """Install the filter; needs no_new_privs. With a GPU, on the driver's threads too."""
    architecture = ARCHITECTURES.get(MACHINE)
    if architecture is None:
        raise LayerAbsent(f"the filter is not coded for {MACHINE}")
    instructions = program(os.getpid(), architecture, gpu=plan.gpu)
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    filled = _Program(len(instructions) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    if plan.gpu:
        where = ctypes.cast(ctypes.byref(filled), ctypes.c_void_p)
        syscall(architecture.numbers["seccomp"], _SET_MODE_FILTER, _ALL_THREADS, where)
    else:
        prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(filled))


def _deadly(deed: Callable[[], object], what: str) -> Callable[[Plan], None]:
    """A probe that must not live to see the deed's outcome, not even an error."""

    def probe(plan: Plan) -> None:
        try:
            deed()
        except OSError as error:
            raise LayerAbsent(f"{what} gave an error instead of ending the process: {error}") from error
        raise LayerAbsent(f"{what} was let through")

    return probe


PROBES = (
    no_process,
    _deadly(lambda: os.open("/", os.O_RDONLY), "open"),
    _deadly(lambda: os.stat("/"), "stat"),
    _deadly(lambda: socket.socket(), "socket"),
    _deadly(lambda: os.execv("/bin/true", ["true"]), "exec"),
    _deadly(lambda: os.kill(os.getppid(), signal.SIGCONT), "kill"),
)
