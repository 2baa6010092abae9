"""The zygote: what it holds, what it shows its children, and that its process stays what it was however many it forks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sandbox import Sandbox, TensorJob
from sandbox.confinement.namespaces import HOST_NAME

SUM = "def merge_models(m, d):\n    return m['a'] + m['b']\n"


def job() -> TensorJob:
    return TensorJob("w", 0.0, {"a": torch.ones(3), "b": torch.ones(3)}, None, 0)


def zygote(box: Sandbox) -> Path:
    """Its folder under /proc: the process itself, or the child of the launcher that stays behind."""
    assert box.isolation
    assert box._zygote is not None
    launcher = box._zygote._process.pid
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return Path(f"/proc/{children[0] if children else launcher}")


def test_it_has_one_thread_and_an_empty_environment(box: Sandbox) -> None:
    process = zygote(box)
    assert len(list((process / "task").iterdir())) == 1
    if os.geteuid() != 0:
        pytest.skip("another user namespace's environment cannot be read")
    environment = {entry.split(b"=")[0] for entry in (process / "environ").read_bytes().split(b"\0") if entry}
    assert environment <= {b"OMP_NUM_THREADS", b"MKL_NUM_THREADS", b"PYTHONHASHSEED", b"LC_ALL"}


def test_it_holds_no_descriptor_of_the_hosts(box: Sandbox) -> None:
    if os.geteuid() != 0:
        pytest.skip("another user namespace's descriptors cannot be read")
    targets = {int(fd.name): os.readlink(fd) for fd in (zygote(box) / "fd").iterdir()}
    assert {targets.pop(fd) for fd in (0, 1, 2)} == {"/dev/null"}
    assert {target.split(":")[0] for target in targets.values()} <= {
        "socket",
        "pipe",
    }  # to the host, and to the child that waits
    assert len(targets) <= 3


def test_it_is_warm_without_what_only_symbols_need() -> None:
    code = "import sys; from sandbox.warmup import warm_up; warm_up(); print('sympy' in sys.modules)"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


def test_it_has_no_cuda_context(box: Sandbox) -> None:
    if os.geteuid() != 0:
        pytest.skip("another user namespace's maps cannot be read")
    assert "/dev/nvidia" not in (zygote(box) / "maps").read_text()


def test_it_lives_in_namespaces_of_its_own_under_another_name(box: Sandbox) -> None:
    if "namespaces" not in box.isolation.layers:
        pytest.skip("this machine refuses new namespaces")
    if os.geteuid() == 0:
        for kind in ("net", "ipc", "uts", "pid"):
            assert os.readlink(zygote(box) / "ns" / kind) != os.readlink(f"/proc/self/ns/{kind}")
    assert socket.gethostname() != HOST_NAME


def resident(process: Path) -> int:
    """Bytes."""
    return int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_it_does_not_grow(box: Sandbox) -> None:
    """A few hundred here; `benchmarks/speed/sandbox.py` does ten thousand."""
    given, process = job(), zygote(box)
    for _ in range(20):
        box.execute(SUM, [given])
    before = (resident(process), resident(Path("/proc/self")), len(os.listdir("/proc/self/fd")))
    for _ in range(200):
        assert box.execute(SUM, [given]).ok
        box.execute("def merge_models(m, d):\n    return 1 / 0\n", [given])
    after = (resident(process), resident(Path("/proc/self")), len(os.listdir("/proc/self/fd")))
    assert after[0] - before[0] < 1 << 20
    assert after[1] - before[1] < 4 << 20
    assert after[2] == before[2]
