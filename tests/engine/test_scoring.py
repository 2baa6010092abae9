"""`score`: an interval with every figure, two models paired on the same problems, the gap between dev and test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.cli import app
from engine.scoring import BOTH, ScoreRequest, score_folder


def test_one_model_has_both_readings_families_and_wilsons_interval() -> None:
    facts = score_folder("pocket/expert_a", ScoreRequest("pocket", "dev", limit=40))
    low, high = facts["interval"]
    assert 0 < low < facts["score"] == facts["strict"] <= facts["lenient"] < high + 0.2
    assert facts["n"] == len(facts["bits"]) == 40
    assert facts["bits"] == facts["strict_bits"]
    assert len(facts["families"]) == 9
    assert "against" not in facts
    assert "gap" not in facts


def test_two_models_are_paired_and_dev_and_test_compared() -> None:
    facts = score_folder("pocket/expert_a", ScoreRequest("pocket", BOTH, limit=60), against="pocket/expert_c")
    other = facts["against"]
    assert other["difference"] == pytest.approx(facts["score"] - other["score"])
    low, high = other["difference_interval"]
    assert low < other["difference"] < high
    assert (other["only_this"] - other["only_other"]) / 60 == pytest.approx(other["difference"])
    assert 0 < other["p"] < 1
    assert other["test"]["difference"] == pytest.approx(facts["test"]["score"] - other["test"]["score"])
    gap = facts["gap"]
    assert gap["difference"] == pytest.approx(facts["score"] - facts["test"]["score"])
    assert gap["interval"][0] < gap["difference"] < gap["interval"][1]


def test_the_command_prints_what_the_facts_say(tmp_path: Path) -> None:
    problems = tmp_path / "own.jsonl"
    problems.write_text("\n".join(json.dumps({"question": f"{n} + 1?", "answer": str(n + 1)}) for n in range(6)))
    command = ["score", "pocket/seed", "--benchmark", "jsonl", "--data", str(problems), "--checker", "exact"]
    told = CliRunner().invoke(app, [*command, "--max-new-tokens", "4", "--against", "pocket/seed"])
    assert told.exit_code == 0, told.output
    assert "pocket/seed on jsonl/dev: 0.0 % [0.0, 39.0], strict 0.0 %, lenient 0.0 %, n = 6" in told.output
    assert (
        "difference, paired: +0.0 points [+0.0, +0.0]; only the first right 0, only the second 0 of 6; McNemar p = 1"
        in told.output
    )
