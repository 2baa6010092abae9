"""No descriptor but 0, 1 and 2, which the zygote has bound to /dev/null. Memory is mapped before this."""

from __future__ import annotations

import os

from sandbox.confinement.plan import LayerAbsent, Plan

_FIRST = 3
_LAST = 1 << 20


def apply(plan: Plan) -> None:
    """Close everything from 3 on (one `close_range` call)."""
    os.closerange(_FIRST, _LAST)


def probe(plan: Plan) -> None:
    """Raises LayerAbsent if a descriptor stayed open (the probe was given some)."""
    for fd in range(_FIRST, 64):
        try:
            os.fstat(fd)
        except OSError:
            continue
        raise LayerAbsent(f"descriptor {fd} stayed open")
