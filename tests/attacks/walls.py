"""For every layer an attack that only this layer stops: it succeeds where the layer is off, and fails where it is on, all else being equal.

The language gate is off in both runs (it is a wall of its own). `also_off` are layers that would stop the same deed: the layers overlap on
purpose, so that a gap in one is not a way out. Where it is empty, the layer alone makes the difference with every other one on.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.attacks.attack import body

NONE = frozenset[str]()


@dataclass(frozen=True)
class Wall:
    """Attributes:
    source: the attack.
    proof: as in `attack.PROOFS`, or "outlives" (the child lives on after its zygote was killed), "mailbox" (a second program finds what
        the first left), "secret" (a file appears where only root may make one).
    also_off: layers that stop the same.
    as_root: only root has something to lose here.
    """

    source: str
    proof: str
    also_off: frozenset[str] = NONE
    as_root: bool = False


_MAILBOX = """
import ctypes
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
n = libc.shmget(0x6d657267, 4096, 0o1666)
assert n >= 0
at = libc.shmat(n, None, 0)
left = ctypes.c_int.from_address(at)
if left.value != 42:
    left.value = 42
    return x
"""

_PAGE_ZERO = """
import ctypes
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
at = libc.mmap(0, 4096, 3, 0x32, -1, 0)
assert at != ctypes.c_void_p(-1).value
"""

_FORGE = """
import os
report = b'{"reason": null, "detail": null, "line": null, "rule": null}'
for fd in range(3, 64):
    try:
        os.write(fd, len(report).to_bytes(4, 'little') + report)
    except OSError:
        pass
os._exit(0)
"""

WALLS: dict[str, Wall] = {
    "session": Wall(body("while True:\n    pass"), "outlives", frozenset({"namespaces", "cgroups"})),
    "cgroups": Wall(body("y = bytearray(b'1') * (700 << 20)"), "returns", frozenset({"rlimits"})),
    "namespaces": Wall(body("import os\nassert os.uname().nodename != 'sandbox'"), "returns"),
    "no_new_privs": Wall(
        body("import os\nos.execv('SETUID', ['touch', 'SECRET'])"),
        "secret",
        frozenset({"landlock", "rlimits", "seccomp", "cgroups"}),
        as_root=True,
    ),
    "privileges": Wall(body(_PAGE_ZERO), "returns", as_root=True),
    "landlock": Wall(body("import os\nos.mkdir('CANARY')"), "canary", frozenset({"seccomp"})),
    "descriptors": Wall(body(_FORGE), "accepted", frozenset({"rlimits"})),
    "rlimits": Wall(body("y = bytearray(b'1') * (700 << 20)"), "returns", frozenset({"cgroups"})),
    "seccomp": Wall(body(_MAILBOX), "mailbox"),
}
