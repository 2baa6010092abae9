"""Three sandboxes: the real one, one without the language gate, and one without anything but a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from sandbox import Limits, Sandbox, TensorJob, Verdict, host
from sandbox.confinement.layers import LAYERS

LIMITS = Limits(wall_seconds=4.0, cpu_seconds=4.0, memory_bytes=512 << 20)
ALL_BUT_SESSION = " ".join(layer.name for layer in LAYERS if layer.name != "session")


@contextmanager
def broken(layers_off: str) -> Iterator[Sandbox]:
    """A sandbox whose gate accepts everything and which lacks the named layers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "ZYGOTE_FILE", Path(__file__).with_name("broken_zygote.py"))
        patch.setattr(host, "_ENVIRONMENT", {**host._ENVIRONMENT, "GATE": "off", "LAYERS_OFF": layers_off})
        sandbox = Sandbox(LIMITS, allow_none=True)
        assert sandbox.isolation.missing == tuple(sorted(layers_off.split()))
    yield sandbox
    sandbox.close()


@pytest.fixture
def gate_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's half of the gate, which stands before the zygote's, is off too."""
    monkeypatch.setattr(host, "check", lambda source, limits: Verdict(True))


@pytest.fixture(scope="session")
def real() -> Iterator[Sandbox]:
    with Sandbox(LIMITS) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def without_gate() -> Iterator[Sandbox]:
    with broken("") as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def without_anything() -> Iterator[Sandbox]:
    with broken(ALL_BUT_SESSION) as sandbox:
        yield sandbox


@pytest.fixture
def jobs() -> list[TensorJob]:
    generator = torch.Generator().manual_seed(0)
    return [
        TensorJob(name, 0.5, {m: torch.randn(4, 4, generator=generator) for m in ("a", "b")}, None, seed)
        for seed, name in enumerate(("first", "second"))
    ]
