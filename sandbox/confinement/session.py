"""A session of its own, death with the zygote, first to go when memory runs out, and no core dumps or debuggers.

Parent-death is set again later (`arm`): the kernel forgets it when the uid changes.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from sandbox.confinement.linux import PR_SET_DUMPABLE, PR_SET_PDEATHSIG, prctl
from sandbox.confinement.plan import LayerAbsent, Plan


def apply(plan: Plan) -> None:
    """Leave the zygote's session. The parent-death signal is set here and again after the uid drop."""
    os.setsid()
    go_first()
    arm(plan)


def go_first() -> None:
    """Be what the kernel kills when the machine's memory runs out, and not the zygote."""
    Path("/proc/self/oom_score_adj").write_text("1000")


def arm(plan: Plan) -> None:
    """Die with the zygote; be closed to ptrace and /proc readers of the same uid."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    prctl(PR_SET_DUMPABLE, 0)
    if os.getppid() != plan.parent:  # it died before the signal was armed
        os._exit(1)


def probe(plan: Plan) -> None:
    """Raises LayerAbsent unless the process leads a session of its own."""
    if os.getsid(0) != os.getpid():
        raise LayerAbsent("the child could not get a session of its own")
