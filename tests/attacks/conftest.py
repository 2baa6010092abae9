"""The real sandbox, broken ones on demand, and the world outside that attacks aim at."""

from __future__ import annotations

import select
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from sandbox import ExecutionResult, Sandbox, TensorJob
from tests.attacks.attack import Attack
from tests.attacks.switches import IN_ZYGOTE, LIMITS, zygote_without

Breaker = Callable[[frozenset[str]], Sandbox]

KEPT_OPEN = 3
"""Broken sandboxes alive at a time; each holds some 300 MB."""


@pytest.fixture(scope="session")
def real() -> Iterator[Sandbox]:
    with Sandbox(LIMITS) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def broken() -> Iterator[Breaker]:
    """Gives a sandbox whose zygote lacks the named walls; the last few stay open."""
    alive: dict[frozenset[str], tuple[Sandbox, ExitStack]] = {}

    def get(off: frozenset[str]) -> Sandbox:
        inside = off & IN_ZYGOTE
        if inside not in alive:
            while len(alive) >= KEPT_OPEN:
                alive.pop(next(iter(alive)))[1].close()
            stack = ExitStack()
            alive[inside] = stack.enter_context(zygote_without(inside)), stack
        return alive[inside][0]

    yield get
    for _, stack in alive.values():
        stack.close()


@pytest.fixture
def jobs() -> list[TensorJob]:
    generator = torch.Generator().manual_seed(0)
    return [
        TensorJob(name, 0.5, {m: torch.randn(4, 4, generator=generator) for m in ("a", "b")}, None, seed)
        for seed, name in enumerate(("first", "second"))
    ]


class World:
    """What attacks aim at outside, and whether they hit it."""

    def __init__(self, folder: Path, listener: socket.socket, victim: subprocess.Popen[bytes]) -> None:
        self.canary, self.listener, self.victim = folder / "canary", listener, victim

    def aim(self, source: str) -> str:
        port = str(self.listener.getsockname()[1])
        return source.replace("CANARY", str(self.canary)).replace("PORT", port).replace("VICTIM", str(self.victim.pid))

    def hit(self, attack: Attack, result: ExecutionResult) -> bool:
        """Whether the deed shows."""
        outputs = list((result.outputs or {}).values())
        match attack.proof:
            case "canary":
                return self.canary.exists() or self.canary.is_symlink()
            case "heard":
                return bool(select.select([self.listener], [], [], 0)[0])
            case "victim":
                return self.victim.poll() is not None
            case "spoils":
                return result.ok and bool((outputs[1] == 42).all())
            case "returns":
                return result.ok and all(bool((output == 42).all()) for output in outputs)
            case "accepted":
                return result.ok
            case "runs_on":
                return result.seconds > LIMITS.wall_seconds + 0.2
            case "dies":
                return str(result.reason) in ("crash", "syscall")
            case "lies":
                return result.reason is attack.claims
            case "raw":
                detail = result.detail or ""
                return (
                    not detail.isprintable()
                    or len(detail.encode("utf-8", "replace")) > LIMITS.detail_bytes
                    or "0x7" in detail
                )
        raise AssertionError(attack.proof)


@pytest.fixture
def world() -> Iterator[World]:
    """A folder that any user may write (so that it is not file modes that stop a program), a listener, and a bystander."""
    with (
        tempfile.TemporaryDirectory(prefix="attack-") as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
        subprocess.Popen(["/bin/sh", "-c", "read x"], stdin=subprocess.PIPE, start_new_session=True) as victim,
    ):
        Path(folder).chmod(0o777)
        yield World(Path(folder), listener, victim)
        victim.kill()
