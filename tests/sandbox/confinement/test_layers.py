"""Each layer by doing, one alone: with it a deed fails, without it the same deed works. So no layer hides behind another."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
from pathlib import Path

import pytest

from sandbox import selftest
from sandbox.confinement import seccomp
from sandbox.confinement.layers import LAYERS, Layer
from sandbox.confinement.plan import LayerAbsent, Plan

BY_NAME = {layer.name: layer for layer in LAYERS}
IN_A_CHILD = [layer for layer in LAYERS if layer.name != "namespaces"]  # that one is the zygote's, see test_zygote.py


@pytest.mark.parametrize("layer", IN_A_CHILD, ids=lambda layer: layer.name)
def test_layer_holds_alone(layer: Layer) -> None:
    problems = [selftest._probe_one(layer, probe) for probe in layer.probes]
    assert problems == [None] * len(problems)


def _without(probe: object) -> str | None:
    def act(plan: Plan) -> None:
        os.dup2(0, 9)
        assert callable(probe)
        probe(plan)

    return selftest._forked(act)


@pytest.mark.parametrize("name", ["session", "no_new_privs", "landlock", "descriptors", "rlimits"])
def test_probe_fails_where_the_layer_is_off(name: str) -> None:
    assert all(_without(probe) for probe in BY_NAME[name].probes)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has no privileges to lose")
def test_privileges_probe_fails_for_root() -> None:
    assert "still root" in str(_without(BY_NAME["privileges"].probes[0]))


@pytest.mark.parametrize("probe", seccomp.PROBES[:4])
def test_system_calls_go_through_where_the_filter_is_off(probe: object) -> None:
    assert _without(probe)


def test_the_filter_lets_abort_and_reading_limits_through_and_nothing_near_them() -> None:
    def confined(plan: Plan) -> None:
        BY_NAME["no_new_privs"].apply(plan)
        seccomp.apply(plan)

    def status_of(deed: object) -> int:
        child = os.fork()
        if child == 0:
            try:
                confined(Plan(os.getppid(), 1 << 40, 5))
                assert callable(deed)
                deed()
            finally:
                os._exit(0)
        return os.waitpid(child, 0)[1]

    def abort() -> None:
        faulthandler.disable()
        os.abort()

    assert os.WTERMSIG(status_of(abort)) == signal.SIGABRT
    assert status_of(lambda: resource.getrlimit(resource.RLIMIT_AS)) == 0
    assert os.WTERMSIG(status_of(lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))) == signal.SIGSYS
    assert os.WTERMSIG(status_of(lambda: os.listdir("/"))) == signal.SIGSYS
    assert os.WTERMSIG(status_of(lambda: os.memfd_create("x"))) == signal.SIGSYS


def test_another_machine_reports_the_filter_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "MACHINE", "riscv64")
    with pytest.raises(LayerAbsent, match="not coded for riscv64"):
        seccomp.apply(Plan(1, 1, 1))


def test_self_test_reports_a_layer_that_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    def hole(plan: Plan) -> None:
        raise LayerAbsent("a hole")

    broken = Layer("landlock", lambda plan: None, (hole,), "mend it")
    monkeypatch.setattr(
        selftest, "LAYERS", (*[layer for layer in LAYERS if layer.name in ("session", "rlimits")], broken)
    )
    held, missing = selftest.measure()
    assert held == ["session", "rlimits"]
    assert missing == ["landlock: a hole; mend it"]


def test_filter_is_shorter_than_the_kernels_limit() -> None:
    assert len(seccomp.program(1)) // 8 < 4096
    assert Path(seccomp.__file__).exists()
