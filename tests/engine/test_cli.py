"""The command line as a user meets it: fixed forms, one line for a mistake, exit codes, help with an example."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from engine import rundir, tables
from engine.cli import app
from engine.config_file import build_config
from engine.records import Final, Outcome
from engine.store import Store
from sandbox import Isolation, Sandbox, host
from tests.engine import conftest
from tests.engine.conftest import WEIGHTED_SUM, Call


def commands() -> Iterator[tuple[str, str]]:
    for command in app.registered_commands:
        assert command.callback is not None
        yield command.name or command.callback.__name__, command.callback.__doc__ or ""
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for command in group.typer_instance.registered_commands:
            assert command.callback is not None
            yield f"{group.name} {command.name or command.callback.__name__}", command.callback.__doc__ or ""


@pytest.mark.parametrize(("name", "text"), list(commands()))
def test_every_command_has_help_with_an_example_of_itself(name: str, text: str, mergewright: Call) -> None:
    assert f"Example: mergewright {name}" in text
    assert mergewright(f"{name} --help").code == 0


def test_the_fixed_forms_exist() -> None:
    names = {name for name, _ in commands()}
    assert names >= {
        "run",
        "resume",
        "status",
        "doctor",
        "try",
        "apply",
        "verify",
        "score",
        "init",
        "archive list",
        "archive show",
        "archive lineage",
        "archive describe",
        "archive diff",
        "archive stats",
        "archive export",
        "archive import",
        "archive shipped",
    }


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(WEIGHTED_SUM)
    return path


FACTS = {"verdict", "reason", "detail", "line", "seconds", "peak_memory_bytes", "isolation", "sha256"}


def test_try_prints_exactly_one_object_of_the_fixed_form(mergewright: Call, program: Path) -> None:
    result = mergewright(f"try {program} --json")
    facts = json.loads(result.out)
    assert set(facts) == FACTS
    assert (result.code, facts["verdict"], facts["reason"]) == (0, "ok", None)
    assert set(facts["isolation"]) == {"level", "missing"}
    assert len(facts["sha256"]) == 64


@pytest.mark.parametrize(
    ("source", "timeout", "verdict", "reason", "line"),
    [
        ("import os\nos.getcwd()\ndef merge_models(model_dict, device):\n    return 1\n", 20, "rejected", "policy", 1),
        ("def merge_models(model_dict, device):\n    return 1 +\n", 20, "rejected", "syntax", 2),
        ("def merge_models(model_dict, device):\n\n    raise ValueError('x')\n", 20, "failed", "exception", 3),
        ("def merge_models(model_dict, device):\n    while True:\n        pass\n", 0.5, "failed", "timeout", None),
        ("def merge_models(model_dict, device):\n    return 'text'\n", 20, "failed", "wrong_type", None),
    ],
)
def test_a_programs_fault_is_exit_code_3_with_its_reason(
    mergewright: Call, tmp_path: Path, source: str, timeout: float, verdict: str, reason: str, line: int | None
) -> None:
    path = tmp_path / "bad.py"
    path.write_text(source)
    # Half a second: the kernel counts processor time in whole ones, so the wall clock is over first.
    result = mergewright(f"try {path} --timeout {timeout} --json")
    facts = json.loads(result.out)
    assert (result.code, facts["verdict"], facts["reason"], facts["line"]) == (3, verdict, reason, line)
    assert facts["sha256"] is None


def test_try_takes_tensors_and_saves_the_merged_ones(mergewright: Call, program: Path, tmp_path: Path) -> None:
    a, b = torch.ones(2, 3), torch.full((2, 3), 2.0)
    save_file({"m1/w": a, "m2/w": b, "base/w": torch.zeros(2, 3)}, tmp_path / "t.safetensors")
    out = tmp_path / "out.safetensors"
    assert mergewright(f"try {program} --tensors {tmp_path / 't.safetensors'} --save {out} --param scale=0.5").code == 0
    merged = load_file(out)
    assert set(merged) == {"w"}
    assert torch.equal(merged["w"], torch.full((2, 3), 1.5))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"w": torch.ones(2)}, "key 'w': expected <model name>/<parameter name>"),
        ({"base/w": torch.ones(2)}, "expected at least one model's task vector"),
        ({"a/w": torch.ones(2), "b/w": torch.ones(3)}, r"'b/w': expected shape \(2,\) as in the others, got \(3,\)"),
        ({"a/w": torch.ones(2, dtype=torch.int32)}, "expected a floating dtype"),
    ],
)
def test_bad_tensors_are_one_line(
    mergewright: Call, program: Path, tmp_path: Path, tensors: dict[str, torch.Tensor], message: str
) -> None:
    import re

    save_file(tensors, tmp_path / "t.safetensors")
    result = mergewright(f"try {program} --tensors {tmp_path / 't.safetensors'}")
    assert result.code == 2
    assert re.search(message, result.err)
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("nosuch", 2, "No such command 'nosuch'; see `mergewright --help`"),
        ("archive list x --limit 0", 2, "see `mergewright archive list --help`"),
        ("try /nonexistent.py", 2, "expected a readable Python file"),
        ("try nosuchprogram", 2, "expected a .py file, a library name"),
        ("try ties --param density", 2, "expected NAME=NUMBER"),
        ("try ties --param nosuch=1", 2, "expected one that the program declares (density"),
        ("try ties --save {tmp}/nowhere/x.safetensors", 2, "expected a file in a folder that is there"),
        ("run nosuch.toml", 2, "expected a TOML file or one of"),
        ("run --set campaign.programs=x", 2, "key 'campaign.programs': expected a valid integer"),
        ("run --set models.base=/nonexistent --out {tmp}/r1", 2, "/nonexistent: expected a model folder or hub id"),
        ("run --set models.base=pocket/nosuch --out {tmp}/r2", 2, "model 'pocket/nosuch': expected one of pocket/"),
        ("run --set benchmark.name=jsonl --out {tmp}/r3", 2, "benchmark 'jsonl': expected data = PATH"),
        ("run --set benchmark.name=nosuch --out {tmp}/r4", 2, "key 'benchmark.name': expected 'pocket'"),
        (
            "run --set archive.url=mysql://me@host/a",
            2,
            "key 'archive.url': expected postgresql://user@host:port/database",
        ),
        ("run --set archive.url=postgresql://me:x@host/a", 2, "without a password"),
        ("run --set archive.url=postgresql://me@/a?host=/no --out {tmp}/r5", 1, "the server does not serve us"),
        ("run --set sandbox.floor=FULLER", 2, "key 'sandbox.floor': expected 'FULL'"),
        ("resume nosuch", 2, "expected a folder with archive.db or archive.url"),
        ("status nosuch", 2, "expected a folder with archive.db or archive.url"),
        ("archive list nosuch", 2, "expected a folder with archive.db or archive.url"),
        ("archive list nosuch --verdict good", 2, "verdict: expected one of pending, ok"),
        ("archive list nosuch --sort taste", 2, "sort: expected one of score, number"),
        ("archive list nosuch --where rest", 2, "condition 'rest': expected NAME"),
        ("archive list nosuch --limit 100000000000000000000", 2, "'--limit': "),
        ("archive list nosuch --iteration 3000000000", 2, "'--iteration': "),
        ("archive lineage nosuch 1 --limit 100000000000000000000", 2, "'--limit': "),
        ("try ties --timeout 1e300", 2, "'--timeout': "),
        ("try ties --memory-mb 100000000000000000000", 2, "'--memory-mb': "),
        ("apply ties --out {tmp}/x --timeout inf", 2, "'--timeout': "),
        ("apply ties --out {tmp}/x --memory-mb 100000000000000000000", 2, "'--memory-mb': "),
        ("apply ties --out {tmp}/x --workers 100000000000000000000", 2, "'--workers': "),
        ("serve nosuch --port 65536", 2, "'--port': "),
        ("study nosuch --jobs 100000000000000000000", 2, "'--jobs': "),
        ("archive describe nosuch", 2, "expected a folder with archive.db or archive.url"),
        ("archive stats nosuch", 2, "expected a folder with archive.db or archive.url"),
        ("archive diff nosuch 1 2", 2, "expected a folder with archive.db or archive.url"),
        (
            "archive import nosuch.json --into {tmp}/i",
            2,
            "expected a Mergewright bundle of version 1, got no plain file",
        ),
        ("archive shipped nosuch", 2, "expected the beginning of one shipped id, got that of none"),
        ("archive export nosuch --format py --out {tmp}/x.py", 2, "or an id from an archive below"),
        ("archive export ties --format py --out {tmp}/x", 2, "expected a name that ends in .py"),
        ("archive export ties --format bundle --out {tmp}", 2, "expected no such file or folder yet"),
        ("archive export ties slerp --format hub --out {tmp}/x", 2, "expected one program, got 2"),
        ("archive export ties --format bundle --base m --out {tmp}/x", 2, "--base: expected with --format mergekit"),
        ("archive export ties --format mergekit --title t --out {tmp}/x", 2, "--title: expected with --format py"),
        (
            "archive export ties --format bundle --licence ';' --out {tmp}/x",
            2,
            "--licence: expected an SPDX expression",
        ),
        (
            "archive export ties --format bundle --explanation {tmp} --out {tmp}/x",
            2,
            "expected a readable text, got Is a directory",
        ),
        (
            "apply ties --base pocket/seed --expert pocket/expert_a --out {tmp}/x --max-memory lots",
            2,
            "expected a size such as 2GB",
        ),
        (
            "apply ties --base /nonexistent --expert pocket/expert_a --expert pocket/expert_b --out {tmp}/x",
            2,
            "/nonexistent: expected a model folder or hub id",
        ),
        ("apply ties --out {tmp}/x", 2, "--base: expected a model for program 'ties', got none"),
        ("apply ties --base pocket/seed --out {tmp}/x", 2, "--expert: expected a model for program 'ties', got none"),
        ("apply nosuch.yaml --out {tmp}/x", 2, "recipe 'nosuch.yaml': expected a readable file"),
        (
            "apply nosuch.yaml --base pocket/seed --out {tmp}/x",
            2,
            "--base: expected none with a recipe, which says all of that itself",
        ),
        (
            "apply nosuch.yaml --timeout 5 --out {tmp}/x",
            2,
            "--timeout: expected none with a recipe, whose methods need no sandbox",
        ),
        ("apply nosuch.yaml --memory-mb 64 --out {tmp}/x", 2, "--memory-mb: expected none with a recipe"),
        (
            "apply nosuch.yaml --unsafe-no-isolation --out {tmp}/x",
            2,
            "--unsafe-no-isolation: expected none with a recipe",
        ),
        ("score /nonexistent", 2, "/nonexistent: expected a model folder or hub id"),
        ("score pocket/seed --benchmark nosuch", 2, "benchmark: expected one of"),
        ("score pocket/seed --evaluator nosuch", 2, "is not one of 'transformers', 'vllm'"),
        ("score pocket/seed --split nosuch", 2, "expected split dev, test or fresh:SEED"),
        ("score pocket/seed --split fresh:7,nosuch", 2, "expected split dev, test or fresh:SEED, got 'nosuch'"),
        ("score pocket/seed --split dev,fresh:7,dev", 2, "expected each split once, got 'dev' more than once"),
        ("verify {tmp}", 2, "expected a folder with provenance.json, got none; give a folder that `apply` wrote"),
        ("init {tmp}/no/such/folder/c.toml", 2, "expected a name that can be written"),
    ],
)
def test_a_users_mistake_is_one_line_and_no_traceback(
    mergewright: Call, tmp_path: Path, line: str, code: int, message: str
) -> None:
    result = mergewright(line.format(tmp=tmp_path))
    assert result.code == code, result.err
    assert message in result.err
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err


def test_a_program_that_fails_in_apply_is_exit_code_3(mergewright: Call, tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("def merge_models(model_dict, device):\n    raise ValueError('x')\n")
    result = mergewright(
        f"apply {path} --base pocket/seed --expert pocket/expert_a --expert pocket/expert_b --out {tmp_path / 'm'}"
    )
    assert result.code == 3
    assert not (tmp_path / "m").exists()


def test_init_writes_a_campaign_that_loads(mergewright: Call, tmp_path: Path) -> None:
    from engine.config_file import load_config

    assert mergewright(f"init {tmp_path / 'c.toml'}").code == 0
    load_config(tmp_path / "c.toml")
    again = mergewright(f"init {tmp_path / 'c.toml'}")
    assert again.code == 2
    assert "File exists" in again.err


@pytest.fixture(scope="module")
def run_folder(finished_run: Path) -> Path:
    """A finished small run of scripted programs below a `runs` folder."""
    return finished_run


def test_archive_list_prints_one_object_per_candidate(mergewright: Call, run_folder: Path) -> None:
    rows = json.loads(mergewright(f"archive list {run_folder} --json").out)
    assert len(rows) == 8
    assert all(set(row) >= {"id", "iteration", "verdict", "reason", "score", "n"} for row in rows)
    assert {row["verdict"] for row in rows} == {"ok", "duplicate", "rejected", "failed"}
    assert all((row["score"] is None) == (row["verdict"] != "ok") for row in rows)
    assert all(0 <= row["score"] <= 1 and row["n"] == 24 for row in rows if row["score"] is not None)


def test_archive_list_is_a_table_best_first(mergewright: Call, run_folder: Path) -> None:
    assert "wrong_shape" in mergewright(f"archive list {run_folder}").out
    best, *_ = json.loads(mergewright(f"archive list {run_folder} --json --limit 1").out)
    assert best["score"] == max(
        r["score"] for r in json.loads(mergewright(f"archive list {run_folder} --json --verdict ok").out)
    )


def test_archive_list_finds_by_what_programs_do_and_are_called(mergewright: Call, run_folder: Path) -> None:
    def listed(options: str) -> list[str]:
        return [row["id"] for row in json.loads(mergewright(f"archive list {run_folder} --json {options}").out)]

    noise, *others = listed("--sort=-randomness --verdict ok")
    assert listed("--where randomness>0.1") == [noise] == listed("--operation rand")
    assert others == [*listed("--where randomness=0 --sort number --verdict ok")]
    assert listed("--text RAISE --where iteration=1") == listed("--verdict failed --text raise")
    page = mergewright(f"archive show {run_folder} {noise}").out
    assert "depends on" in page
    assert "randomness" in page
    facts = json.loads(mergewright(f"archive show {run_folder} {noise} --json").out)
    assert facts["descriptors"]["randomness"] > 0.1
    assert facts["operations"] == ["rand"]
    assert "1 of 3" in mergewright(f"archive list {run_folder} --verdict ok --limit 1").out


def test_archive_diff_holds_programs_against_each_other(mergewright: Call, run_folder: Path) -> None:
    rows = {row["number"]: row for row in json.loads(mergewright(f"archive list {run_folder} --json").out)}
    first, last = (rows[n]["id"] for n in (1, 7))
    facts = json.loads(mergewright(f"archive diff {run_folder} {first} {last} --json").out)
    assert facts["changes"]
    assert facts["problems"]["n"] == 24
    assert facts["problems"]["difference"] == pytest.approx(rows[1]["score"] - rows[7]["score"])
    alone = len(facts["problems"]["only_first"]) - len(facts["problems"]["only_second"])
    assert alone == round(24 * facts["problems"]["difference"])
    assert all(name.startswith("pocket-dev-") for name in facts["problems"]["only_first"])
    page = mergewright(f"archive diff {run_folder} 1 7").out
    assert "By syntax" in page
    assert "24 dev problems" in page
    assert all(name in page for side in ("only_first", "only_second") for name in facts["problems"][side][:20])
    assert facts["problems"]["only_first"]
    assert "solved by the first alone: pocket-dev-" in page
    assert "The same program" in mergewright(f"archive diff {run_folder} 1 1").out
    against = mergewright(f"archive diff {run_folder} 1 ties").out  # not of the run: syntax alone
    assert "By syntax" in against
    assert "dev problems" not in against
    assert json.loads(mergewright(f"archive diff {run_folder} 1 3 --json").out)["problems"] is None  # it was refused
    assert mergewright(f"archive diff {run_folder} 1 nosuch").code == 2


def test_archive_diff_needs_no_problem_files(mergewright: Call, run_folder: Path, tmp_path: Path) -> None:
    import shutil

    whole = json.loads(mergewright(f"archive diff {run_folder} 1 7 --json").out)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(run_folder, elsewhere)
    config = json.loads((elsewhere / "campaign.json").read_text())
    config["benchmark"] |= {"name": "jsonl", "data": "/not/on/this/machine"}
    (elsewhere / "campaign.json").write_text(json.dumps(config))
    facts = json.loads(mergewright(f"archive diff {elsewhere} 1 7 --json").out)
    assert all(isinstance(place, int) for place in facts["problems"]["only_first"]), "places instead of ids"
    for side in ("only_first", "only_second"):
        assert len(facts["problems"].pop(side)) == len(whole["problems"].pop(side))
    assert facts == whole
    page = mergewright(f"archive diff {elsewhere} 1 7").out
    assert "24 dev problems" in page
    assert "alone, by place in the suite" in page


def test_archive_stats_tells_of_the_whole(mergewright: Call, run_folder: Path) -> None:
    rows = json.loads(mergewright(f"archive list {run_folder} --json").out)
    facts = json.loads(mergewright(f"archive stats {run_folder} --json").out)
    assert facts["outcomes"] == {v: sum(row["verdict"] == v for row in rows) for v in facts["outcomes"]}
    assert facts["uses"] == [
        {"operation": "rand", "programs": 1, "median": pytest.approx(noise["score"]), "best": noise["score"]}
        for noise in rows
        if noise["id"] in mergewright(f"archive list {run_folder} --operation rand").out
    ]
    assert facts["map"]["1"]["held"] >= 1
    page = mergewright(f"archive stats {run_folder}").out
    assert "cells over scale × rest" in page
    assert "Operations of programs with a score" in page
    assert "What they do" in page


def test_archive_describe_fills_in_what_an_archive_of_before_lacks(
    mergewright: Call, run_folder: Path, tmp_path: Path
) -> None:
    import shutil
    import sqlite3

    def descriptors() -> dict[str, object]:
        rows = json.loads(mergewright(f"archive list {copy} --json --sort number").out)
        shown = (json.loads(mergewright(f"archive show {copy} {row['number']} --json").out) for row in rows)
        return {facts["id"]: facts["descriptors"] for facts in shown if facts["verdict"] == "ok"}

    copy = tmp_path / "copy"
    shutil.copytree(run_folder, copy)
    before = descriptors()
    with sqlite3.connect(copy / "archive.db") as connection:
        connection.execute("DELETE FROM descriptors")
        connection.execute("DELETE FROM sketches")
        connection.execute("UPDATE candidates SET behaviour = 'other' WHERE number = 1")
    strange, *_ = before
    assert set(descriptors().values()) == {None}
    told = mergewright(f"archive describe {copy}").out
    assert f"{len(before) - 1} described" in told
    assert f"1 behave otherwise here than when they were found and were left as they are: {strange}" in told
    assert descriptors() == before | {strange: None}


@pytest.mark.parametrize("width", [80, 132])
def test_a_list_has_whole_ids_verdicts_and_scores_at_any_width(width: int) -> None:
    rows = [("runs/a", conftest.candidate(1, 0.5)), ("runs/b", conftest.candidate(2, None))]
    out = io.StringIO()
    Console(file=out, width=width).print(tables.candidate_list(rows, width))
    text = out.getvalue()
    assert all(len(line) <= width for line in text.splitlines())
    for run, c in rows:
        assert {run, c.program.id, c.assessment.outcome.value} <= set(text.replace("│", " ").split())
    assert "50.0" in text
    assert ("first line" in text) == (width == 132)


def test_archive_list_of_two_runs_says_which_is_which(mergewright: Call, run_folder: Path) -> None:
    rows = json.loads(mergewright(f"archive list {run_folder} {run_folder} --json").out)
    assert len(rows) == 16
    assert {row["run"] for row in rows} == {str(run_folder)}


def test_a_finalist_shows_its_test_score_and_what_learnt_from_it(mergewright: Call, run_folder: Path) -> None:
    best, *_, worst = json.loads(mergewright(f"archive list {run_folder} --json").out)
    page = mergewright(f"archive show {run_folder} {best['id']}").out
    assert "against the best human-made merge" in page
    facts = json.loads(mergewright(f"archive show {run_folder} {best['id']} --json").out)
    assert facts["test"]["rank"] == 1
    low, high = facts["test"]["interval"]
    assert low <= facts["test"]["score"] <= high
    assert json.loads(mergewright(f"archive show {run_folder} {worst['id']} --json").out)["test"] is None


def test_archive_lineage_and_list_follow_a_family(mergewright: Call, tmp_path: Path, run_folder: Path) -> None:
    import shutil

    folder = tmp_path / "family"
    folder.mkdir()
    shutil.copy(run_folder / "campaign.json", folder)
    first, second, third = (conftest.candidate(number, 0.5) for number in (1, 2, 3))
    object.__setattr__(second.program, "parents", (first.program.id,))
    object.__setattr__(third.program, "parents", (second.program.id, "f" * 12))
    with closing(Store.in_folder(folder, create=True)) as store:
        store.take_over([first, second, third])
    page = mergewright(f"archive lineage {folder} 2").out
    assert {first.program.id, second.program.id, third.program.id} <= set(page.split())
    facts = json.loads(mergewright(f"archive lineage {folder} {second.program.id} --json").out)
    assert facts["edges"] == [[1, 2], [2, 3]]
    assert [[one["id"] for one in some] for some in facts["ancestors"]] == [[first.program.id]]
    assert "f" * 12 in mergewright(f"archive lineage {folder} 3").out

    def listed(options: str) -> list[int]:
        return [row["number"] for row in json.loads(mergewright(f"archive list {options} --sort number --json").out)]

    assert listed(f"{folder} --ancestors-of {third.program.id}") == [1, 2]
    assert listed(f"{folder} --ancestors-of 3 --descendants-of 1") == [2]
    assert listed(f"{run_folder} {folder} --descendants-of {first.program.id}") == [2, 3]
    assert listed(f"{folder} --descendants-of 1 --where number>2") == [3]
    for line in (
        f"list {folder} {run_folder} --ancestors-of ffff",
        f"list {folder} --descendants-of x",
        f"lineage {folder} 9",
    ):
        result = mergewright(f"archive {line}")
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert "expected an id or number of" in result.err
    assert mergewright(f"archive list {folder} --ancestors-of 0000").err.count("(candidate ") == 3


def test_archive_show_has_source_scores_and_lineage(mergewright: Call, run_folder: Path) -> None:
    rows = json.loads(mergewright(f"archive list {run_folder} --json --sort number").out)
    page = mergewright(f"archive show {run_folder} {rows[0]['id']}").out
    assert "merge_models" in page
    assert rows[1]["id"] in page, "the duplicate is named"
    facts = json.loads(mergewright(f"archive show {run_folder} {rows[3]['id']} --json").out)
    assert (facts["verdict"], facts["reason"], facts["line"]) == ("failed", "exception", 2)


def test_archive_show_says_what_a_program_makes_of_the_tensors(mergewright: Call, run_folder: Path) -> None:
    rows = json.loads(mergewright(f"archive list {run_folder} --json --sort number").out)
    page = mergewright(f"archive show {run_folder} {rows[0]['id']} --effect").out
    assert "model.layers.*.mlp.up_proj.weight" in page
    facts = json.loads(mergewright(f"archive show {run_folder} {rows[0]['id']} --effect --json").out)
    weights = [weight for one in facts["effect"] for weight in one["weights"].values()]
    assert weights == pytest.approx([0.3] * len(weights), abs=1e-4)
    failed = mergewright(f"archive show {run_folder} {rows[3]['id']} --effect")
    assert (failed.code, failed.err.count("\n")) == (3, 1)


def test_an_effect_is_kept_unless_somebody_writes_to_the_run(mergewright: Call, run_folder: Path) -> None:
    store = Store.in_folder(run_folder)
    finalists = {final.name for final in store.finals() if final.kind == "discovered"}
    works = [c.program.id for c in store.candidates() if c.assessment.outcome is Outcome.OK]
    assert all(len(store.effects(name)) > 10 for name in finalists), "the final takes them"
    other = next(name for name in works if name not in finalists)
    with rundir.locked(run_folder):
        assert "model.layers.*.mlp.up_proj.weight" in mergewright(f"archive show {run_folder} {other} --effect").out
    assert store.effects(other) == ()
    assert "model.layers.*.mlp.up_proj.weight" in mergewright(f"archive show {run_folder} {other} --effect").out
    assert len(store.effects(other)) == len(store.effects(finalists.pop()))
    store.close()


def test_archive_show_of_nobody_is_one_line(mergewright: Call, run_folder: Path) -> None:
    result = mergewright(f"archive show {run_folder} ffffffffffff")
    assert result.code == 2
    assert "expected an id or number" in result.err


def test_status_says_how_far_the_run_is(mergewright: Call, run_folder: Path) -> None:
    facts = json.loads(mergewright(f"status {run_folder} --json").out)
    assert (facts["finished"], facts["planned"], facts["assessed"]) == (True, 8, 8)
    assert "Headline" in mergewright(f"status {run_folder}").out


def test_a_folder_is_called_what_it_is_called(mergewright: Call, run_folder: Path, tmp_path: Path) -> None:
    for name in ("a[/b]", "a[b]c"):
        shutil.copytree(run_folder, tmp_path / name)
        assert "".join(mergewright(f"status '{tmp_path / name}'").out.split()).startswith(f"{tmp_path / name}:finished")


def test_models_and_benchmarks_are_called_what_they_are_called(tmp_path: Path) -> None:
    parts = [{"name": "pocket", "label": "[/x]"}, {"name": "pocket", "label": "y[b]z"}]
    with closing(Store.in_folder(tmp_path, create=True)) as store:
        store.add_final(Final("a[/b]", "expert", 1, 0.5, {}, conftest.dev_score()))
        out, config = io.StringIO(), build_config({"benchmark": {"parts": parts}})
        tables.print_to(Console(width=tables.PLAIN_WIDTH, file=out), tables.final_report(config, store))
    shown = out.getvalue()
    assert "a[/b]" in shown
    assert "[/x] × 1 + y[b]z × 1" in shown


def test_an_archived_program_applies_by_its_id(
    mergewright: Call, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_folder.parents[1])
    best, *_ = json.loads(mergewright("archive list small --json --limit 1").out)
    line = f"--base pocket/seed --expert pocket/expert_a --expert pocket/expert_b --expert pocket/expert_c --out {tmp_path / 'merged'}"
    assert mergewright(f"apply {best['id'][:8]} {line}").code == 0
    assert mergewright(f"verify {tmp_path / 'merged'}").code == 0
    facts = json.loads(mergewright(f"score {tmp_path / 'merged'} --limit 24 --json").out)
    assert facts["strict"] == best["score"], "what apply writes scores as it did in the search"


def test_verify_sees_a_changed_tensor(mergewright: Call, tmp_path: Path) -> None:
    out = tmp_path / "merged"
    assert (
        mergewright(
            f"apply task_arithmetic --base pocket/seed --expert pocket/expert_a --expert pocket/expert_b --out {out}"
        ).code
        == 0
    )
    weights = out / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    result = mergewright(f"verify {out}")
    assert result.code == 1
    assert result.err.count("\n") == 1


def test_doctor_prints_isolation_and_versions(mergewright: Call) -> None:
    facts = json.loads(mergewright("doctor --json").out)
    assert facts["isolation"] in ("FULL", "REDUCED", "NONE")
    assert facts["versions"]["torch"]
    assert "pocket" in facts


def test_doctor_has_a_line_for_every_layer_and_what_to_do_for_a_missing_one(
    mergewright: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sandbox.confinement.layers import FULL_LAYERS, LAYERS

    fixes = {layer.name: layer.fix for layer in LAYERS}
    held = tuple(FULL_LAYERS - {"landlock"})
    isolation = Isolation(
        "REDUCED", (f"landlock: none; {fixes['landlock']}",), held, (f"cgroups: none; {fixes['cgroups']}",)
    )
    monkeypatch.setattr(Sandbox, "isolation", property(lambda sandbox: isolation))
    text = mergewright("doctor").out
    for layer in LAYERS:
        (line,) = [line for line in text.splitlines() if line.startswith(f"  {layer.name}")]
        assert ("MISSING: none; " + layer.fix in line) == (layer.name in ("landlock", "cgroups"))
        assert ("holds; takes away " + layer.takes in line) == (layer.name in held)
    assert "isolation    REDUCED" in text


def test_no_isolation_is_refused_unless_it_is_accepted(
    mergewright: Call, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "level_of", lambda held, missing: "NONE")
    for line in (f"try {program}", "run --set campaign.iterations=1"):
        result = mergewright(line)
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert "expected at least REDUCED isolation, got NONE" in result.err
        assert "--unsafe-no-isolation" in result.err
    accepted = json.loads(mergewright(f"try {program} --unsafe-no-isolation --json").out)
    assert (accepted["verdict"], accepted["isolation"]["level"]) == ("ok", "NONE")


def test_a_campaign_may_ask_for_full_isolation(mergewright: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "level_of", lambda held, missing: "REDUCED")
    result = mergewright("run --set sandbox.floor=FULL")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "sandbox.floor: expected isolation of at least FULL, got REDUCED" in result.err


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA")
def test_a_gpu_that_is_not_there_is_one_line(mergewright: Call, program: Path) -> None:
    result = mergewright(f"try {program} --device cuda")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "device 'cuda': expected a torch built for CUDA" in result.err


def test_score_of_fresh_problems_is_repeatable(mergewright: Call) -> None:
    one, two, other = (
        json.loads(mergewright(f"score pocket/seed --split fresh:{s} --limit 40 --json").out)["bits"] for s in (7, 7, 8)
    )
    assert one == two != other


def test_several_splits_are_one_set_of_problems(mergewright: Call) -> None:
    one, other, both = (
        json.loads(mergewright(f"score pocket/seed --split {s} --limit 20 --json").out)
        for s in ("fresh:7", "fresh:8", "fresh:7,fresh:8")
    )
    assert both["bits"] == one["bits"] + other["bits"]
    assert (both["n"], both["split"]) == (40, "fresh:7,fresh:8")


@pytest.mark.parametrize("line", ["score nosuch/model", "score /nowhere/model"])
def test_a_model_that_nobody_has_is_one_line(mergewright: Call, line: str) -> None:
    result = mergewright(f"{line} --benchmark pocket")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "expected a model folder or" in result.err


def test_a_recipe_is_applied_in_place_of_a_program(
    mergewright: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "out"
    models = "".join(f"  - model: pocket/expert_{x}\n    parameters: {{weight: 0.4}}\n" for x in "ab")
    recipe.write_text(f"merge_method: task_arithmetic\nbase_model: pocket/seed\nmodels:\n{models}")
    planned = json.loads(mergewright(f"apply {recipe} --out {out} --dry-run --json").out)
    assert planned["problems"] == []
    assert planned["computed"] == "streamed"
    made = mergewright(f"apply {recipe} --out {out} --hash-inputs")
    assert made.code == 0, made.err
    assert "merged by task_arithmetic" in made.out
    assert mergewright(f"verify {out}").code == 0
    assert len(json.loads((out / "provenance.json").read_text())["input_hashes"]) == 3
