"""A probe that more than one layer has."""

from __future__ import annotations

import os

from sandbox.confinement.plan import LayerAbsent, Plan


def no_process(plan: Plan) -> None:
    """Raises LayerAbsent if the probe can have a child of its own."""
    try:
        child = os.fork()
    except OSError:
        return
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    raise LayerAbsent("a process could be started")
