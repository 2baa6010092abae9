"""`--no-skips` of conftest.py: every way of not running a test fails the run, and says which test it was."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PASSES = "def test_runs(): pass\n"


def run(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    """pytest on one test file beside our conftest, in a process and a folder of its own."""
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    (folder / "test_it.py").write_text("import pytest\n" + source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={folder}", *options, "."]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("@pytest.mark.skip\ndef test_it(): pass\n", "test_it.py::test_it (unconditional skip)"),
        ("@pytest.mark.skipif(True, reason='no root')\ndef test_it(): pass\n", "test_it.py::test_it (no root)"),
        ("def test_it(): pytest.skip('no network')\n", "test_it.py::test_it (no network)"),
        (
            "@pytest.fixture\ndef f(): pytest.importorskip('nosuch')\ndef test_it(f): pass\n",
            "test_it.py::test_it (could not import 'nosuch'",
        ),
        ("pytest.importorskip('nosuch')\ndef test_it(): pass\n", "test_it.py (could not import 'nosuch'"),
        ("pytest.skip('no GPU', allow_module_level=True)\n", "test_it.py (no GPU)"),
    ],
)
def test_a_skip_fails_the_run_and_is_named(tmp_path: Path, source: str, name: str) -> None:
    (tmp_path / "test_other.py").write_text(PASSES)
    assert run(tmp_path, source).returncode == 0, "without the option a skip is a skip"
    strict = run(tmp_path, source, "--no-skips")
    assert strict.returncode == 1, strict.stdout
    (line,) = [line for line in strict.stdout.splitlines() if "--no-skips" in line]
    assert line.startswith(f"--no-skips: expected every test to run, got 1 skipped: {name}")


@pytest.mark.parametrize("source", ["def test_it(): pytest.skip('no network')\n", "pytest.importorskip('nosuch')\n"])
def test_so_does_one_in_several_processes_and_is_counted_once(tmp_path: Path, source: str) -> None:
    (tmp_path / "test_other.py").write_text(PASSES)
    done = run(tmp_path, source, "--no-skips", "-n", "2")
    assert done.returncode == 1, done.stdout
    assert "--no-skips: expected every test to run, got 1 skipped: test_it.py" in done.stdout


@pytest.mark.parametrize("source", [PASSES, "@pytest.mark.xfail(strict=True)\ndef test_it(): assert False\n"])
def test_a_run_without_skips_passes(tmp_path: Path, source: str) -> None:
    done = run(tmp_path, source, "--no-skips")
    assert done.returncode == 0, done.stdout
    assert "--no-skips" not in done.stdout


def test_a_run_of_no_tests_at_all_stays_a_failure(tmp_path: Path) -> None:
    assert run(tmp_path, PASSES, "--no-skips", "-k", "nosuch").returncode == pytest.ExitCode.NO_TESTS_COLLECTED


def test_make_test_full_passes_the_option() -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("test-full:")]
    assert "-m full --no-skips" in lines[at + 1]
