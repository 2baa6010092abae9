"""Every attack gets its verdict in the real sandbox and has no effect; and it is first seen to succeed in a broken one."""

from __future__ import annotations

import select
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sandbox import ExecutionResult, Sandbox, TensorJob, check
from tests.attacks.programs import ATTACKS, Attack
from tests.attacks.table import MARK, README, table

PROVEN = [name for name, attack in ATTACKS.items() if attack.proof]


class World:
    """What attacks aim at outside, and whether they hit it."""

    def __init__(self, folder: Path, listener: socket.socket, victim: subprocess.Popen[bytes]) -> None:
        self.canary, self.listener, self.victim = folder / "canary", listener, victim

    def aim(self, attack: Attack) -> str:
        port = str(self.listener.getsockname()[1])
        return (
            attack.source.replace("CANARY", str(self.canary))
            .replace("PORT", port)
            .replace("VICTIM", str(self.victim.pid))
        )

    def hit(self, attack: Attack, result: ExecutionResult) -> bool:
        """Whether the deed shows."""
        if attack.proof == "canary":
            return self.canary.exists()
        if attack.proof == "heard":
            return bool(select.select([self.listener], [], [], 0)[0])
        if attack.proof == "victim":
            return self.victim.poll() is not None
        if attack.proof == "spoils":
            return not result.ok and "got str" in (result.detail or "")
        return result.ok and all(bool((t == 42).all()) for t in (result.outputs or {}).values())


@pytest.fixture
def world() -> Iterator[World]:
    """A folder that any user may write (so that it is not file modes that stop a program), a listener, and a bystander."""
    with (
        tempfile.TemporaryDirectory(prefix="attack-") as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
        subprocess.Popen(["/bin/sh", "-c", "read x"], stdin=subprocess.PIPE) as victim,
    ):
        Path(folder).chmod(0o777)
        yield World(Path(folder), listener, victim)
        victim.kill()


def test_at_least_a_third_are_proven() -> None:
    assert len(PROVEN) * 3 >= len(ATTACKS)


@pytest.mark.parametrize("name", PROVEN)
@pytest.mark.usefixtures("gate_off")
def test_attack_succeeds_in_a_broken_sandbox(
    name: str, without_anything: Sandbox, jobs: list[TensorJob], world: World
) -> None:
    attack = ATTACKS[name]
    result = without_anything.execute(world.aim(attack), jobs)
    if attack.proof == "victim":
        world.victim.wait(5)
    assert world.hit(attack, result), (result.reason, result.detail)


@pytest.mark.parametrize("name", [name for name in PROVEN if ATTACKS[name].proof in ("canary", "heard", "victim")])
@pytest.mark.usefixtures("gate_off")
def test_the_kernel_alone_stops_what_reaches_outside(
    name: str, without_gate: Sandbox, jobs: list[TensorJob], world: World
) -> None:
    attack = ATTACKS[name]
    result = without_gate.execute(world.aim(attack), jobs)
    assert not world.hit(attack, result)


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_gets_its_verdict_and_has_no_effect(
    name: str, real: Sandbox, jobs: list[TensorJob], world: World
) -> None:
    attack = ATTACKS[name]
    result = real.execute(world.aim(attack), jobs)
    assert not result.ok
    assert result.reason in attack.verdict, (result.reason, result.detail)
    assert result.detail is not None
    assert len(result.detail.encode()) <= real.limits.detail_bytes
    assert result.detail.isprintable()
    assert not world.canary.exists()
    assert world.victim.poll() is None
    assert result.seconds <= real.limits.wall_seconds + 1


@pytest.mark.parametrize("deed", ["os.kill(os.getpid(), 9)", "signal.raise_signal(9)", "signal.raise_signal(15)"])
def test_a_program_cannot_kill_itself_and_have_the_host_blamed(
    without_gate: Sandbox, jobs: list[TensorJob], gate_off: None, deed: str
) -> None:
    source = f"def merge_models(m, d):\n    import os, signal\n    {deed}\n    return m['a']\n"
    assert check(source).ok is False
    assert str(without_gate.execute(source, jobs).reason) == "syscall"


def test_where_it_can_kill_itself_that_is_its_own_fault(
    without_anything: Sandbox, jobs: list[TensorJob], gate_off: None
) -> None:
    source = "def merge_models(m, d):\n    import os\n    os.kill(os.getpid(), 9)\n"
    assert str(without_anything.execute(source, jobs).reason) == "crash"


def test_a_forged_report_is_a_crash_not_a_result(without_gate: Sandbox, jobs: list[TensorJob], gate_off: None) -> None:
    assert check(ATTACKS["forge_the_report"].source).ok is False
    result = without_gate.execute(ATTACKS["forge_the_report"].source, jobs)
    assert (result.ok, str(result.reason)) == (False, "crash")


def test_the_sandbox_still_works_after_all_this(real: Sandbox, jobs: list[TensorJob]) -> None:
    result = real.execute("def merge_models(m, d):\n    return m['a'] + m['b']\n", jobs)
    assert result.ok
    assert result.outputs is not None
    assert torch.equal(result.outputs["first"], jobs[0].vectors["a"] + jobs[0].vectors["b"])


def test_the_readme_has_the_table() -> None:
    assert README.read_text().endswith(MARK + "\n" + table())
