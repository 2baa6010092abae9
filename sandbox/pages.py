"""The zygote's memory, laid out so that a fork is cheap to make and to end. Done last before it serves.

What costs is the number of small pages: a fork copies their entries, an exit takes them down, and a page that a child writes to is
copied (150 MB of anonymous memory after importing torch).

- Large pages under the heap: fork, exit and reap from 8.0 ms to 2.4 ms. A write in either process splits one of them, so it is done
  when the self-test's own forks are over (5 % of a candidate).
- Free memory between old objects is used up, so that what a child makes lies together on fresh pages instead of one here and one
  there, each splitting a large page: another 9 %.

Where the kernel cannot do it (before 6.1, or large pages off), forks are merely slower, so failure is no error.
"""

from __future__ import annotations

import ctypes
import gc
import re
from pathlib import Path

LARGE_PAGE = 2 << 20
"""Bytes; of x86-64, and of aarch64 with 4 KiB pages."""

_MADV_COLLAPSE = 25
_HEAP_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p \S+ \S+ 0 +(\[heap\])?$")


_SMALL = range(48, 513, 16)
"""Sizes of objects for which Python keeps pools: https://docs.python.org/3.11/c-api/memory.html#the-pymalloc-allocator."""

_FILLED = 600 << 10
"""Bytes of each size: more than importing torch leaves free (a quarter of it does less), 20 MB in all."""

_fillers: list[object] = []


def settle() -> None:
    """Lay the memory out, and have the collector leave the shared pages alone in every child."""
    gc.collect()
    _fill_holes()
    gc.freeze()
    collapse_heap()


def _fill_holes() -> None:
    """Take what is free in the pools of small objects, for good."""
    _fillers.extend(object() for _ in range(_FILLED // 16))
    _fillers.extend(float(number) for number in range(_FILLED // 32))
    header = b"".__sizeof__()
    for size in _SMALL:
        _fillers.extend(bytes(size - header) for _ in range(_FILLED // size))


def _heap_ranges() -> list[tuple[int, int]]:
    """Start and end of the private anonymous writable mappings, rounded inwards to large pages."""
    ranges = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        found = _HEAP_LINE.match(line)
        if found:
            start, end = int(found[1], 16), int(found[2], 16)
            start, end = -(-start // LARGE_PAGE) * LARGE_PAGE, end // LARGE_PAGE * LARGE_PAGE
            if start < end:
                ranges.append((start, end))
    return ranges


def collapse_heap() -> int:
    """Ask the kernel for large pages under this process's heap; the number of ranges where it agreed."""
    libc = ctypes.CDLL(None)
    agreed = 0
    for start, end in _heap_ranges():
        agreed += libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_COLLAPSE) == 0
    return agreed
