"""The final table: what it compares with what, and with which interval."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.statistics import mcnemar, simultaneous_intervals, wilson
from engine import tables
from engine.candidate_page import candidate_page
from engine.config import CampaignConfig
from engine.finale import final_table
from engine.records import Final
from tests.engine.conftest import dev_score


def final(kind: str, name: str, rank: int, bits: str, dev: float = 0.5) -> Final:
    return Final(name, kind, rank, dev, {}, dev_score(bits))


FINALS = (
    final("seed", "seed", 1, "1" * 20 + "0" * 80),
    final("human", "ties", 1, "1" * 40 + "0" * 60),
    final("human", "linear", 2, "1" * 55 + "0" * 45),
    final("discovered", "aaaa", 1, "1" * 50 + "0" * 50),
    final("discovered", "bbbb", 2, "1" * 60 + "0" * 40),
    final("discovered", "cccc", 3, "1" * 45 + "0" * 55),
)


def test_the_headline_is_dev_first_against_dev_first() -> None:
    rows = {row.final.name: row for row in final_table(FINALS, seed=0)}
    against = rows["aaaa"].against_human
    assert against is not None
    assert (against.only_a, against.only_b) == (10, 0), "paired with ties, first on dev, not with linear, first on test"
    assert rows["ties"].against_human is None


def test_only_programs_below_the_first_have_simultaneous_intervals() -> None:
    rows = {row.final.name: row for row in final_table(FINALS, seed=0)}
    assert rows["aaaa"].interval == wilson(50, 100)
    assert [rows[n].interval for n in ("bbbb", "cccc")] == list(simultaneous_intervals([0.6, 0.45], 100))
    assert {n for n, row in rows.items() if row.simultaneous} == {"bbbb", "cccc"}


def test_differences_below_the_first_hold_together() -> None:
    rows = {row.final.name: row for row in final_table(FINALS, seed=0)}
    alone = {row.final.name: row for row in final_table(FINALS[:5], seed=0)}
    first, second, single = rows["aaaa"].against_human, rows["bbbb"].against_human, alone["bbbb"].against_human
    assert first is not None
    assert second is not None
    assert single is not None
    assert first.p_value == mcnemar(FINALS[3].score.bits, FINALS[1].score.bits)
    assert second.p_value == 2 * mcnemar(FINALS[4].score.bits, FINALS[1].score.bits)
    assert second.interval.low <= single.interval.low < single.interval.high <= second.interval.high
    assert second.interval.high - second.interval.low > single.interval.high - single.interval.low


def test_a_final_without_programs_still_makes_a_table() -> None:
    assert len(final_table(FINALS[:3], seed=0)) == 3


def test_the_apply_command_repeats_what_was_scored() -> None:
    config = CampaignConfig.model_validate({"models": {"merge": "mlp"}, "campaign": {"seed": 3}})
    command = tables.apply_command(config, "aaaa", Path("runs/x"))
    assert (
        command
        == "mergewright apply 'runs/x#aaaa' --base pocket/seed --expert pocket/expert_a --expert pocket/expert_b --expert pocket/expert_c --merge mlp --seed 3 --out merged"
    )


def test_the_apply_command_can_be_pasted_whatever_the_names(tmp_path: Path) -> None:
    config = CampaignConfig.model_validate({"models": {"base": "my models/it's", "experts": ["a b", "c"]}})
    words = shlex.split(tables.apply_command(config, "aaaa", tmp_path / "a run"))
    assert words[2] == f"{tmp_path}/a run#aaaa", "an archive outside runs/ is named with its folder"
    assert words[4] == "my models/it's"


def test_the_apply_command_names_a_run_without_the_way_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "x").mkdir(parents=True)
    for folder in (Path("runs/x"), tmp_path / "runs" / "x", Path("runs/../runs/x")):
        words = shlex.split(tables.apply_command(CampaignConfig(), "aaaa", folder))
        assert words[2] == "runs/x#aaaa"


def test_a_program_cannot_write_control_codes_to_the_terminal() -> None:
    from tests.engine.conftest import candidate

    nasty = candidate(1, 0.5)
    object.__setattr__(nasty.program, "source", "# \x1b[2J\x1b]0;owned\x07[red]x[/red]\n")
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(candidate_page(nasty, {}))
    console.print(tables.candidate_list([("run", nasty)], 120))
    text = console.export_text(styles=False)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]" in text
