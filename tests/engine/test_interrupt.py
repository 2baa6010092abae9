"""Ctrl-C as a terminal sends it: to the whole process group, so the sandbox's own processes get it too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine import locations, rundir
from engine.campaign import run_campaign
from engine.config import CampaignConfig
from engine.config_file import load_config
from engine.progress import Progress
from engine.store import Store
from tests.engine import conftest

ROOT = Path(__file__).parents[2]


def interrupted_in(stage: str, folder: Path, settings: list[str]) -> tuple[int, str]:
    """Start the command, send SIGINT to its process group once `stage` has begun, and wait; exit code and all it printed."""
    command = [sys.executable, "-m", "engine.cli", "run", "--out", str(folder)]
    process = subprocess.Popen(
        [*command, *(part for setting in settings for part in ("--set", setting))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    assert process.stdout is not None
    printed = []
    for line in process.stdout:
        printed.append(line)
        if stage in line:
            os.killpg(process.pid, signal.SIGINT)
            break
    rest, _ = process.communicate(timeout=120)
    return process.returncode, "".join([*printed, rest])


def small_settings() -> list[str]:
    """What makes a small campaign out of the one that the command runs by itself."""
    small = conftest.small_config.__wrapped__().model_dump(mode="json", exclude_defaults=True)  # type: ignore[attr-defined]
    settings = [
        f"{section}.{key}={','.join(value) if isinstance(value, list) else value}"
        for section, fields in small.items()
        for key, value in fields.items()
    ]
    return [*settings, "generator.kind=grammar", "campaign.programs=24", "benchmark.block=3"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[CampaignConfig, str]:
    """A small campaign, and the digest of its archive when nobody interrupts it."""
    config = load_config(locations.campaign_file("pocket"), small_settings())
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    rundir.new_folder(config, folder, "now")
    run_campaign(folder, Progress(config))
    return config, Store.in_folder(folder).digest()


@pytest.mark.parametrize("stage", ["tuning", "iteration 1/2: search", "iteration 2/2: search", "final on test"])
def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(
    unbroken: tuple[CampaignConfig, str], tmp_path: Path, stage: str
) -> None:
    config, digest = unbroken
    code, printed = interrupted_in(stage, tmp_path / "run", small_settings())
    assert code == 0, printed
    assert "Traceback" not in printed
    assert "stopped in order (Ctrl-C); nothing is lost" in printed
    assert f"mergewright resume {tmp_path / 'run'}" in printed.replace("\n", " ")
    assert Store.in_folder(tmp_path / "run").meta("state") is None
    run_campaign(tmp_path / "run", Progress(config))
    assert Store.in_folder(tmp_path / "run").digest() == digest


STUCK = """
import hashlib, threading
from engine.stopping import stopping_in_order

with stopping_in_order(print, "mergewright resume runs/x"):
    print("ready", flush=True)
    {}
"""


@pytest.mark.parametrize(
    "work",
    ["threading.Event().wait()", "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"],
    ids=["main thread waits", "main thread in C code"],
)
def test_a_second_ctrl_c_stops_at_once_whatever_a_thread_is_doing(work: str) -> None:
    printed = []
    with subprocess.Popen(
        [sys.executable, "-c", STUCK.format(work)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        watchdog = threading.Timer(60, process.kill)  # or leaving this block would wait for a process that hangs
        watchdog.start()
        for line in process.stdout:
            printed.append(line)
            if "ready" in line or "stopping when the step in work is done; Ctrl-C again stops at once" in line:
                process.send_signal(signal.SIGINT)
    watchdog.cancel()
    assert process.returncode == 130
    assert "stopped at once; nothing finished is lost. Go on with: mergewright resume runs/x" in "".join(printed)
    assert "Traceback" not in "".join(printed)
