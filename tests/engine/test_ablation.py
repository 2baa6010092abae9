"""What carries a program's score: told apart from what does nothing, kept with the run, and asked of its own models and problems only."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from engine import rundir
from engine.ablation import Ablation, ablate, ablate_in, known_ablation
from engine.ablation_page import ablation_page, notes
from engine.bench import Bench
from engine.config import CampaignConfig
from engine.errors import RunError
from engine.store import Store
from engine.variants import variants
from merges.errors import ProgramError
from tests.engine.conftest import Call

WEIGHED = """
import torch

def merge_models(model_dict, device):
    names = list(model_dict)
    weights = torch.tensor([1.0, 0.0, 0.0])
    unused = 3.0 * weights
    merged = sum(w * model_dict[n] for w, n in zip(weights, names))
    return merged + 0.0 * merged
"""


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    from tests.engine import conftest

    config: CampaignConfig = conftest.small_config.__wrapped__()  # type: ignore[attr-defined]
    with Bench(config) as opened:
        yield opened


@pytest.fixture(scope="module")
def found(bench: Bench) -> Ablation:
    return ablate(bench, WEIGHED)


def test_the_weights_carry_it_and_what_is_unused_does_nothing(found: Ablation, bench: Bench) -> None:
    evened = next(one for one in found.changes if one.after == "weights: the same for every expert")
    mean = "def merge_models(m, device):\n    return sum(v * (1 / 3) for v in m.values())\n"
    assert evened.score == pytest.approx(bench.score_merge(bench.merge(mean)).score.value, abs=1 / 24)
    first = "def merge_models(m, device):\n    return next(iter(m.values()))\n"
    assert found.score == bench.score_merge(bench.merge(first)).score.value
    assert evened.difference == pytest.approx(evened.score - found.score)
    low, high = evened.interval
    assert low <= evened.difference <= high
    idle = [(one.kind, one.before) for one in found.idle]
    assert ("without", "unused = 3.0 * weights") in idle
    assert ("only", "merged + 0.0 * merged") in idle
    assert all(one.difference == 0 and one.kind != "evenly" for one in found.idle)
    assert found.n == 24


def test_what_cannot_run_is_counted_and_no_score(found: Ablation) -> None:
    assert found.failed >= 2  # without `names`, without `weights`
    assert not any(one.before.startswith("names =") for one in found.telling)


def test_of_changes_that_make_the_same_merge_the_first_is_told(found: Ablation) -> None:
    # `w * v → v` and `weights → 1 each` are told apart; the whole line left out fails, so nothing is told twice
    told = [(one.line, one.before, one.after) for one in found.changes]
    assert len(set(told)) == len(told)


def test_the_dearest_of_each_group_is_first_and_groups_have_an_order(found: Ablation) -> None:
    assert list(found.groups) == [name for name in found.groups if found.groups[name]]
    for some in found.groups.values():
        assert [one.difference for one in some] == sorted(one.difference for one in some)
    assert sum(map(len, found.groups.values())) == len(found.telling)


def test_a_long_program_says_that_not_all_was_tried(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.ablation.variants", lambda source: variants(source, most=3))
    monkeypatch.setattr("engine.ablation.MOST_VARIANTS", 3)
    found = ablate(bench, WEIGHED)
    assert found.cut
    assert "not all were tried" in " ".join(notes(found))


def test_a_program_that_makes_no_merge_is_at_fault(bench: Bench) -> None:
    with pytest.raises(ProgramError, match="expected a merged tensor for every parameter, got exception"):
        ablate(bench, "def merge_models(model_dict, device):\n    return 1 / 0\n")


def test_what_was_found_is_read_as_it_was_written_and_its_text_cannot_colour_a_terminal(found: Ablation) -> None:
    assert Ablation.model_validate(json.loads(found.model_dump_json())) == found
    hostile = found.model_copy(
        update={
            "changes": tuple(one.model_copy(update={"before": "\x1b[31m\u202e" + one.before}) for one in found.changes)
        }
    )
    out = io.StringIO()
    Console(file=out, width=140).print(ablation_page(hostile))
    assert "\x1b" not in out.getvalue()
    assert "\u202e" not in out.getvalue()


# with a run


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def candidate_of(folder: Path) -> str:
    with closing(Store.in_folder(folder)) as store:
        return next(c.program.id for c in store.candidates() if c.assessment.score and c.assessment.score.complete)


def test_it_is_kept_with_the_run_shown_with_the_program_and_changes_nothing_else(run: Path, mergewright: Call) -> None:
    program = candidate_of(run)
    with closing(Store.in_folder(run)) as store:
        before = store.digest()
        assert known_ablation(store, program) is None
    assert json.loads(mergewright(f"archive show {run} {program} --json").out)["ablation"] is None
    told = Ablation.model_validate_json(mergewright(f"archive ablate {run} {program} --json").out)
    with closing(Store.in_folder(run)) as store:
        assert known_ablation(store, program) == told
        assert store.digest() == before
    assert json.loads(mergewright(f"archive show {run} {program} --json").out)["ablation"] == told.model_dump(
        mode="json"
    )
    assert "What carries its score" in mergewright(f"archive show {run} {program}").out
    assert mergewright(f"archive ablate {run} {program}").out.count("[") >= len(told.telling)


def test_nothing_is_asked_twice(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, config = candidate_of(run), rundir.read_config(run)
    with closing(Store.in_folder(run)) as store:
        found = store.program(program)
    assert found is not None
    first = ablate_in(run, config, found.program.source)

    def never(*_: object) -> None:
        raise AssertionError("a model was asked again")

    monkeypatch.setattr("benchmarks.evaluators.TransformersEvaluator.answer", never)
    assert ablate_in(run, config, found.program.source) == first


def test_any_program_can_be_asked_about_and_only_the_runs_own_are_kept(run: Path, mergewright: Call) -> None:
    told = Ablation.model_validate_json(mergewright(f"archive ablate {run} task_arithmetic --json").out)
    with closing(Store.in_folder(run)) as store:
        assert known_ablation(store, told.program) is None


def test_what_cannot_be_read_is_as_if_nobody_had_asked(run: Path) -> None:
    program = candidate_of(run)
    with closing(Store.in_folder(run)) as store:
        store.set_meta(f"ablation {program}", {"program": program, "score": "high"})
        assert known_ablation(store, program) is None


def test_other_problems_are_refused(run: Path) -> None:
    config = rundir.read_config(run)
    fewer = config.model_copy(update={"benchmark": config.benchmark.model_copy(update={"dev_limit": 12})})
    with pytest.raises(RunError, match="expected the same dev as at its start, got another"):
        ablate_in(run, fewer, WEIGHED)


def test_a_run_that_is_going_on_is_refused(run: Path, mergewright: Call) -> None:
    with rundir.locked(run):
        answer = mergewright(f"archive ablate {run} {candidate_of(run)}")
    assert answer.code == 2
    assert "expected no other process on it" in answer.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nowhere 1", "run 'nowhere'"),
        ("RUN ffffffff", "program 'ffffffff': expected a .py file"),
        ("RUN absent.py", "absent.py"),
        ("RUN", "Missing argument"),
    ],
)
def test_a_mistake_is_one_line(run: Path, arguments: str, message: str, mergewright: Call) -> None:
    answer = mergewright(f"archive ablate {arguments.replace('RUN', str(run))}")
    assert answer.code == 2
    assert message in answer.err
    assert len(answer.err.strip().splitlines()) == 1
