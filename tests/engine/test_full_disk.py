"""A disk that fills up: one line, exit code 1, and the run goes on where it was once there is room."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import rundir
from engine.campaign import run_campaign
from engine.config import CampaignConfig
from engine.config_file import build_config
from engine.errors import HostError, exit_code
from engine.progress import Progress
from engine.store import Store


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 KiB, which a test enlarges."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a file system needs root and its capability")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def resize(disk: Path, size: str) -> None:
    """Give the file system another size."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def test_a_full_disk_loses_nothing(small_config: CampaignConfig, tiny_disk: Path, tmp_path: Path) -> None:
    config = build_config(
        small_config.model_dump(mode="json"),
        ["generator.kind=grammar", "campaign.programs=24", "campaign.iterations=1"],
    )
    folder = tiny_disk / "run"
    rundir.new_folder(config, folder, "now")
    for size in ("64k", "200k"):  # too small for the archive; too small for its rows
        resize(tiny_disk, size)
        with pytest.raises(HostError, match="free space") as caught:
            run_campaign(folder, Progress(config))
        assert "\n" not in str(caught.value)
        assert exit_code(caught.value) == 1
    resize(tiny_disk, "64m")
    run_campaign(folder, Progress(config))
    rundir.new_folder(config, tmp_path / "roomy", "now")
    run_campaign(tmp_path / "roomy", Progress(config))
    assert Store.in_folder(folder).digest() == Store.in_folder(tmp_path / "roomy").digest()
