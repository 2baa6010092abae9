"""A finished run with hostile programs among the others, and a visitor of its pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from engine import rundir
from engine.ablation import ablate_in
from engine.campaign import run_campaign
from engine.config import CampaignConfig
from engine.config_file import build_config
from engine.pages.app import create_app
from engine.pages.runs import Run, Runs
from engine.progress import Progress
from tests.engine import conftest

SCRIPT = "<script>alert('it ran')</script>"
OVERRIDE, ESCAPE = "\u202e", "\x1b[31m"
HOSTILE = f'''"""{SCRIPT} {OVERRIDE}dlrow"""

def merge_models(model_dict, device):
    # {ESCAPE}</code></pre><img src=x onerror=alert(1)> {{{{ 7 * 7 }}}} &amp;
    return 0.25 * sum(model_dict.values())
'''
FAILS = f"""def merge_models(model_dict, device):
    raise ValueError("{SCRIPT}")
"""
VARIANT = "def merge_models(model_dict, device):\n    return 0.31 * sum(model_dict.values())\n"

BASE = "http://127.0.0.1"
Visit = Callable[[Runs], TestClient]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run: 11 candidates of every fate, a final, descriptors, effects of the finalists, and what carries the hostile program's score."""
    programs = conftest.programs_folder.__wrapped__(tmp_path_factory.mktemp("p"))  # type: ignore[attr-defined]
    for name, text in (("8_hostile", HOSTILE), ("9_fails", FAILS), ("9_variant", VARIANT)):
        (programs / f"{name}.py").write_text(text)
    small: CampaignConfig = conftest.small_config.__wrapped__()  # type: ignore[attr-defined]
    settings = [
        "generator.kind=scripted",
        f"generator.script={programs}",
        "campaign.iterations=1",
        "campaign.programs=11",
    ]
    config = build_config(small.model_dump(mode="json"), settings)
    folder = tmp_path_factory.mktemp("work") / "runs" / "small"
    rundir.new_folder(config, folder, "now")
    run_campaign(folder, Progress(config))
    ablate_in(folder, rundir.read_config(folder), HOSTILE)
    return folder


@pytest.fixture
def runs(finished: Path) -> Iterator[Runs]:
    """That run, open."""
    opened = Runs([str(finished)])
    yield opened
    opened.close()


@pytest.fixture
def run(runs: Runs) -> Run:
    """That run."""
    return next(iter(runs))


@pytest.fixture
def visitor(runs: Runs) -> TestClient:
    """Who opens its pages on this machine."""
    return TestClient(create_app(runs), base_url=BASE, follow_redirects=False)
