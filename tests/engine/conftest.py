"""What the engine's tests share: a campaign small enough for seconds, on the shipped pocket world."""

from __future__ import annotations

import os
import shlex
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks import Score, wilson
from engine import rundir
from engine.campaign import run_campaign
from engine.cli import main
from engine.config import CampaignConfig
from engine.config_file import build_config
from engine.progress import Progress
from engine.records import Assessment, Candidate, Outcome, Program, Sampling
from engine.store import Store
from tests import postgresql
from tests.engine.chat_server import Answer, Server
from tests.environments import POSTGRESQL

WEIGHTED_SUM = """
import torch

def merge_models(model_dict, device, *, scale=0.3):
    return scale * sum(model_dict.values())
"""


@pytest.fixture(scope="session")
def server() -> Iterator[postgresql.Server]:
    """A PostgreSQL server for the tests of a session."""
    with postgresql.running(POSTGRESQL.find().parent) as server:
        yield server


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.full)])
def archive_url(request: pytest.FixtureRequest) -> str | None:
    """`archive.url` of a campaign, once for each database."""
    if request.param == "sqlite":
        return None
    server: postgresql.Server = request.getfixturevalue("server")
    return server.url


@pytest.fixture(autouse=True)
def closed_stores() -> Iterator[None]:
    """Closes what a test opened: PostgreSQL's driver warns of a connection that nobody closed, and here a warning is an error."""
    opened: weakref.WeakSet[Store] = weakref.WeakSet()
    make = Store.__init__

    def noted(self: Store, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        opened.add(self)

    with pytest.MonkeyPatch.context() as patch:  # one of its own: a test may undo its patches
        patch.setattr(Store, "__init__", noted)
        yield
    for store in opened:
        store.close()


@pytest.fixture
def small_config() -> CampaignConfig:
    """Two iterations of a few programs on 24 dev problems."""
    return build_config(
        {
            "campaign": {"iterations": 2, "programs": 8, "finalists": 2, "name": "small"},
            "generator": {"batch": 4, "max_new_tokens": 200},
            "benchmark": {"dev_limit": 24, "test_limit": 24},
            "baselines": {"names": ["task_arithmetic", "model_stock"], "evaluations": 2},
            "models": {"threads": 1},
            "gate": {"programs": 4, "valid_drop": 1.0},
            "learn": {"chosen_floor": 2, "rejected_floor": 2, "pairs_per_chosen": 2, "epochs": 1.0, "batch": 2},
        }
    )


def dev_score(bits: str = "1100") -> Score:
    """A score with the given bits; '-' where nothing was asked."""
    n, right = len(bits) - bits.count("-"), bits.count("1")
    interval = wilson(right, n)
    return Score(
        value=right / n,
        strict=right / n,
        lenient=right / n,
        low=interval.low,
        high=interval.high,
        n=n,
        of=len(bits),
        effective_n=n,
        bits=bits,
        strict_bits=bits,
        lenient_bits=bits,
        scorer_version="1",
        families={"sums": right / n},
    )


def candidate(number: int, share: float | None, *, iteration: int = 1, outcome: Outcome | None = None) -> Candidate:
    """A finished candidate whose dev score is `share` of 100 problems; None: a failure."""
    source = f"def merge_models(model_dict, device):\n    return {number} * sum(model_dict.values())\n"
    program = Program(
        source, f"{number:012x}", "generator", "0", "prompt", source, Sampling(1.0, 1.0, number, 0, number)
    )
    if share is None:
        return Candidate(number, iteration, program, Assessment(outcome or Outcome.FAILED, reason="exception"))
    ones = round(100 * share)
    score = dev_score("1" * ones + "0" * (100 - ones))
    return Candidate(number, iteration, program, Assessment(outcome or Outcome.OK, score=score, behaviour=f"b{number}"))


@pytest.fixture
def programs_folder(tmp_path: Path) -> Path:
    """Programs of every fate: good ones, a duplicate, a refused one, one that raises, one of wrong shape."""
    folder = tmp_path / "programs"
    folder.mkdir()
    sources = {
        "0_sum": WEIGHTED_SUM,
        "1_same": "def merge_models(model_dict, device):\n    total = 0\n    for v in model_dict.values():\n        total = total + 0.3 * v\n    return total\n",
        "2_import": "import os\nos.getcwd()\n\ndef merge_models(model_dict, device):\n    return sum(model_dict.values())\n",
        "3_raises": "def merge_models(model_dict, device):\n    raise ValueError('no')\n",
        "4_shape": "def merge_models(model_dict, device):\n    return sum(model_dict.values()).flatten()[:1]\n",
        "5_syntax": "def merge_models(model_dict, device)\n    return 0\n",
        "6_first": "def merge_models(model_dict, device):\n    return 0.8 * list(model_dict.values())[0]\n",
        "7_noise": "import torch\n\ndef merge_models(model_dict, device, rng):\n    v = sum(model_dict.values())\n    return 0.3 * v * (torch.rand(v.shape, generator=rng) > 0.1)\n",
    }
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    return folder


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished small run of scripted programs, with its final, below a `runs` folder."""
    programs = programs_folder.__wrapped__(tmp_path_factory.mktemp("p"))  # type: ignore[attr-defined]
    small: CampaignConfig = small_config.__wrapped__()  # type: ignore[attr-defined]
    settings = ["generator.kind=scripted", f"generator.script={programs}", "campaign.iterations=1"]
    config = build_config(small.model_dump(mode="json"), settings)
    folder = tmp_path_factory.mktemp("work") / "runs" / "small"
    rundir.new_folder(config, folder, "now")
    run_campaign(folder, Progress(config))
    return folder


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[dict[str, Any], int], Answer | None]], Server]]:
    """Starts chat models' servers, which end with the test."""
    servers: list[Server] = []

    def start(answer: Callable[[dict[str, Any], int], Answer | None]) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """What is asked of the disk from now on, in order: ("sync", file or folder) and ("name", new name)."""
    asked: list[tuple[str, Path]] = []
    sync, replace = os.fsync, os.replace

    def syncing(descriptor: int) -> None:
        asked.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        sync(descriptor)

    def naming(source: Path, target: Path) -> None:
        asked.append(("name", Path(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", naming)
    return asked


@dataclass(frozen=True)
class Result:
    """What a command line came to."""

    code: int
    out: str
    err: str


Call = Callable[[str], Result]


@pytest.fixture
def mergewright(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command line in this process."""

    def call(line: str) -> Result:
        monkeypatch.setattr("sys.argv", ["mergewright", *shlex.split(line)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Result(ended.value.code, captured.out, captured.err)

    return call
