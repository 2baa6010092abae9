"""The sandbox's own process: exec'd fresh, warmed up once, then forks one child per candidate.

Run as a file by `sandbox.host` with an empty environment, before it has read anything: it holds no data, no secret
and no CUDA context, and it never runs candidate code itself. It must stay at one thread (a child of a process that
ever had more hangs in OpenMP). Protocol on one SOCK_SEQPACKET socket:

    host → zygote   {"run": limits} + five memfds, or {"kill": true}; end of file means: kill, reap, leave
    zygote → host   {"ready": layers, ...} once, then one {"status": ...} per run, sent after the whole tree is dead and reaped
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.confinement.cgroups import Group
    from sandbox.facade import Facade

MESSAGE_BYTES = 8192
DESCRIPTORS = 5
_LAST_DESCRIPTOR = 1 << 20

_CHILDREN = Path("/proc/thread-self/children")
"""Not in every kernel (CONFIG_PROC_CHILDREN); without it nobody could tell a waiting child from one that was left behind."""

_STARTED, _STARTS = 2, b"\0"
"""Descriptor on which a child says, once it is confined, that the candidate starts, and how; or what kept it from it. It cannot be unsaid:
from then on whatever happens is the candidate's doing, so none can pass for a fault of the host and stop a campaign."""

_FAULT_CHARACTERS = 500


@dataclass(frozen=True)
class Service:
    """What every child of this zygote gets, and how they are forked.

    Attributes:
        ahead: fork the next child while one runs, so that its pages are touched and its first locks are on before its program comes (10 ms
            a candidate). Only where the filter keeps a program from laying a hand on it, and never with a GPU.
    """

    facades: Mapping[str, Facade]
    layers: tuple[str, ...]
    group: Group | None
    gpu: bool
    parent: int
    ahead: bool


@dataclass(frozen=True)
class Child:
    """A forked child that waits for its program: `order` sends it, `said` tells whether it has started."""

    pid: int
    order: socket.socket
    said: int

    def let_go(self) -> None:
        """Close this end. A child that still waits leaves."""
        self.order.close()
        os.close(self.said)


def _forked(service: Service) -> Child:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    said, saying = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    pid = os.fork()
    if pid == 0:
        os.dup2(saying, _STARTED)
        kept = theirs.detach()
        os.closerange(_STARTED + 1, kept)
        os.closerange(kept + 1, _LAST_DESCRIPTOR)
        _child(kept, service)
    theirs.close()
    os.close(saying)
    return Child(pid, ours, said)


def _child(order: int, service: Service) -> None:
    """Get ready, wait for the program, map it, lock up, run it. Never returns."""
    from sandbox import clock, runner  # loaded by the warm-up: a child pays for no import
    from sandbox.confinement import descriptors, layers
    from sandbox.confinement.plan import Plan

    started, status = False, 1
    try:
        kept: tuple[int, ...] = ()
        if service.gpu:
            from sandbox import gpu

            gpu.open_context()
            kept = descriptors.of_the_driver()
        else:
            runner.rehearse(service.facades)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        layers.confine_early(Plan(service.parent, None, 0), service.layers)
        message, fds, _, _ = socket.recv_fds(socket.socket(fileno=order), MESSAGE_BYTES, DESCRIPTORS)
        if not message:  # the zygote is gone
            status = 0
            return
        request = json.loads(message)
        program = runner.read_program(fds[0])
        mapped = runner.Mapped.from_descriptors(*fds[1:])
        space = pages * os.sysconf("SC_PAGE_SIZE") + sum(os.fstat(fd).st_size for fd in fds) + request["memory_bytes"]
        plan = Plan(service.parent, None if service.gpu else space, request["cpu_seconds"], service.gpu, kept)
        if not service.gpu:  # its driver measures time
            clock.stop()
        layers.confine_late(plan, service.layers)
        os.write(_STARTED, _STARTS)
        started = True
        runner.run(program, mapped, service.facades)
        status = 0
    except BaseException as error:
        if not started:
            os.write(_STARTED, f"{type(error).__name__}: {error}"[:_FAULT_CHARACTERS].encode("utf-8", "replace"))
    finally:
        os._exit(status)


def _sweep(spare: Child | None) -> Child | None:
    """Kill and reap whatever the candidate left behind; as a subreaper the zygote is the parent of all of it. Returns the spare child,
    or None if it went with the rest."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if spare is not None and pid == spare.pid:
            spare.let_go()
            spare = None
        if pid == 0:
            if spare is not None and len(_children()) == 1:
                return spare
            if os.getpid() == 1:
                os.kill(-1, signal.SIGKILL)  # the numbers in /proc are those of another namespace
            else:
                for child in _children():
                    os.kill(int(child), signal.SIGKILL)
            os.waitpid(-1, 0)
            if spare is not None:
                spare.let_go()
            spare = None


def _children() -> list[str]:
    """Children alive, by the numbers that /proc knows them by."""
    return _CHILDREN.read_text().split()


def _watch(child: Child, channel: socket.socket) -> tuple[dict[str, Any], bool]:
    """Wait for the child, killing it if the host says so. Returns what to report, and whether the host is still
    there."""
    alive, killed = True, False
    pidfd = os.pidfd_open(child.pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(channel, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if pidfd in ready:
                break
            alive = bool(channel.recv(MESSAGE_BYTES))
            killed = True
            poll.unregister(channel)
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)
    _, status, usage = os.wait4(child.pid, 0)
    used = {"killed": killed, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_bytes": usage.ru_maxrss * 1024}
    return {"status": status, **used}, alive


def _serve(channel: socket.socket, service: Service) -> None:
    spare = _forked(service) if service.ahead else None
    while True:
        message, fds, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, DESCRIPTORS)
        if not message:
            return
        request = json.loads(message)
        if "run" not in request:  # a kill that came after its child had ended
            continue
        if spare is not None and os.waitpid(spare.pid, os.WNOHANG)[0]:  # it was killed while it waited
            spare.let_go()
            spare = None
        report, alive, spare = _run(request["run"], fds, channel, service, spare or _forked(service))
        if not alive:
            return
        channel.send(json.dumps(report).encode("ascii"))
        if service.ahead and spare is None:
            spare = _forked(service)


def _run(
    request: Mapping[str, Any], fds: list[int], channel: socket.socket, service: Service, child: Child
) -> tuple[dict[str, Any], bool, Child | None]:
    """One program in a waiting child, until its whole tree is reaped. Returns what to report, whether the host is still there, and the
    next child, forked meanwhile."""
    group = service.group
    starved = group.out_of_memory() if group else 0
    if group:
        group.limit_memory(request["memory_bytes"] + os.fstat(fds[3]).st_size)
    with suppress(OSError):  # it died while it waited: seen below, as a child that never started
        socket.send_fds(child.order, [json.dumps(request).encode("ascii")], fds)
    for fd in fds:
        os.close(fd)
    spare = _forked(service) if service.ahead else None
    report, alive = _watch(child, channel)
    spare = _sweep(spare)
    said = b""
    with suppress(BlockingIOError):
        said = os.read(child.said, 4 * _FAULT_CHARACTERS)
    report["started"] = said.startswith(_STARTS)
    report["fault"] = "" if report["started"] else said.decode("utf-8", "replace")
    report["starved"] = group is not None and group.out_of_memory() > starved
    child.let_go()
    return report, alive, spare


def _silence() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(0)


def main(descriptor: int, device: str) -> None:
    """Warm up, say what isolation this machine gives, serve until the host hangs up."""
    channel = socket.socket(fileno=descriptor)
    package = str(Path(__file__).resolve().parent.parent)
    sys.path.insert(0, package)
    from sandbox.confinement import cgroups, namespaces
    from sandbox.confinement.linux import PR_SET_CHILD_SUBREAPER, prctl

    cgroups.group = cgroups.enter()
    namespaces.enter(channel.close)  # before torch, so that the launcher that stays behind is small
    from sandbox import clock, pages, selftest, warmup

    facades = warmup.warm_up()
    sys.path.remove(package)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    findings = selftest.measure()
    _silence()
    clock.find()
    pages.settle()
    folders = [str(folder) for folder in cgroups.group.folders] if cgroups.group else []
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    ready = {"ready": asdict(findings), "groups": folders, "resident_bytes": resident}
    channel.send(json.dumps(ready).encode("ascii"))
    group, gpu = cgroups.group if "cgroups" in findings.held else None, device == "cuda"
    ahead = "seccomp" in findings.held and not gpu and len(os.sched_getaffinity(0)) > 1 and _CHILDREN.exists()
    if group:
        group.limit_processes(2 if ahead else 1)
    _serve(channel, Service(facades, findings.held, group, gpu, os.getpid(), ahead))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C belongs to the host, which hangs up
    main(int(sys.argv[1]), sys.argv[2])
