"""The sandbox of an ordinary user, when the tests run as root: everything here and every attack, once more, without any right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_as_user(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.sandbox.as_user", sys.executable, *command],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.skip("these run as the ordinary user already")
    if run_as_user("-c", "pass").returncode != 0:
        pytest.skip("root may not make mounts here")


def test_an_ordinary_user_gets_every_layer_that_needs_no_root() -> None:
    done = run_as_user(
        "-c", "from sandbox import Sandbox; box = Sandbox(); print(box.isolation.level, *box.isolation.layers)"
    )
    level, *layers = done.stdout.split()
    held = {"session", "no_new_privs", "privileges", "landlock", "descriptors", "rlimits", "seccomp"}
    assert set(layers) >= held, done.stderr
    assert (level == "FULL") == ("namespaces" in layers)


@pytest.mark.full
def test_everything_again_as_an_ordinary_user() -> None:
    tests = ["tests/sandbox", "tests/attacks", "-k", "not bare_parser"]
    done = run_as_user("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not full", *tests)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
