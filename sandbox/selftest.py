"""The self-test: which layers hold on this machine, found by doing, in forked probes of the warmed zygote.

First each layer alone, so that none hides behind another; then all that hold together, against the deeds that matter.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from sandbox.confinement import session
from sandbox.confinement.layers import LAYERS, Layer, Step, confine
from sandbox.confinement.plan import LayerAbsent, Plan
from sandbox.records import GIB

_PROBE_SECONDS = 10


@dataclass(frozen=True)
class Findings:
    """What the self-test found: names of the layers that hold; one line `name: why; what to do` for each that does not, those
    beyond FULL apart."""

    held: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...] = ()


def measure() -> Findings:
    """Probe every layer alone, then all that hold together."""
    problems = {}
    for layer in LAYERS:
        with layer.around():
            problems[layer.name] = next(filter(None, (_probe_one(layer, probe) for probe in layer.probes)), None)
    held = tuple(name for name, problem in problems.items() if problem is None)
    lines = {layer: f"{layer.name}: {problems[layer.name]}; {layer.fix}" for layer in LAYERS if layer.name not in held}
    missing = [line for layer, line in lines.items() if not layer.extra]
    extra = tuple(line for layer, line in lines.items() if layer.extra)
    return Findings(held, (*missing, *_together(held)), extra)


def _probe_one(layer: Layer, probe: Step) -> str | None:
    """None if the layer, with what it needs, stops the probe; else why not."""
    wanted = {layer.name, *layer.needs}

    def act(plan: Plan) -> None:
        for part in LAYERS:
            if part.name in wanted:
                part.apply(plan)
        probe(plan)

    return _forked(act, layer.ended_by)


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

        problem = _forked(act, frozenset({signal.SIGSYS}))
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


def _forked(act: Step, ended_by: Collection[int] = ()) -> str | None:
    """None if `act` returns in a forked child, or is ended by one of these signals; else what it says."""
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
        return None if number in ended_by else f"the probe died by signal {number}"
    return None if os.WEXITSTATUS(status) == 0 else answer or f"the probe ended with status {os.WEXITSTATUS(status)}"


def _forked_child(act: Step, parent: int, reader: int, writer: int) -> None:
    """The answer goes out through descriptor 1, the only kind that stays open."""
    status = 1
    try:
        signal.alarm(_PROBE_SECONDS)
        session.go_first()
        os.dup2(writer, 1)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        act(Plan(parent, pages * os.sysconf("SC_PAGE_SIZE") + GIB, 5))
        status = 0
    except (LayerAbsent, OSError) as absent:
        os.write(1, str(absent).encode("utf-8")[:400])
    finally:
        os._exit(status)
