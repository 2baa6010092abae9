"""Sandboxes broken on purpose: every wall has a switch, by name.

In the zygote (`broken_zygote.py` reads the environment): `gate` (the language gate in the child), `notes` (violations that were caught
count), `deliver` (checks of the returned object), `output` (printed text is counted), `fresh` (each tensor starts fresh), `own_raise`
(what a program raises itself, or is quoted with, is an exception), `time` (it stands still), and every layer by its name. In the host: `finite`, `report`, `clock` (more time), `size` (of the text). In both: `gate`, and `clean`
(of the detail that people read).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox import Limits, Reason, Sandbox, Verdict, host, outcome
from sandbox.confinement.layers import LAYERS
from sandbox.signature import signature_from

LAYER_NAMES = frozenset(layer.name for layer in LAYERS)
ALL = (LAYER_NAMES - {"session"}) | {"gate"}
"""What is off where an attack aims at something outside: nothing is left but a process of its own."""

IN_ZYGOTE = LAYER_NAMES | {"gate", "notes", "deliver", "output", "fresh", "own_raise", "time", "clean"}
IN_HOST = frozenset({"finite", "clean", "report", "clock", "size"})

LIMITS = Limits(wall_seconds=1.5, cpu_seconds=1.0, memory_bytes=256 << 20)
LONGER = replace(LIMITS, wall_seconds=15.0, cpu_seconds=15.0)
LONGER_FOR_THE_ENDLESS = replace(LIMITS, wall_seconds=3.5, cpu_seconds=3.5)


@contextmanager
def zygote_without(off: frozenset[str]) -> Iterator[Sandbox]:
    """A sandbox whose zygote lacks the named walls (only those of IN_ZYGOTE count)."""
    inside = off & IN_ZYGOTE
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "ZYGOTE_FILE", Path(__file__).with_name("broken_zygote.py"))
        patch.setattr(host, "_ENVIRONMENT", {**host._ENVIRONMENT, "OFF": " ".join(sorted(inside))})
        sandbox = Sandbox(LIMITS, allow_none=True)
        assert not set(sandbox.isolation.layers) & off
    yield sandbox
    sandbox.close()


@contextmanager
def host_without(off: frozenset[str], sandbox: Sandbox, *, endless: bool = False) -> Iterator[None]:
    """The host's own walls, off for a while."""
    with pytest.MonkeyPatch.context() as patch:
        if "gate" in off:
            patch.setattr(host, "check", lambda source, limits: Verdict(True))
            patch.setattr(host, "signature_of", lambda source: signature_from(ast.parse(source)))
        if "size" in off:
            patch.setattr(sandbox, "limits", replace(sandbox.limits, source_bytes=1 << 30))
        if "clock" in off:
            patch.setattr(sandbox, "limits", LONGER_FOR_THE_ENDLESS if endless else LONGER)
        if "finite" in off:
            patch.setattr(outcome, "not_finite", lambda outputs: None)
        if "clean" in off:
            patch.setattr(outcome, "clean", lambda text, limit: text)
        if "report" in off:
            patch.setattr(outcome, "_told", _believed)
        yield


def _believed(report: object) -> Verdict:
    """A report taken at its word."""
    assert isinstance(report, dict)
    if report.get("reason") is None:
        return Verdict(True)
    reason = Reason(report["reason"]) if report["reason"] in set(Reason) else Reason.CRASH
    return Verdict(False, reason, str(report.get("detail")), report.get("line"), report.get("rule"))
