"""A whole small study: run, broken off and gone on with, met with held-out problems, reported."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from engine import locations, rundir
from engine.checkout import commit
from engine.cli import app
from engine.errors import ConfigError, HostError, RunError
from engine.exploring import EliteMap
from engine.store import Store
from engine.study import held_out, runner
from engine.study.figures import figures
from engine.study.held_out import Arena, HeldOut
from engine.study.over_seeds import OverSeeds
from engine.study.plan import Study, read_study
from engine.study.report import lines, mixed, write_report
from engine.study.results import REORDERED, TRANSFERRED, _comparison, collect
from engine.study.runner import PlannedRun, added_late, planned_runs, prepare, run_all
from tests.engine.conftest import WEIGHTED_SUM

STUDY = """
[study]
name = "small"
seeds = [1, 2]
held_out = ["fresh:5"]
top = 2
drawn = 1
set = ["campaign.iterations=2", "campaign.programs=4", "benchmark.dev_limit=16", "benchmark.test_limit=16", "benchmark.racing=none", "models.threads=1", "baselines.names=task_arithmetic", "generator.batch=2"]

[methods.scripted]
set = ["generator.kind=scripted", "generator.script=SCRIPT"]

[methods.grammar]
set = ["generator.kind=grammar"]

[[compare]]
better = "scripted"
than = "grammar"

[transfer]
experts = ["pocket/transfer_a", "pocket/transfer_b", "pocket/transfer_c"]
"""


def written(folder: Path, text: str = STUDY) -> Path:
    script = folder / "script"
    script.mkdir(exist_ok=True)
    for number, scale in enumerate((0.1, 0.3, 0.5, 2.0)):
        (script / f"{number}.py").write_text(WEIGHTED_SUM.replace("0.3", str(scale)))
    file = folder / "study.toml"
    file.write_text(text.replace("SCRIPT", str(script)))
    return file


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study, dict]:
    """A study whose runs are done, with its results."""
    folder = tmp_path_factory.mktemp("study")
    file = written(folder)
    study, out, told = read_study(file), folder / "out", []
    runs = prepare(study, file.read_text(), out)
    run_all(study, runs, jobs=2, told=lambda run, what: told.append((run.name, what)))
    assert sorted(told) == sorted((run.name, what) for run in runs for what in ("begun", "finished"))
    results = collect(study, runs, out, told=lambda _: None)
    return out, study, results


def test_every_method_meets_every_seed_in_a_run_of_its_own(finished: tuple[Path, Study, dict]) -> None:
    out, study, results = finished
    names = [run.name for run in planned_runs(study, out)]
    assert names == ["scripted-1", "grammar-1", "scripted-2", "grammar-2"]  # seed by seed
    assert list(results["runs"]) == names
    for run in planned_runs(study, out):
        store = Store.in_folder(run.folder)
        assert len(store.candidates()) == 8
        assert not store.finals()  # test problems stay untouched
        assert {t.kind for t in store.trials()} == {"seed", "expert"}  # human-made merges are tuned once, by the study


def test_the_results_are_those_of_the_archives(finished: tuple[Path, Study, dict]) -> None:
    out, _, results = finished
    run = results["runs"]["scripted-1"]
    store = Store.in_folder(out / "runs" / "scripted-1")
    scores = sorted((c.score for c in store.candidates(1) if c.score is not None), reverse=True)
    assert run["scores"]["1"] == scores
    assert run["iterations"]["1"]["best"] == scores[0]
    assert run["best_so_far"][-1] == max(c.score for c in store.candidates() if c.score is not None)
    median = results["methods"]["scripted"]["median, iteration 1"]
    assert (median["n"], median["mean"]) == (2, run["iterations"]["1"]["median"])  # a script gives every seed the same


def test_how_much_of_the_map_is_held_is_told_by_iteration(finished: tuple[Path, Study, dict]) -> None:
    out, _, results = finished
    candidates = Store.in_folder(out / "runs" / "grammar-1").candidates()
    grown = EliteMap(rundir.read_config(out / "runs" / "grammar-1").explore)
    for one in candidates:
        grown.add(one)
    mapped = results["runs"]["grammar-1"]["map"]
    assert set(mapped) == {"1", "2"}
    assert mapped["2"] == {
        "cells held": grown.stats().coverage,
        "QD score a cell": grown.stats().qd_score / grown.stats().cells,
    }
    assert mapped["2"]["cells held"] >= mapped["1"]["cells held"] > 0
    assert results["methods"]["grammar"]["map: cells held, iteration 2"]["n"] == 2


def test_the_best_programs_meet_the_held_out_problems_and_other_experts(finished: tuple[Path, Study, dict]) -> None:
    out, _, results = finished
    own, other = results["held_out"], results["transfer"]
    assert own["problems"] == other["problems"] == 16  # as benchmark.test_limit says
    assert {name: len(programs) for name, programs in own["runs"].items()} == dict.fromkeys(results["runs"], 2)
    assert {len(programs) for programs in other["runs"].values()} == {1}
    best = max(
        (c for c in Store.in_folder(out / "runs" / "grammar-2").candidates() if c.score),
        key=lambda c: (c.score, -c.number),
    )
    assert own["runs"]["grammar-2"][0]["name"] == other["runs"]["grammar-2"][0]["name"] == best.program.id
    assert own["runs"]["grammar-2"][0]["dev"] == best.score
    assert own["evaluations"] == other["evaluations"] == 8  # as many as a run has programs
    assert own["human"]["name"] == "task_arithmetic"
    one = own["runs"]["scripted-1"][0]
    assert one["against_human"]["difference"] == pytest.approx(one["value"] - own["human"]["value"])


def test_the_gap_between_dev_and_held_out_is_told_by_iteration(finished: tuple[Path, Study, dict]) -> None:
    out, _, results = finished
    firsts = results["held_out"]["by_iteration"]["grammar-2"]
    assert set(firsts) == {"1", "2"}
    store = Store.in_folder(out / "runs" / "grammar-2")
    for iteration, one in firsts.items():
        assert one["dev"] == max(c.score for c in store.candidates(int(iteration)) if c.score is not None)
    gap = results["methods"]["grammar"]["dev − held-out, first on dev of iteration 2"]
    both = [results["held_out"]["by_iteration"][f"grammar-{seed}"]["2"] for seed in (1, 2)]
    assert gap["mean"] == pytest.approx(sum(one["dev"] - one["value"] for one in both) / 2)


def test_programs_that_chance_drew_are_met_by_iteration_and_the_same_where_programs_are(
    finished: tuple[Path, Study, dict],
) -> None:
    out, _, results = finished
    drawn = results["held_out"]["drawn"]["grammar-2"]
    assert {i: len(ones) for i, ones in drawn.items()} == {"1": 1, "2": 1}
    candidates = Store.in_folder(out / "runs" / "grammar-2").candidates()
    assert drawn["2"][0]["name"] in {c.program.id for c in candidates if c.iteration == 2 and c.score is not None}
    mean = results["methods"]["grammar"]["held-out, mean of 1 drawn of iteration 2"]
    values = [results["held_out"]["drawn"][f"grammar-{seed}"]["2"][0]["value"] for seed in (1, 2)]
    assert (mean["mean"], mean["problems"]) == (pytest.approx(sum(values) / 2), 16)
    assert results["transfer"]["drawn"] == {}
    two, one, other = (held_out.drawn(candidates, count, seed) for count, seed in ((2, 5), (1, 5), (1, 6)))
    assert two == held_out.drawn(candidates[::-1], 2, 5)
    assert {len(ones) for ones in two.values()} == {2}
    assert held_out.drawn(candidates, 0, 5) == {}
    assert len(held_out.drawn(candidates, 100, 5)[1]) == sum(
        c.score is not None for c in candidates if c.iteration == 1
    )
    assert one != other


def test_a_program_that_knows_experts_by_their_place_shows_in_other_orders(tmp_path: Path) -> None:
    text = STUDY.replace("seeds = [1, 2]", "seeds = [1]").replace("iterations=2", "iterations=1")
    places = tmp_path / "places"
    places.mkdir()
    for first in (0.8, 0.9):
        source = f"def merge_models(model_dict, device):\n    return {first} * list(model_dict.values())[0]\n"
        (places / f"{first}.py").write_text(source)
    grammar = 'set = ["generator.kind=grammar"]'
    text = text.replace(grammar, f'set = ["generator.kind=scripted", "generator.script={places}"]')
    file = written(tmp_path, text.replace("grammar", "places") + "orders = true\n")
    study = read_study(file)
    runs = prepare(study, file.read_text(), tmp_path / "out")
    run_all(study, runs, jobs=1)
    results = collect(study, runs, tmp_path / "out", told=lambda _: None)
    there = {name: first["value"] for name, (first,) in results["transfer"]["runs"].items()}
    elsewhere = {name: [one["value"] for one in ones] for name, ones in results["transfer"]["reordered"].items()}
    assert elsewhere["scripted-1"] == [there["scripted-1"]] * 5, "a sum knows no order"
    assert len(set(elsewhere["places-1"])) > 1
    assert elsewhere["places-1"].count(there["places-1"]) < 5
    assert results["methods"]["places"][REORDERED]["mean"] == pytest.approx(sum(elsewhere["places-1"]) / 5)
    assert results["comparisons"][0]["differences"][REORDERED]["n"] == 1
    assert results["held_out"]["reordered"] == {}
    assert "transfer.orders" in study.parts()


def test_of_many_orders_some_are_met_and_always_the_same() -> None:
    assert held_out.other_orders(("a", "b")) == [("b", "a")]
    assert len(set(held_out.other_orders("abc")) - {("a", "b", "c")}) == 5
    many = held_out.other_orders("abcdefgh")
    assert len(set(many)) == held_out.MOST_ORDERS
    assert many == held_out.other_orders("abcdefgh")


def test_a_program_that_fails_on_other_experts_is_a_finding_and_the_report_is_written(tmp_path: Path) -> None:
    only_here = WEIGHTED_SUM.replace(
        "    return", "    assert 'transfer_a' not in model_dict, 'made for others'\n    return"
    )
    file = written(tmp_path, STUDY.replace("seeds = [1, 2]", "seeds = [1]").replace("iterations=2", "iterations=1"))
    for program in (tmp_path / "script").iterdir():
        program.write_text(only_here)
    study = read_study(file)
    runs = prepare(study, file.read_text(), tmp_path / "out")
    run_all(study, runs, jobs=1)
    results = collect(study, runs, tmp_path / "out", told=lambda _: None)
    (failed,) = results["transfer"]["runs"]["scripted-1"]
    assert failed["value"] is None
    assert "made for others" in failed["fault"]
    assert failed["against_human"] is None
    assert results["held_out"]["runs"]["scripted-1"][0]["value"] is not None
    assert results["methods"]["scripted"][TRANSFERRED] == asdict(OverSeeds(None, None, None, 0, 1))
    difference = results["comparisons"][0]["differences"][TRANSFERRED]
    assert (difference["mean"], difference["n"], difference["of"], difference["seeds"]) == (None, 0, 1, [])
    page = write_report(results, tmp_path).read_text()
    assert "made for others" in page
    assert f"<td>{TRANSFERRED}</td><td>–</td><td>–</td><td>0 of 1</td>" in page  # in the comparison
    assert f"<td>{TRANSFERRED}, %</td><td>– (0 of 1 seeds)</td>" in page  # of the method
    assert "scripted (0 of 1 seeds)" in page  # in the figure


RIGHT = {1: "1110", 2: "1100", 3: "1111", 4: "1101"}


def made_up(study: Study, transfer: Mapping[int, str], scored: Mapping[int, float]) -> dict[str, Any]:
    """The comparison of a study's two methods, where the first's programs got on other experts what `transfer` has by seed, and the second's nothing right; `scored`: the first's by seed, on dev."""

    def one(bits: str) -> HeldOut:
        return HeldOut("p", None, {}, bits.count("1") / 4 if bits else None, None, None, bits)

    human, names = one("1000"), [f"{m}-{s}" for m in study.methods for s in study.seeds_of(m)]
    got = {name: [one(transfer.get(int(name[-1]), "") if name.startswith("scripted") else "0000")] for name in names}
    arena = Arena(human, [human], 1, got, {}, {}, [1.0] * 4)
    searched = {
        name: {
            "iterations": {},
            "best_so_far": [scored.get(int(name[-1])) if name.startswith("scripted") else 0.1],
            "judged": {},
            "map": {},
        }
        for name in names
    }
    return _comparison(study, "scripted", "grammar", searched, arena, arena)["differences"]


def test_a_run_that_fails_is_counted_and_makes_no_method_look_better(tmp_path: Path) -> None:
    study = read_study(written(tmp_path, STUDY.replace("seeds = [1, 2]", "seeds = [1, 2, 3, 4]")))
    scores = {1: 0.5, 2: 0.6, 3: 0.7, 4: 0.5}
    sound = made_up(study, RIGHT, scores)
    for name in (TRANSFERRED, "best of the run"):
        assert (sound[name]["n"], sound[name]["of"], sound[name]["holds"]) == (4, 4, True)
    broken = made_up(study, RIGHT | {4: ""}, {s: value for s, value in scores.items() if s < 4})
    for name in (TRANSFERRED, f"{TRANSFERRED}, above p", "best of the run"):
        found = broken[name]
        assert (found["n"], found["of"], found["seeds"], found["holds"]) == (3, 4, [1, 2, 3], False)
    assert broken["best of the run"]["mean"] == pytest.approx(0.5)  # of the three: no 0 for the fourth
    text = "\n".join(
        lines(
            {
                "comparisons": [{"better": "a", "than": "b", "added_late": False, "differences": broken}],
                "made_by": {},
                "added_late": [],
                "held_out": {"human": {"name": "p", "value": 0.25}, "evaluations": 1},
            }
        )
    )
    assert re.search(rf"{TRANSFERRED} .*, n = 3 of 4 seeds, so nothing holds", text)


def test_as_many_evaluations_for_human_made_merges_as_a_run_has_programs(tmp_path: Path) -> None:
    names = "baselines.names=task_arithmetic,ties,model_stock"
    text = STUDY.replace("baselines.names=task_arithmetic", names).replace("programs=4", "programs=50")
    study = read_study(written(tmp_path, text))
    config = held_out._config(study, None)
    assert config.baselines.evaluations == 33  # (100 programs − 1 of model_stock) / 3 hyper-parameters


def test_nobody_races_in_a_study(tmp_path: Path) -> None:
    study = read_study(written(tmp_path, STUDY.replace("benchmark.racing=none", "benchmark.racing=sequential")))
    assert {study.config(method, 1).benchmark.racing for method in study.methods} == {"none"}


def test_comparisons_are_paired_by_seed(finished: tuple[Path, Study, dict]) -> None:
    *_, results = finished
    (comparison,) = results["comparisons"]
    found = comparison["differences"]["held-out, first on dev"]
    values = {
        name: results["held_out"]["runs"][name][0]["value"]
        for name in ("scripted-1", "scripted-2", "grammar-1", "grammar-2")
    }
    wanted = (values["scripted-1"] - values["grammar-1"] + values["scripted-2"] - values["grammar-2"]) / 2
    assert found["mean"] == pytest.approx(wanted)
    assert found["seeds"] == [1, 2]
    assert found["problems"] == 16
    assert comparison["differences"]["median, iteration 1"]["problems"] is None


def test_collected_again_nothing_is_asked_again_and_the_numbers_are_the_same(
    finished: tuple[Path, Study, dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.evaluators import TransformersEvaluator

    out, study, results = finished
    monkeypatch.setattr(TransformersEvaluator, "answer", lambda *_, **__: pytest.fail("asked again"))
    again = collect(study, planned_runs(study, out), out, told=lambda _: None)
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(results))


def test_the_report_shows_every_number_and_figure(finished: tuple[Path, Study, dict], tmp_path: Path) -> None:
    *_, results = finished
    page = write_report(results, tmp_path).read_text()
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(results))
    names = {file.stem for file in (tmp_path / "figures").iterdir()}
    assert names == {"histograms", "best-so-far", "by-iteration", "held-out"}
    assert page.count("<svg") == 4
    for text in (
        "scripted against grammar",
        "held-out, first on dev",
        "Other experts",
        results["held_out"]["human"]["name"],
        "grammar-2",
    ):
        assert text in page
    assert "http://" not in re.sub(
        r'http://(www\.w3\.org|purl\.org|creativecommons\.org)[^"\s]*', "", page
    )  # nothing is fetched
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL).lower()


def test_the_same_results_draw_the_same_figures(finished: tuple[Path, Study, dict]) -> None:
    *_, results = finished
    assert figures(results) == figures(json.loads(json.dumps(results)))


def test_a_name_of_the_users_cannot_break_the_page(finished: tuple[Path, Study, dict], tmp_path: Path) -> None:
    *_, results = finished
    changed = json.loads(json.dumps(results).replace("task_arithmetic", "<script>alert(1)</script>"))
    page = write_report(changed, tmp_path).read_text()
    assert "<script>" not in page


def test_the_lines_for_the_terminal_name_difference_interval_and_p(finished: tuple[Path, Study, dict]) -> None:
    *_, results = finished
    text = "\n".join(lines(results))
    assert re.search(r"held-out, first on dev +[+-]\d+\.\d \[[+-]\d+\.\d, [+-]\d+\.\d\] +p = (0\.5|1)\b", text)
    assert "task_arithmetic" in text


def test_finished_runs_are_not_run_again(finished: tuple[Path, Study, dict], monkeypatch: pytest.MonkeyPatch) -> None:
    out, study, _ = finished
    monkeypatch.setattr(runner, "_run", lambda *_: pytest.fail("run again"))
    run_all(study, planned_runs(study, out), jobs=1)


def test_a_run_that_breaks_does_not_stop_the_others_and_goes_on_later(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        STUDY.replace("seeds = [1, 2]", "seeds = [1]").replace("campaign.iterations=2", "campaign.iterations=1"),
    )
    study, out = read_study(file), tmp_path / "out"
    runs = prepare(study, file.read_text(), out)
    script = tmp_path / "script"
    script.rename(tmp_path / "away")
    with pytest.raises(
        HostError, match=r"1 of 2 runs did not finish, first scripted-1 \(.*generator\.script.*\); see its log"
    ) as caught:
        run_all(study, runs, jobs=1)
    assert "\n" not in str(caught.value)
    assert [run.finished() for run in runs] == [False, True]
    (tmp_path / "away").rename(script)
    run_all(study, runs, jobs=1)
    assert all(run.finished() for run in runs)


def test_a_run_folder_of_another_campaign_does_not_stop_the_others(tmp_path: Path) -> None:
    file = written(tmp_path, STUDY.replace("seeds = [1, 2]", "seeds = [1]").replace("iterations=2", "iterations=1"))
    study, out = read_study(file), tmp_path / "out"
    runs = prepare(study, file.read_text(), out)
    runner.rundir.new_folder(study.config("scripted", 7), runs[0].folder, "")
    with pytest.raises(HostError, match=r"1 of 2 runs did not finish, first scripted-1 \(study run .*got 'scripted-7'"):
        run_all(study, runs, jobs=1)
    assert [run.finished() for run in runs] == [False, True]


def test_another_study_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path)
    study = read_study(file)
    prepare(study, file.read_text(), tmp_path / "out")
    out = tmp_path / "out"
    for change, part in (
        (("top = 2", "top = 3"), r"study\.top = 2"),
        (("drawn = 1", "drawn = 2"), r"study\.drawn = 1"),
        (("fresh:5", "fresh:6"), r"study\.held_out = \('fresh:5',\)"),
        (("programs=4", "programs=5"), r"study\.set = .*"),
        (("kind=grammar", "kind=coefficients"), r"methods\.grammar\.set = \('generator\.kind=grammar',\)"),
        (("seeds = [1, 2]", "seeds = [2, 3]"), "run scripted-1"),
        (('than = "grammar"', 'than = "scripted"'), "comparison of scripted with grammar"),
        (('"pocket/transfer_c"', '"pocket/transfer_a"'), r"transfer\.experts = .*"),
    ):
        text = file.read_text().replace(*change)
        other = tmp_path / "other.toml"
        other.write_text(text)
        with pytest.raises(RunError, match=rf"expected {part} as in its study\.toml, got a study without") as caught:
            prepare(read_study(other), text, out)
        assert "\n" not in str(caught.value)
        assert (out / "study.toml").read_text() == file.read_text()


GROWN = """
[methods.coefficients]
seeds = [1]
set = ["generator.kind=coefficients", "learn.method=none"]

[[compare]]
better = "grammar"
than = "coefficients"
"""


def test_a_study_grows_by_seeds_methods_and_comparisons_in_its_own_folder(tmp_path: Path) -> None:
    file, out = written(tmp_path), tmp_path / "out"
    prepare(read_study(file), file.read_text(), out)
    text = file.read_text().replace("seeds = [1, 2]", "seeds = [1, 2, 3]") + GROWN
    file.write_text(text)
    study = read_study(file)
    names = ["scripted-1", "grammar-1", "coefficients-1", "scripted-2", "grammar-2", "scripted-3", "grammar-3"]
    assert [run.name for run in prepare(study, text, out)] == names
    assert (out / "study.toml").read_text() == text
    assert added_late(study, out) == []  # nothing had been met


def test_what_is_added_after_the_held_out_problems_were_met_counts_and_is_named(copied: tuple[Path, Study]) -> None:
    out, before = copied
    text = (out / "study.toml").read_text() + GROWN
    file = out.parent / "grown.toml"
    file.write_text(text)
    study = read_study(file)
    runs = prepare(study, text, out)
    assert read_study(out / "study-first-met.toml") == before
    told: list[str] = []
    run_all(study, runs, jobs=1, told=lambda run, _: told.append(run.name))
    assert set(told) == {"coefficients-1"}  # all else was done
    results = collect(study, runs, out, told=lambda _: None)
    late = ["run coefficients-1", "comparison of grammar with coefficients"]
    assert results["added_late"] == late
    assert [one["added_late"] for one in results["comparisons"]] == [False, True]
    assert results["held_out"]["runs"]["coefficients-1"][0]["value"] is not None
    shown = "\n".join(lines(results))
    assert f"Added after the held-out problems had been met: {'; '.join(late)}" in shown
    page = write_report(results, out).read_text()
    assert "grammar against coefficients (added late)" in page
    assert "; ".join(late) in page
    again = text.replace("seeds = [1]", "seeds = [1, 2]")  # and once more: it is the first meeting that counts
    file.write_text(again)
    prepare(read_study(file), again, out)
    assert added_late(read_study(file), out) == ["run coefficients-1", "run coefficients-2", late[1]]


def test_a_comparison_rests_on_the_seeds_that_both_methods_have(tmp_path: Path) -> None:
    study = read_study(written(tmp_path, STUDY + GROWN))
    parts = study.rests_on(study.compare[1])
    assert parts == ["comparison of grammar with coefficients", "run grammar-1", "run coefficients-1"]


def test_a_campaign_that_changed_since_a_run_was_finished_is_refused_before_anything_begins(
    finished: tuple[Path, Study, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, study, _ = finished
    monkeypatch.setattr(runner, "_run", lambda *_: pytest.fail("begun"))
    runs = [*planned_runs(study, out), PlannedRun("grammar", 3, out / "runs" / "grammar-3")]
    for text, message in (
        ("", None),
        ("[sandbox]\nwall_seconds = 3.0\n", r"run scripted-1: expected sandbox\.wall_seconds = 3\.0 .*, got 20\.0 in"),
        ("[generator]\nbase_url = 'http://other:1/v1'\n", None),  # how an endpoint is reached is no part of a run
    ):
        file = tmp_path / "campaign.toml"
        file.write_text(locations.campaign_file("pocket").read_text() + text)
        now = study.model_copy(update={"study": study.study.model_copy(update={"campaign": str(file)})})
        if message is None:
            run_all(now, runs[:-1], jobs=1)
            continue
        with pytest.raises(RunError, match=message) as caught:
            run_all(now, runs, jobs=1)
        assert "\n" not in str(caught.value)


def test_a_run_goes_on_with_its_endpoint_reached_as_the_campaign_says_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = read_study(written(tmp_path))
    (run, *_) = prepare(study, "", tmp_path / "out")
    config = study.config(run.method, run.seed)
    moved = config.model_copy(update={"generator": config.generator.model_copy(update={"base_url": "http://old:1/v1"})})
    rundir.new_folder(moved, run.folder, "")
    done = subprocess.CompletedProcess[bytes]([], 1)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert not runner._run(study, run)
    assert rundir.read_config(run.folder) == config


@pytest.fixture
def copied(finished: tuple[Path, Study, dict], tmp_path: Path) -> tuple[Path, Study]:
    """The finished study in a folder that may be spoilt."""
    shutil.copytree(finished[0], tmp_path / "out")
    return tmp_path / "out", finished[1]


def spoil(run: PlannedRun, **changes: Any) -> None:
    """Change a run's manifest."""
    file = run.folder / rundir.MANIFEST_FILE
    found = json.loads(file.read_text())
    inputs = found["inputs"] | changes.pop("inputs", {})
    file.write_text(json.dumps({**found, **changes, "inputs": inputs}))


def test_runs_of_other_models_are_not_held_against_each_other(copied: tuple[Path, Study]) -> None:
    out, study = copied
    runs = planned_runs(study, out)
    others = {"expert_a": "0", "expert_b": "1", "expert_c": "2"}
    for run in runs:
        with nullcontext() if run is runs[0] else pytest.raises(RunError, match="the same experts as of"):
            run_all(study, runs, jobs=1)
        spoil(run, inputs={"experts": others})
    run_all(study, runs, jobs=1)  # all are of the same ones, and the study is of others now
    with pytest.raises(RunError, match="run scripted-1: expected the same experts as it is now, got another") as caught:
        collect(study, runs, out, told=lambda _: None)
    assert "\n" not in str(caught.value)


def test_the_code_that_made_the_runs_is_told_and_a_mix_shows(copied: tuple[Path, Study]) -> None:
    out, study = copied
    runs = planned_runs(study, out)
    names = [run.name for run in runs]
    assert runner.made_by(runs)["commit"] == {commit() or rundir.NOT_KNOWN: names}
    assert list(runner.made_by(runs)["torch"].values()) == [names]
    spoil(runs[0], commits=["a", "b"])
    spoil(runs[1], commits=["b"])
    made = runner.made_by(runs)["commit"]
    assert (made["a"], made["b"]) == (names[:1], names[:2])


def test_a_mix_of_commits_stands_in_the_report(finished: tuple[Path, Study, dict], tmp_path: Path) -> None:
    _, study, results = finished
    assert results["made_by"] == runner.made_by(planned_runs(study, finished[0]))
    assert not mixed(results)
    changed = {
        **results,
        "made_by": {"torch": {"2": ["a-1", "a-2"]}, "commit": {"f00": ["a-1"], "ba4": ["a-1", "a-2"]}},
    }
    told = "Runs of more than one commit: f00 (a-1); ba4 (a-1, a-2)"
    assert told in lines(changed)
    assert told in write_report(changed, tmp_path).read_text()
    assert json.loads((tmp_path / "results.json").read_text())["made_by"] == changed["made_by"]


@pytest.mark.parametrize("file", held_out.FILES.values())
def test_merges_that_were_tuned_on_something_else_are_not_taken_for_those_of_now(
    copied: tuple[Path, Study], file: str
) -> None:
    out, study = copied
    assert study.transfer is not None
    experts = study.transfer.experts if file == "transfer.db" else None

    def refused(study: Study, message: str) -> None:
        with pytest.raises(RunError, match=message) as caught:
            held_out.meet(study, [], out, experts=experts, told=lambda _: None)
        assert "\n" not in str(caught.value)

    settings = (*study.study.set, "baselines.names=task_arithmetic,ties")
    other = study.model_copy(update={"study": study.study.model_copy(update={"set": settings})})
    refused(other, rf"{file}': expected human-made merges that were tuned with the same baselines as now, got others")
    with closing(sqlite3.connect(out / file)) as connection, connection:
        connection.execute("DELETE FROM meta WHERE key = ?", (held_out.TUNED_ON,))
    refused(
        study, rf"{file}': expected a word of what its human-made merges were tuned on, got none: .*; remove the file"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seeds = [1, 2]", ""), r"key 'study\.seeds': expected Field required"),
        (("seeds = [1, 2]", "seeds = []"), r"key 'study\.seeds': expected at least 1|key 'study\.seeds'"),
        (('"fresh:5"', '"dev"'), r"'test' or 'fresh:SEED' \(got 'dev'\)"),
        (('"fresh:5"', '"fresh:5", "fresh:5"'), r"each split once"),
        (('than = "grammar"', 'than = "nobody"'), r"methods out of scripted, grammar in compare \(got nobody\)"),
        (("kind=grammar", "kind=magic"), r"method 'grammar': .*key 'generator\.kind'"),
        (
            ('kind=grammar"', 'kind=grammar", "campaign.programs=9"'),
            r"'grammar': key 'campaign\.programs': expected the same as of 'scripted' \(4\), got 9; .*equal budgets",
        ),
        (('kind=grammar"', 'kind=grammar", "benchmark.dev_limit=9"'), r"key 'benchmark\.dev_limit': expected the same"),
        (
            ("top = 2", "tops = 2"),
            r"key 'study\.tops': expected one of name, campaign, seeds, held_out, top, drawn, set",
        ),
        (
            ("[methods.grammar]\nset", "[methods.grammar]\nsets"),
            r"key 'methods\.grammar\.sets': expected one of set, seeds",
        ),
        (("[[compare]]", "[[compare"), r"expected TOML, got"),
    ],
)
def test_a_mistake_in_a_study_is_one_line_that_names_it(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    file = written(tmp_path, STUDY.replace(*change))
    with pytest.raises(ConfigError, match=message) as caught:
        read_study(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["pocket-study", "pocket-explore-study", "pocket-breeding-study"])
def test_a_shipped_study_is_sound_and_a_dry_run_lists_its_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    study = read_study(locations.campaign_file(name))
    app(["study", name, "--dry-run"], standalone_mode=False)
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == sum(len(study.seeds_of(method)) for method in study.methods)
    assert all("3 × 200 programs" in line for line in listed)


def test_what_is_compared_in_the_study_of_methods_has_five_seeds() -> None:
    study = read_study(locations.campaign_file("pocket-study"))
    for name in ("none", "dpo", "rest-em", "coefficients"):
        assert len(study.seeds_of(name)) >= 5


def test_every_method_of_the_study_of_methods_is_compared_on_two_seeds_or_more() -> None:
    study = read_study(locations.campaign_file("pocket-study"))
    assert {name for pair in study.compare for name in (pair.better, pair.than)} == set(study.methods)
    for pair in study.compare:
        assert len(set(study.seeds_of(pair.better)) & set(study.seeds_of(pair.than))) >= 2


def test_the_whole_command(finished: tuple[Path, Study, dict], capsys: pytest.CaptureFixture[str]) -> None:
    out, _, results = finished
    app(["study", str(out / "study.toml"), "--out", str(out), "--json"], standalone_mode=False)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads(json.dumps(results))
    assert "4 runs, 4 finished" in printed.err
    assert (out / "report.html").is_file()


def test_without_human_made_merges_there_is_nothing_to_compare_with(
    finished: tuple[Path, Study, dict], tmp_path: Path
) -> None:
    _, study, _ = finished
    bare = study.model_copy(
        update={"study": study.study.model_copy(update={"set": (*study.study.set, "baselines.names=[]")})}
    )
    with pytest.raises((HostError, ConfigError), match=r"baselines\.names"):
        held_out.meet(bare, [], tmp_path, experts=None, told=lambda _: None)
