"""GPU mode: against imitations everywhere, and for real where there is a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sandbox import DeviceError, Limits, Reason, Sandbox, TensorJob, ZygoteError, gpu, host, selftest
from sandbox.confinement import descriptors
from sandbox.confinement.layers import FULL_LAYERS, confine
from sandbox.confinement.plan import LayerAbsent, Plan

GIB = 1 << 30
SUM = "def merge_models(m, d):\n    return m['a'] + m['b']\n"
LOOP = "def merge_models(m, d):\n    while True:\n        pass\n"


class ImitationWatch:
    """Tells the figures given, then the last one for ever."""

    def __init__(self, *figures: int) -> None:
        self.figures = list(figures)

    def used_bytes(self) -> int:
        return self.figures.pop(0) if len(self.figures) > 1 else self.figures[0]


def job() -> TensorJob:
    return TensorJob("w", 0.0, {"a": torch.ones(3), "b": torch.ones(3)}, None, 0)


@pytest.fixture
def watch() -> ImitationWatch:
    return ImitationWatch(GIB)


@pytest.fixture
def box(watch: ImitationWatch, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    monkeypatch.setattr(gpu, "open_watch", lambda: watch)
    monkeypatch.setattr(host, "ZYGOTE_FILE", Path(__file__).with_name("imitation_gpu_zygote.py"))
    with Sandbox(Limits(wall_seconds=10, gpu_memory_bytes=GIB), device="cuda") as sandbox:
        yield sandbox


def test_the_level_is_reduced_and_says_why(box: Sandbox) -> None:
    assert box.isolation.level == "REDUCED"
    assert box.isolation.missing[-1].startswith("gpu: ioctl on the GPU's devices stays open")
    result = box.execute(SUM, [job()])
    assert result.ok, result.detail
    assert result.isolation == box.isolation


def test_too_much_of_the_devices_memory_ends_the_program_and_is_seen_to_come_back(
    box: Sandbox, watch: ImitationWatch
) -> None:
    watch.figures = [GIB, GIB, 3 * GIB, 3 * GIB, 3 * GIB, GIB]
    result = box.execute(LOOP, [job()])
    assert result.reason is Reason.GPU_MEMORY
    assert result.detail == "held more than 1024 MiB of the GPU's memory"
    assert result.seconds < 5
    assert watch.figures == [GIB]
    assert box.execute(SUM, [job()]).ok


def test_memory_that_does_not_come_back_is_a_fault_of_the_host() -> None:
    now = iter(range(100))
    with pytest.raises(ZygoteError, match="still holds 2048 MiB more"):
        gpu.wait_until_back(ImitationWatch(3 * GIB), GIB, lambda: float(next(now)), lambda seconds: None)


def test_time_runs_out_on_a_gpu_too(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box, "limits", Limits(wall_seconds=1))
    assert box.execute(LOOP, [job()]).reason is Reason.TIMEOUT


def test_all_layers_go_on_with_a_gpu_and_files_are_refused_not_deadly() -> None:
    def act(plan: Plan) -> None:
        confine(Plan(plan.parent, None, 5, gpu=True), FULL_LAYERS)
        for deed in (lambda: os.open("/etc/hostname", os.O_RDONLY), lambda: os.stat("/"), os.fork):
            try:
                deed()
            except OSError:
                continue
            raise LayerAbsent("it was let through")

    assert selftest._forked(act) is None


def test_only_what_the_driver_holds_stays_open(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    def act(plan: Plan) -> None:
        kept, _ = os.pipe()
        closed = os.open(tmp_path / "file", os.O_RDONLY)
        descriptors.apply(Plan(plan.parent, None, 5, gpu=True, kept=descriptors.of_the_driver()))
        os.fstat(kept)
        try:
            os.fstat(closed)
        except OSError:
            return
        raise LayerAbsent("the file stayed open")

    assert selftest._forked(act) is None


def test_a_machine_without_a_gpu_is_told_in_one_line() -> None:
    if torch.version.cuda is not None:
        pytest.skip("this torch has CUDA")
    with pytest.raises(
        DeviceError, match="expected a torch built for CUDA, got a CPU build; install one, or use device 'cpu'"
    ):
        Sandbox(device="cuda").__enter__()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
class TestOnAGpu:
    """Written for a GPU, and not run yet."""

    def test_programs_compute_on_the_device(self) -> None:
        source = (
            "def merge_models(m, d):\n    assert m['a'].device.type == d.type == 'cuda'\n    return m['a'] + m['b']\n"
        )
        with Sandbox(device="cuda") as sandbox:
            result = sandbox.execute(source, [job()])
        assert result.ok, result.detail
        assert result.outputs is not None
        assert torch.equal(result.outputs["w"], torch.full((3,), 2.0))

    def test_a_hog_is_stopped_and_its_memory_is_back(self) -> None:
        source = (
            "import torch\ndef merge_models(m, d):\n    kept = []\n    while True:\n"
            "        kept.append(torch.ones(1 << 26, device=d))\n"
        )
        with Sandbox(Limits(gpu_memory_bytes=2 * GIB), device="cuda") as sandbox:
            before = gpu.open_watch().used_bytes()
            assert sandbox.execute(source, [job()]).reason is Reason.GPU_MEMORY
            assert gpu.open_watch().used_bytes() <= before + gpu.SLACK_BYTES
            assert sandbox.execute(SUM, [job()]).ok

    def test_the_zygote_stays_free_of_cuda(self) -> None:
        with Sandbox(device="cuda") as sandbox:
            assert sandbox.execute(SUM, [job()]).ok
            assert sandbox._zygote is not None
            launcher = sandbox._zygote._process.pid
            children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
            for pid in (str(launcher), *children):
                assert "/dev/nvidia" not in Path(f"/proc/{pid}/maps").read_text()
