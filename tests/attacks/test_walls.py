"""No layer is there for show: for each, an attack that succeeds when it alone is off."""

from __future__ import annotations

import io
import os
import select
import shutil
import signal
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox import Sandbox, SandboxError, TensorJob
from sandbox.confinement.layers import LAYERS
from tests.attacks.conftest import Breaker, World
from tests.attacks.switches import LIMITS, host_without
from tests.attacks.walls import WALLS, Wall

GATE = frozenset({"gate"})


def test_every_layer_has_one() -> None:
    assert list(WALLS) == [layer.name for layer in LAYERS]


@pytest.fixture(params=WALLS)
def wall(request: pytest.FixtureRequest, real: Sandbox) -> tuple[str, Wall]:
    name: str = request.param
    if name not in real.isolation.layers:
        pytest.skip(f"this machine does not give {name}")
    if WALLS[name].as_root and os.geteuid() != 0:
        pytest.skip("an ordinary user has nothing to lose here")
    return name, WALLS[name]


def test_it_succeeds_when_the_layer_alone_is_off(
    wall: tuple[str, Wall], broken: Breaker, jobs: list[TensorJob], world: World
) -> None:
    name, attack = wall
    assert succeeds(attack, broken(GATE | attack.also_off | {name}), jobs, world)


def test_it_fails_when_the_layer_alone_is_on(
    wall: tuple[str, Wall], broken: Breaker, jobs: list[TensorJob], world: World
) -> None:
    _, attack = wall
    assert not succeeds(attack, broken(GATE | attack.also_off), jobs, world)


def succeeds(attack: Wall, sandbox: Sandbox, jobs: list[TensorJob], world: World) -> bool:
    """Whether the deed shows."""
    if attack.proof == "outlives":
        return outlives(attack, sandbox, jobs)
    source, secret = with_helper(attack.source, world)
    with host_without(GATE, sandbox), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "limits", replace(LIMITS, wall_seconds=4.0, cpu_seconds=4.0))
        results = [sandbox.execute(world.aim(source), jobs[:1]) for _ in range(2 if attack.proof == "mailbox" else 1)]
    last = results[-1]
    if attack.proof == "accepted":
        return last.ok
    if attack.proof == "secret":
        return secret.exists()
    if attack.proof == "canary":
        return world.canary.exists()
    return last.ok and all(bool((output == 42).all()) for output in (last.outputs or {}).values())


def with_helper(source: str, world: World) -> tuple[str, Path]:
    """A set-uid copy of `touch`, and a path that only root may make."""
    folder = world.canary.parent
    helper, closed = folder / "touch", folder / "closed"
    closed.mkdir(mode=0o700)
    if "SETUID" in source:
        shutil.copyfile("/usr/bin/touch", helper)
        helper.chmod(0o4755)
    return source.replace("SETUID", str(helper)).replace("SECRET", str(closed / "made")), closed / "made"


def outlives(attack: Wall, sandbox: Sandbox, jobs: list[TensorJob]) -> bool:
    """Kill the zygote while its child runs, and look whether the child is still there."""
    assert sandbox.isolation
    assert sandbox._zygote is not None
    zygote = sandbox._zygote._process.pid

    def run() -> None:
        with host_without(GATE, sandbox), suppress(SandboxError):
            sandbox.execute(attack.source, jobs)

    thread = threading.Thread(target=run)
    thread.start()
    children: list[str] = []
    while not children:
        children = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
    child = Path(f"/proc/{children[0]}")
    while int((child / "stat").read_text().rpartition(")")[2].split()[11]) < 10:  # it is still getting ready
        pass
    with open_process(child) as process:
        os.kill(zygote, signal.SIGKILL)
        lived = not select.select([process], [], [], 0.5)[0]
        if lived:
            signal.pidfd_send_signal(process.fileno(), signal.SIGKILL)
    thread.join()
    sandbox.close()
    return lived


def open_process(child: Path) -> io.FileIO:
    """Readable once the process has ended."""
    return os.fdopen(os.pidfd_open(int(child.name)), "rb", buffering=0)
