"""`run --dry-run`: what can be known of a campaign without its weights, and that nothing is made or fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from engine import locations, rehearsal
from engine.cli import app
from engine.config import CampaignConfig
from engine.config_file import build_config, load_config
from engine.rehearsal import Finding, rehearse
from merges.errors import CheckpointError
from merges.hub import Listing
from tests.postgresql import Server

OPENCHAT = locations.shipped("campaigns") / "openchat-7b.toml"


def told(config: CampaignConfig) -> dict[str, Finding]:
    return {finding.about: finding for finding in rehearse(config)}


def hub(answers: dict[str, Any]) -> Any:
    def listed(hub_id: str) -> Listing:
        if hub_id not in answers:
            raise CheckpointError(f"{hub_id}: expected a hub that answers")
        found: Listing = answers[hub_id]
        return found

    return listed


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CampaignConfig:
    """The paper's campaign on a machine with GPU, vLLM and hub, its problems in a file."""
    rows = "\n".join(f'{{"question": "q{at}", "answer": "#### {at}"}}' for at in range(1319))
    (tmp_path / "test.jsonl").write_text(rows)
    config = load_config(OPENCHAT, [f"benchmark.data={tmp_path}", "models.experts=a/b,c/d"])
    models = [config.models.base, "a/b", "c/d"]
    monkeypatch.setattr(rehearsal, "listed", hub({name: Listing("c0ffee" * 3, 14 * 2**30, True) for name in models}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A GPU")
    monkeypatch.setattr(rehearsal, "_vllm", lambda python: Finding("ok", "vllm", f"found by {python}"))
    return config


def test_the_papers_setting_is_ready_where_its_machine_is(elsewhere: CampaignConfig) -> None:
    found = told(elsewhere)
    assert {finding.state for finding in found.values()} == {"ok"}
    assert "3 × 3000 programs, T 1.2 → 1 → 0.857" in found["search"].text
    assert (
        "at most 90 chosen and 300 rejected of an iteration, 3 carried over; beta 0.01, rate 1e-06, LoRA 256"
        in found["learn"].text
    )
    assert found["dev"].text.startswith("100 problems")
    assert found["test"].text.startswith("1219 problems")
    assert "on the hub, 14.00 GiB, commit c0ffeec0ffee" in found["model base"].text


def test_what_lies_on_a_hub_that_does_not_answer_is_not_known_rather_than_wrong(
    elsewhere: CampaignConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "listed", hub({}))
    assert {about for about, finding in told(elsewhere).items() if finding.state == "open"} == {
        "model base",
        "model b",
        "model d",
        "generator",
    }


@pytest.mark.parametrize(
    ("listing", "lack"), [(Listing("c", 0, True), "pickles are never read"), (Listing("c", 9, False), "config.json")]
)
def test_a_model_that_could_not_be_read_is_wrong(
    elsewhere: CampaignConfig, monkeypatch: pytest.MonkeyPatch, listing: Listing, lack: str
) -> None:
    names = (elsewhere.models.base, *elsewhere.models.experts)
    monkeypatch.setattr(rehearsal, "listed", hub(dict.fromkeys(names, listing)))
    finding = told(elsewhere)["model base"]
    assert finding.state == "wrong"
    assert lack in finding.text


def test_a_campaign_that_can_run_here_says_what_it_would_do() -> None:
    found = told(build_config({}))
    assert {finding.state for finding in found.values()} == {"ok"}
    assert "'all' selects 38 tensors" in found["merge"].text
    assert found["dev"].text == "1000 problems in blocks of 125: pocket 1000 (weight 1)"


def test_mistakes_show_without_a_run(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"question": "q", "answer": "#### 1"}\n{"question": "r"}\n')
    tree = {
        "models": {"experts": ["pocket/expert_a", "pocket/generator"], "device": "cuda"},
        "benchmark": {"name": "jsonl", "data": str(tmp_path / "p.jsonl")},
        "evaluator": {"kind": "vllm", "python": str(tmp_path / "none")},
    }
    found = told(build_config(tree))
    wrong = {about for about, finding in found.items() if finding.state == "wrong"}
    assert wrong >= {"merge", "dev", "test", "vllm"} | (set() if torch.cuda.is_available() else {"device"})
    assert "p.jsonl:2" in found["dev"].text
    assert all("\n" not in finding.text for finding in found.values())


def test_an_environment_without_vllm_is_told_what_to_install() -> None:
    absent = rehearsal._vllm(None)
    assert absent.state == "wrong"
    assert "install vllm there" in absent.text


def test_the_command_ends_with_what_it_counted_and_with_the_code_of_a_mistake() -> None:
    fine = CliRunner().invoke(app, ["run", "--dry-run"])
    assert (fine.exit_code, fine.output.splitlines()[-1]) == (
        0,
        "dry run of pocket: nothing wrong, 0 not known without the weights or the hub",
    )
    wrong = CliRunner().invoke(app, ["run", "--dry-run", "--set", "models.merge=nothing.*"])
    assert wrong.exit_code == 2
    assert any(line.startswith("WRONG     merge") for line in wrong.output.splitlines())


def test_an_archives_server_is_asked_now_and_not_when_the_models_are_loaded() -> None:
    found = told(build_config({"archive": {"url": "postgresql://me@/a?host=/nonexistent"}}))["archive"]
    assert found.state == "wrong"
    assert "the server does not serve us" in found.text
    assert "archive" not in told(build_config({}))


@pytest.mark.full
def test_an_archives_server_that_would_take_it_is_told_and_left_as_it_is(server: Server) -> None:
    before = server.sql("SELECT nspname FROM pg_namespace ORDER BY 1")
    found = told(build_config({"archive": {"url": server.url}}))["archive"]
    assert (found.state, found.text.startswith("PostgreSQL 1")) == ("ok", True)
    assert server.sql("SELECT nspname FROM pg_namespace ORDER BY 1") == before
