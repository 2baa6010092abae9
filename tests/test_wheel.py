"""The built wheel: what goes into it; and in a clean environment, from another folder, it finds what it ships."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from engine.pocket.world import WORK_FOLDER

ROOT = Path(__file__).parents[1]


def test_an_unfinished_world_is_not_packed() -> None:
    """What is included by force is taken whole, whatever .gitignore and `exclude` say: so the sources must not hold the work folder."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    sources = [Path(s) for s in project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]]
    assert any(Path("data/pocket").is_relative_to(source) for source in sources)
    assert not any((Path("data") / WORK_FOLDER).is_relative_to(source) for source in sources)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mergewright` of a fresh environment that knows nothing of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    for wanted in ("torch", str(wheel)):
        subprocess.run(
            [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install", *constraints, wanted],
            check=True,
        )
    return folder / "env" / "bin" / "mergewright"


def call(command: Path, folder: Path, *arguments: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(command), *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.full
def test_an_installed_wheel_runs_a_campaign_and_applies_its_winner(installed: Path, tmp_path: Path) -> None:
    small = (
        "campaign.programs=12",
        "campaign.iterations=2",
        "campaign.finalists=2",
        "benchmark.dev_limit=24",
        "benchmark.test_limit=24",
        "baselines.evaluations=1",
    )
    settings = [part for setting in small for part in ("--set", setting)]
    table = call(installed, tmp_path, "run", *settings)
    assert "Held-out test problems" in table
    (run,) = (tmp_path / "runs").iterdir()
    best, *_ = json.loads(call(installed, tmp_path, "archive", "list", str(run), "--json", "--limit", "1"))
    assert best["score"] is not None, "no program ran: the test proves nothing"
    models = ["--base", "pocket/seed", *(part for x in "abc" for part in ("--expert", f"pocket/expert_{x}"))]
    call(installed, tmp_path, "apply", best["id"], *models, "--out", "merged")
    facts = json.loads(call(installed, tmp_path, "score", "merged", "--limit", "24", "--json"))
    assert facts["strict"] == best["score"]


@pytest.mark.full
def test_an_installed_wheel_applies_a_discovered_program_by_its_id(installed: Path, tmp_path: Path) -> None:
    (first, *_) = json.loads(call(installed, tmp_path, "archive", "shipped", "--json"))
    models = ["--base", "pocket/seed", *(part for x in "abc" for part in ("--expert", f"pocket/expert_{x}"))]
    call(installed, tmp_path, "apply", first["id"], *models, "--out", "merged")
    facts = json.loads(call(installed, tmp_path, "score", "merged", "--limit", "24", "--json"))
    assert facts["bits"] == first["dev"]["bits"][:24]


@pytest.mark.full
def test_an_installed_wheel_uses_nothing_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    python = installed.with_name("python")
    where = subprocess.run(
        [
            str(python),
            "-c",
            "import engine, benchmarks.pocket as p, engine.locations as l; print(engine.__file__, p.folder(), l.shipped('data'))",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert str(ROOT) not in where
