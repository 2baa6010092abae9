"""Each layer by doing, one alone: with it a deed fails, without it the same deed works. So no layer hides behind another."""

from __future__ import annotations

import faulthandler
import os
import re
import resource
import signal
import struct
from pathlib import Path

import pytest

from sandbox import selftest
from sandbox.confinement import seccomp
from sandbox.confinement.layers import FULL_LAYERS, LAYERS, Layer, level_of
from sandbox.confinement.plan import LayerAbsent, Plan
from sandbox.confinement.syscall_numbers import ARCHITECTURES

BY_NAME = {layer.name: layer for layer in LAYERS}
OF_THE_ZYGOTE = {"namespaces", "cgroups"}  # see test_zygote.py and test_cgroups.py
IN_A_CHILD = [layer for layer in LAYERS if layer.name not in OF_THE_ZYGOTE]


@pytest.mark.parametrize("layer", IN_A_CHILD, ids=lambda layer: layer.name)
def test_layer_holds_alone(layer: Layer) -> None:
    problems = [selftest._probe_one(layer, probe) for probe in layer.probes]
    assert problems == [None] * len(problems)


@pytest.mark.parametrize(
    ("held", "missing", "level"),
    [
        (FULL_LAYERS, [], "FULL"),
        (FULL_LAYERS - {"namespaces"}, ["namespaces: none"], "REDUCED"),
        (FULL_LAYERS - {"landlock"}, ["landlock: none"], "REDUCED"),
        (FULL_LAYERS - {"landlock", "seccomp"}, ["landlock: none", "seccomp: none"], "NONE"),
        (FULL_LAYERS - {"rlimits"}, ["rlimits: none"], "NONE"),
        (set(), ["session: none"], "NONE"),
    ],
)
def test_levels_follow_from_what_holds(held: set[str], missing: list[str], level: str) -> None:
    assert level_of(held, missing) == level


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


PID = 4242


def filtered(machine: str, number: int, arguments: tuple[int, ...] = (), *, audit: int = 0, gpu: bool = False) -> int:
    """What the filter answers to a system call: an interpreter of the six kinds of instruction that it uses."""
    architecture = ARCHITECTURES[machine]
    data = struct.pack("=IIQ6Q", number, audit or architecture.audit, 0, *(arguments + (0,) * 6)[:6])
    steps = list(struct.iter_unpack("=HBBI", seccomp.program(PID, architecture, gpu=gpu)))
    at = accumulator = 0
    while True:
        code, if_true, if_false, value = steps[at]
        at += 1
        if code == 0x06:
            return int(value)
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        else:
            at += if_true if (accumulator == value if code == 0x15 else accumulator >= value) else if_false


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_answers_every_number_as_the_tables_say(machine: str, gpu: bool) -> None:
    names = {number: name for name, number in ARCHITECTURES[machine].numbers.items()}
    allowed = seccomp.ALLOWED | (seccomp.ALLOWED_WITH_GPU if gpu else frozenset())
    refused = {**seccomp.REFUSED, **(seccomp.REFUSED_WITH_GPU if gpu else {})}
    for number in [*range(1024), 1 << 30, (1 << 30) + 1, (1 << 32) - 1]:
        name = names.get(number)
        expected = seccomp._KILL
        if name in allowed or name == "prlimit64":  # with no arguments: it only reads
            expected = seccomp._ALLOW
        elif name in refused:
            expected = seccomp._ERRNO | refused[str(name)]
        assert filtered(machine, number, gpu=gpu) == expected, (number, name)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_looks_at_arguments_and_architecture(machine: str) -> None:
    numbers = ARCHITECTURES[machine].numbers
    other = ARCHITECTURES["aarch64" if machine == "x86_64" else "x86_64"]
    assert filtered(machine, numbers["read"], audit=other.audit) == seccomp._KILL
    assert filtered(machine, numbers["tgkill"], (PID, 7, signal.SIGABRT)) == seccomp._ALLOW
    assert filtered(machine, numbers["tgkill"], (PID, 7, signal.SIGKILL)) == seccomp._KILL
    assert filtered(machine, numbers["tgkill"], (PID + 1, 7, signal.SIGABRT)) == seccomp._KILL
    assert filtered(machine, numbers["tgkill"], (PID + (1 << 32), 7, signal.SIGABRT)) == seccomp._KILL
    assert filtered(machine, numbers["prlimit64"], (0, 7, 0)) == seccomp._ALLOW
    assert filtered(machine, numbers["prlimit64"], (0, 7, 1 << 40)) == seccomp._KILL


HEADERS = {
    "x86_64": (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), r"#define __NR_(\w+) (\d+)"),
    "aarch64": (Path("/usr/include/asm-generic/unistd.h"), r"#define __NR(?:3264)?_(\w+) (\d+)"),
}


@pytest.mark.parametrize("machine", HEADERS)
def test_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    header, pattern = HEADERS[machine]
    if not header.exists():
        pytest.skip("the kernel's headers are not installed")
    told = {name: int(number) for name, number in re.findall(pattern, header.read_text())}
    told |= {"newfstatat": told.get("newfstatat", told.get("fstatat", -1))}
    for name, number in ARCHITECTURES[machine].numbers.items():
        assert told[name] == number


def test_another_machine_reports_the_filter_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "MACHINE", "riscv64")
    with pytest.raises(LayerAbsent, match="not coded for riscv64"):
        seccomp.apply(Plan(1, 1, 1))


def test_self_test_reports_a_layer_that_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    def hole(plan: Plan) -> None:
        raise LayerAbsent("a hole")

    broken = Layer("landlock", lambda plan: None, (hole,), "mend it", "everything")
    monkeypatch.setattr(
        selftest, "LAYERS", (*[layer for layer in LAYERS if layer.name in ("session", "rlimits")], broken)
    )
    findings = selftest.measure()
    assert findings.held == ("session", "rlimits")
    assert findings.missing == ("landlock: a hole; mend it",)
    assert findings.extra == ()


def test_filter_is_shorter_than_the_kernels_limit() -> None:
    longest = max(len(seccomp.program(1, machine, gpu=True)) for machine in ARCHITECTURES.values())
    assert longest // 8 < 4096
