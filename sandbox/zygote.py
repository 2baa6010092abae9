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
HOST_FAULT = 70
"""Exit status of a child that could not be confined: the candidate was not run. Believed only of one that had not started."""

_STARTED = 2
"""Descriptor on which a child says, once it is confined, that the candidate starts. It cannot be unsaid: from then on whatever happens
is the candidate's doing, so none can pass for a fault of the host and stop a campaign."""


@dataclass(frozen=True)
class Service:
    """What every child of this zygote gets: module stand-ins, layers, and whether it is to use the GPU."""

    facades: Mapping[str, Facade]
    layers: tuple[str, ...]
    group: Group | None
    gpu: bool
    parent: int


def _sweep() -> None:
    """Kill and reap whatever the candidate left behind. As a subreaper the zygote is the parent of all of it."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            for child in _children():
                os.kill(child, signal.SIGKILL)
            os.waitpid(-1, 0)


def _children() -> list[int]:
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text() if os.getpid() != 1 else ""
    if os.getpid() == 1:
        os.kill(-1, signal.SIGKILL)
    return [int(pid) for pid in text.split()]


def _watch(child: int, channel: socket.socket) -> tuple[dict[str, Any], bool]:
    """Wait for the child, killing it if the host says so. Returns what to report, and whether the host is still
    there."""
    alive, killed = True, False
    pidfd = os.pidfd_open(child)
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
    _, status, usage = os.wait4(child, 0)
    _sweep()
    used = {"killed": killed, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_bytes": usage.ru_maxrss * 1024}
    return {"status": status, **used}, alive


def _child(request: Mapping[str, Any], fds: list[int], service: Service) -> None:
    """Map, confine, run. Never returns."""
    from sandbox import runner  # loaded by the warm-up: a child pays for no import
    from sandbox.confinement import descriptors
    from sandbox.confinement.layers import confine
    from sandbox.confinement.plan import Plan

    status = HOST_FAULT
    try:
        program = runner.read_program(fds[0])
        mapped = runner.Mapped.from_descriptors(*fds[1:])
        kept: tuple[int, ...] = ()
        if service.gpu:
            from sandbox import gpu

            gpu.open_context()
            kept = descriptors.of_the_driver()
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = None if service.gpu else pages * os.sysconf("SC_PAGE_SIZE") + request["memory_bytes"]
        confine(Plan(service.parent, limit, request["cpu_seconds"], service.gpu, kept), service.layers)
        os.write(_STARTED, b"s")
        status = 1
        runner.run(program, mapped, service.facades)
        status = 0
    except BaseException as error:
        if status == HOST_FAULT:
            runner.write_report(mapped.report, {"fault": f"{type(error).__name__}: {error}"[:500]})
    finally:
        os._exit(status)


def _serve(channel: socket.socket, service: Service) -> None:
    while True:
        message, fds, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, DESCRIPTORS)
        if not message:
            return
        request = json.loads(message)
        if "run" not in request:  # a kill that came after its child had ended
            continue
        report, alive = _run(request["run"], fds, channel, service)
        if not alive:
            return
        channel.send(json.dumps(report).encode("ascii"))


def _run(
    request: Mapping[str, Any], fds: list[int], channel: socket.socket, service: Service
) -> tuple[dict[str, Any], bool]:
    """One child, from its fork until its whole tree is reaped."""
    group = service.group
    starved = group.out_of_memory() if group else 0
    if group:
        group.limit_memory(request["memory_bytes"] + os.fstat(fds[3]).st_size)
    said, saying = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    child = os.fork()
    if child == 0:
        os.dup2(saying, _STARTED)
        _child(request, fds, service)
    for fd in (*fds, saying):
        os.close(fd)
    report, alive = _watch(child, channel)
    report["started"] = bool(os.read(said, 1))
    os.close(said)
    report["starved"] = group is not None and group.out_of_memory() > starved
    return report, alive


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
    from sandbox import selftest, warmup

    facades = warmup.warm_up()
    sys.path.remove(package)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    findings = selftest.measure()
    _silence()
    folders = [str(folder) for folder in cgroups.group.folders] if cgroups.group else []
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    ready = {"ready": asdict(findings), "groups": folders, "resident_bytes": resident}
    channel.send(json.dumps(ready).encode("ascii"))
    group = cgroups.group if "cgroups" in findings.held else None
    _serve(channel, Service(facades, findings.held, group, device == "cuda", os.getpid()))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C belongs to the host, which hangs up
    main(int(sys.argv[1]), sys.argv[2])
