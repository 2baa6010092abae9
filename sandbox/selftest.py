"""The self-test: which layers hold on this machine, found by doing, in forked probes of the warmed zygote."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from sandbox.confinement import session
from sandbox.confinement.layers import FULL_LAYERS, LAYERS, Layer
from sandbox.confinement.plan import LayerAbsent, Plan
from sandbox.records import GIB

_PROBE_SECONDS = 10


def measure() -> tuple[list[str], list[str]]:
    """Names of the layers that hold, and one line `name: why` for each that does not."""
    held: list[str] = []
    missing: list[str] = []
    for layer in LAYERS:
        problem = _probe(layer)
        if problem is None:
            held.append(layer.name)
        else:
            missing.append(f"{layer.name}: {problem}; {layer.fix}")
    built = {layer.name for layer in LAYERS}
    missing += [f"{name}: not built yet" for name in sorted(FULL_LAYERS - built)]
    return held, missing


def _probe(layer: Layer) -> str | None:
    """None if the layer holds on a forked child; else why not."""
    reader, writer = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _probe_child(layer, parent, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.read(400).decode("utf-8", "replace")
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"the probe died by signal {os.WTERMSIG(status)}"
    if os.WEXITSTATUS(status) == 0:
        return None
    return answer or "the probe gave no answer"


def _probe_child(layer: Layer, parent: int, writer: int) -> None:
    status = 1
    try:
        signal.alarm(_PROBE_SECONDS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        plan = Plan(parent, pages * os.sysconf("SC_PAGE_SIZE") + GIB, 5)
        if layer.name == "descriptors":
            answer = os.memfd_create("unused")  # something to close beside the answer's pipe
            assert answer > 2
        layer.apply(plan)
        session.arm(plan)
        layer.probe(plan)
        status = 0
    except (LayerAbsent, OSError) as absent:
        try:
            os.write(writer, str(absent).encode("utf-8")[:400])
        except OSError:
            status = 2
    finally:
        os._exit(status)
