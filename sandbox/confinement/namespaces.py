"""Namespaces of network, IPC, host name and processes, for the zygote and so for every candidate (nothing per candidate).

The zygote becomes process 1 of its process namespace: it reaps every orphan, one `kill(-1)` ends whatever a candidate left, and
when it dies the kernel ends everything in it. Root needs nothing more; others get the right from a user namespace.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from sandbox.confinement.linux import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    PR_SET_PDEATHSIG,
    prctl,
    set_domain_name,
    unshare,
)
from sandbox.confinement.plan import LayerAbsent, Plan

HOST_NAME = "sandbox"
"""What a candidate reads instead of the machine's name (`uname` is among the calls that it may make)."""

_FLAGS = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID


def _unshare() -> None:
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        unshare(_FLAGS)
    else:
        unshare(CLONE_NEWUSER | _FLAGS)
        Path("/proc/self/setgroups").write_text("deny")  # the kernel asks for this before an unprivileged gid map
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    socket.sethostname(HOST_NAME)
    set_domain_name(HOST_NAME)


def _possible() -> bool:
    """Tried in a process of its own: half of it done cannot be undone."""
    trial = os.fork()
    if trial == 0:
        status = 1
        try:
            _unshare()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(trial, 0)[1] == 0


def enter(close: Callable[[], None]) -> None:
    """Go on as process 1 of new namespaces, if the machine lets us; otherwise just go on.

    The calling process stays behind as a waiting launcher: it calls `close` (its copy of the channel would keep the host
    from noticing our death), waits, and leaves with the zygote's status. `fork` moves us, because a process cannot change its own pid
    namespace.
    """
    if not _possible():
        return
    _unshare()
    child = os.fork()
    if child:
        close()
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def apply(plan: Plan) -> None:
    """Nothing per candidate: a child is born into the zygote's namespaces."""


def probe(plan: Plan) -> None:
    """Raises LayerAbsent unless the parent is process 1, and there is no network but a loopback that is down."""
    if plan.parent != 1 or os.getppid() != 1:
        raise LayerAbsent("the kernel or the container refuses new namespaces")
    if os.uname().nodename != HOST_NAME:
        raise LayerAbsent("the machine's name is visible")
    if [name for _, name in socket.if_nameindex() if name != "lo"]:
        raise LayerAbsent("the network of the host is visible")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("127.0.0.1", 9))
        except OSError:
            return
    raise LayerAbsent("an address could be reached")
