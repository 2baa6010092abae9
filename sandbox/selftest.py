"""The self-test: which layers hold on this machine, found by doing, in forked probes of the warmed zygote.

First each layer alone, so that none hides behind another; then all that hold together, against the deeds that matter.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Collection
from pathlib import Path

from sandbox.confinement.layers import LAYERS, Layer, Step, confine
from sandbox.confinement.plan import LayerAbsent, Plan
from sandbox.records import GIB

_PROBE_SECONDS = 10


def measure() -> tuple[list[str], list[str]]:
    """Names of the layers that hold, and one line `name: why; what to do` for each that does not."""
    held: list[str] = []
    missing: list[str] = []
    for layer in LAYERS:
        problem = next(filter(None, (_probe_one(layer, probe) for probe in layer.probes)), None)
        if problem is None:
            held.append(layer.name)
        else:
            missing.append(f"{layer.name}: {problem}; {layer.fix}")
    return held, missing + _together(held)


def _probe_one(layer: Layer, probe: Step) -> str | None:
    """None if the layer, with what it needs, stops the probe; else why not."""
    wanted = {layer.name, *layer.needs}

    def act(plan: Plan) -> None:
        for part in LAYERS:
            if part.name in wanted:
                part.apply(plan)
        probe(plan)

    return _forked(act)


def _together(held: Collection[str]) -> list[str]:
    """What still gets through with every held layer on, in the very order in which candidates get them."""
    if "seccomp" not in held and "landlock" not in held:
        return []  # then these deeds are known to be open, and the list above says why
    problems = []
    for name, deed in _DEEDS.items():

        def act(plan: Plan, deed: Callable[[], object] = deed, name: str = name) -> None:
            confine(plan, held)
            try:
                deed()
            except OSError:
                return
            raise LayerAbsent("it was let through")

        problem = _forked(act)
        if problem:
            problems.append(f"together: with all layers on, a probe tried to {name}: {problem}; report this machine")
    return problems


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _connect() -> None:
    with socket.socket() as sock:
        sock.connect(("127.0.0.1", 9))


_DEEDS: dict[str, Callable[[], object]] = {
    "open a file": lambda: os.open("/proc/self/status", os.O_RDONLY),
    "connect": _connect,
    "fork": _fork,
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "signal the zygote": lambda: os.kill(os.getppid(), signal.SIGCONT),
}


def _forked(act: Step) -> str | None:
    """None if `act` returns, or is ended by the system-call filter, in a forked child; else what it says."""
    reader, writer = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _forked_child(act, parent, reader, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.read(400).decode("utf-8", "replace")
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return None if number == signal.SIGSYS else f"the probe died by signal {number}"
    return None if os.WEXITSTATUS(status) == 0 else answer or f"the probe ended with status {os.WEXITSTATUS(status)}"


def _forked_child(act: Step, parent: int, reader: int, writer: int) -> None:
    """The answer goes out through descriptor 1, the only kind that stays open."""
    status = 1
    try:
        signal.alarm(_PROBE_SECONDS)
        os.dup2(writer, 1)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        act(Plan(parent, pages * os.sysconf("SC_PAGE_SIZE") + GIB, 5))
        status = 0
    except (LayerAbsent, OSError) as absent:
        os.write(1, str(absent).encode("utf-8")[:400])
    finally:
        os._exit(status)
