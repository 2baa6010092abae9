"""Time stands still for a child, also where native code asks for it (numpy, for the date "now").

The kernel keeps the time in pages that it maps into every process (vDSO(7)). A child has pages of zeros in their place: C's `time()` is 0, and what
needs more asks the kernel, which no name that a program has leads to. Where it cannot be done, programs may read the date.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

_PAGES = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) .*\[vvar\w*\]$", re.MULTILINE)
_READ, _PRIVATE_FIXED_ANONYMOUS = 0x1, 0x02 | 0x10 | 0x20
_mmap = ctypes.CDLL(None).mmap
_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]

_pages: list[tuple[int, int]] = []


def find() -> None:
    """Once in the zygote: where they are. A child cannot read it any more."""
    found = _PAGES.findall(Path("/proc/self/maps").read_text())
    _pages[:] = [(int(start, 16), int(end, 16)) for start, end in found]


def stop() -> None:
    """In the child, before the program."""
    for start, end in _pages:
        _mmap(start, end - start, _READ, _PRIVATE_FIXED_ANONYMOUS, -1, 0)
