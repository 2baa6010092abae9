"""Landlock with no rule at all: no path of any file system can be opened, listed, made or removed; no port; no signal outside.

https://docs.kernel.org/userspace-api/landlock.html. Probed by doing: /sys/kernel/security/lsm may be absent though it works.
"""

from __future__ import annotations

import ctypes
import os

from sandbox.confinement.linux import syscall
from sandbox.confinement.plan import LayerAbsent, Plan

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same on every architecture
_ASK_VERSION = 1

_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""Kernel's Landlock version -> every file-system right it can handle; later versions as 5."""

_NETWORK_RIGHTS = 0b11  # bind and connect of TCP, from version 4
_SCOPES = 0b11  # abstract sockets and signals, from version 6


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


def apply(plan: Plan) -> None:
    """Handle every right the kernel knows and allow none."""
    try:
        version = syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    except OSError as error:
        raise LayerAbsent(f"the kernel has no Landlock ({error.strerror})") from error
    rules = _Ruleset(_FILE_RIGHTS[min(version, 5)])
    size = 8
    if version >= 4:
        rules.network, size = _NETWORK_RIGHTS, 16
    if version >= 6:
        rules.scoped, size = _SCOPES, 24
    fd = syscall(_CREATE_RULESET, ctypes.cast(ctypes.byref(rules), ctypes.c_void_p), size, 0)
    try:
        syscall(_RESTRICT_SELF, fd, 0)
    finally:
        os.close(fd)


def probe(plan: Plan) -> None:
    """Raises LayerAbsent if a file can be opened or a folder listed."""
    for path, flags in (("/proc/self/status", os.O_RDONLY), ("/", os.O_RDONLY), ("/dev/null", os.O_WRONLY)):
        try:
            os.open(path, flags)
        except PermissionError:
            continue
        raise LayerAbsent(f"{path} could be opened")
