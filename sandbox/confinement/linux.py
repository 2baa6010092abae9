"""The few Linux calls that Python's standard library lacks, through ctypes. Errors become OSError."""

from __future__ import annotations

import ctypes
import os
import platform

MACHINE = platform.machine()

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def prctl(option: int, value: int = 0, pointer: int = 0) -> int:
    """`prctl(2)`; unused arguments are 0, as the kernel asks for."""
    return _checked(_libc.prctl(option, value, pointer, 0, 0), f"prctl({option})")


def syscall(number: int, *arguments: int | ctypes.c_void_p | None) -> int:
    """A raw system call. Integers are passed as 64-bit values."""
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *passed), f"syscall({number})")


def unshare(flags: int) -> None:
    """`unshare(2)`."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def set_domain_name(name: str) -> None:
    """`setdomainname(2)`."""
    text = name.encode("ascii")
    _checked(_libc.setdomainname(text, ctypes.c_size_t(len(text))), "setdomainname")
