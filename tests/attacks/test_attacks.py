"""Every attack is first seen to succeed where walls are missing, and then gets its verdict, without effect, in the real sandbox."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
import torch

from sandbox import Sandbox, TensorJob
from tests.attacks.attack import Attack
from tests.attacks.conftest import Breaker, World
from tests.attacks.programs import ATTACKS
from tests.attacks.switches import ALL, IN_ZYGOTE, host_without
from tests.attacks.table import MARK, README, table

BY_WALLS = sorted(ATTACKS, key=lambda name: sorted(ATTACKS[name].without & IN_ZYGOTE))
"""Those that need the same broken sandbox stand together: each takes seconds to start."""

OUTSIDE = [name for name in BY_WALLS if ATTACKS[name].proof in ("canary", "heard", "victim")]


def test_there_are_enough_of_them() -> None:
    assert len(ATTACKS) >= 150
    assert len({attack.source for attack in ATTACKS.values()}) == len(ATTACKS)


@pytest.mark.parametrize("name", [name for name in BY_WALLS if ATTACKS[name].proof not in ("parser", "raises")])
def test_attack_succeeds_where_walls_are_missing(
    name: str, broken: Breaker, jobs: list[TensorJob], world: World
) -> None:
    attack = ATTACKS[name]
    sandbox = broken(attack.without)
    with host_without(attack.without, sandbox, endless=attack.proof == "runs_on"):
        result = sandbox.execute(world.aim(attack.source), jobs)
    if attack.proof == "victim":
        world.victim.wait(5)
    assert world.hit(attack, result), (result.reason, result.detail, result.seconds)


@pytest.mark.parametrize("name", [name for name in BY_WALLS if ATTACKS[name].proof == "raises"])
def test_attack_makes_a_trusting_host_raise(name: str, broken: Breaker, jobs: list[TensorJob]) -> None:
    attack = ATTACKS[name]
    sandbox = broken(attack.without)
    with host_without(attack.without, sandbox), pytest.raises((AssertionError, TypeError, ValueError)):
        sandbox.execute(attack.source, jobs)


@pytest.mark.parametrize("name", [name for name in ATTACKS if ATTACKS[name].proof == "parser"])
def test_attack_costs_a_bare_parser(name: str) -> None:
    """Python's own parser and compiler, 512 MiB, one second: a crash, no memory, no time, or an error that is not of the text."""
    code = "import sys\ntext = sys.stdin.buffer.read().decode('utf-8', 'surrogatepass')\ntry:\n    compile(text, 'a', 'exec')\nexcept SyntaxError:\n    pass"

    def tight() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))
        resource.setrlimit(resource.RLIMIT_CPU, (1, 1))

    text = ATTACKS[name].source.encode("utf-8", "surrogatepass")
    done = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, preexec_fn=tight, check=False)
    assert done.returncode != 0


@pytest.mark.parametrize("name", OUTSIDE)
def test_the_kernel_alone_stops_what_reaches_outside(
    name: str, broken: Breaker, jobs: list[TensorJob], world: World
) -> None:
    attack = ATTACKS[name]
    sandbox = broken(frozenset({"gate"}))
    with host_without(frozenset({"gate"}), sandbox):
        result = sandbox.execute(world.aim(attack.source), jobs)
    assert not world.hit(attack, result)


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_gets_its_verdict_and_has_no_effect(
    name: str, real: Sandbox, jobs: list[TensorJob], world: World
) -> None:
    attack = ATTACKS[name]
    result = real.execute(world.aim(attack.source), jobs)
    assert (None if result.ok else result.reason) in attack.verdict, (result.reason, result.detail)
    if attack.proof not in ("parser", "raises"):
        assert not world.hit(attack, result)
    if not result.ok:
        assert result.detail is not None
        assert len(result.detail.encode()) <= real.limits.detail_bytes
        assert result.detail.isprintable()
    assert not world.canary.exists()
    assert world.victim.poll() is None
    assert result.seconds <= real.limits.wall_seconds + 1


@pytest.mark.parametrize("deed", ["os.kill(os.getpid(), 9)", "signal.raise_signal(9)", "signal.raise_signal(15)"])
def test_a_program_cannot_kill_itself_and_have_the_host_blamed(
    broken: Breaker, jobs: list[TensorJob], deed: str
) -> None:
    source = f"def merge_models(m, d):\n    import os, signal\n    {deed}\n    return m['a']\n"
    sandbox = broken(frozenset({"gate"}))
    with host_without(frozenset({"gate"}), sandbox):
        assert str(sandbox.execute(source, jobs).reason) == "syscall"


def test_where_it_can_kill_itself_that_is_its_own_fault(broken: Breaker, jobs: list[TensorJob]) -> None:
    source = "def merge_models(m, d):\n    import os\n    os.kill(os.getpid(), 9)\n"
    sandbox = broken(ALL)
    with host_without(ALL, sandbox):
        assert str(sandbox.execute(source, jobs).reason) == "crash"


@pytest.mark.parametrize("name", [name for name in ATTACKS if name.startswith("report_") or name == "write_the_report"])
def test_a_forged_report_is_never_more_than_what_a_program_may_say(
    name: str, broken: Breaker, jobs: list[TensorJob]
) -> None:
    """With the gate gone a program may write its own report; a well-formed one is believed as a program's own word, any other is a crash."""
    attack: Attack = ATTACKS[name]
    sandbox = broken(frozenset({"gate"}))
    with host_without(frozenset({"gate"}), sandbox):
        result = sandbox.execute(attack.source, jobs)
    assert result.ok if name == "write_the_report" else str(result.reason) == "crash"


CONTAINED = {
    "nested_iterators": "    f = [1]\n    for i in range(200000):\n        f = map(abs, f)\n    return next(f)\n",
    "objects_that_vanish": "    class K:\n        def __gt__(self, o):\n            a.fill(0)\n            return True\n"
    "    import numpy as np\n    a = np.array([K() for i in range(300)])\n    a.argmax()\n    return m['a']\n",
}


@pytest.mark.parametrize("name", CONTAINED)
def test_what_the_gate_lets_crash_takes_only_itself_down(name: str, real: Sandbox, jobs: list[TensorJob]) -> None:
    """Bugs of Python and numpy that plain names reach. The process is what holds them."""
    result = real.execute("def merge_models(m, d):\n" + CONTAINED[name], jobs)
    assert not result.ok
    assert str(result.reason) in (
        "crash",
        "syscall",
        "exception",
        "memory",
        "cpu",
        "timeout",
    )  # whatever spoilt memory does
    assert real.execute("def merge_models(m, d):\n    return m['a']\n", jobs).ok


def test_the_sandbox_still_works_after_all_this(real: Sandbox, jobs: list[TensorJob]) -> None:
    result = real.execute("def merge_models(m, d):\n    return m['a'] + m['b']\n", jobs)
    assert result.ok
    assert result.outputs is not None
    assert torch.equal(result.outputs["first"], jobs[0].vectors["a"] + jobs[0].vectors["b"])


def test_the_readme_has_the_table() -> None:
    assert README.read_text().endswith(MARK + "\n" + table())
