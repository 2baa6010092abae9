"""From a proposed program to a scored one: what is paid for, what is tried again, and what stays a reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from engine.assess import Known, assess_all
from engine.bench import Bench, Scored, expert_names
from engine.config import CampaignConfig, build_config
from engine.records import Assessment, Candidate, Outcome
from sandbox import ExecutionResult, Isolation, Reason
from tests.engine.conftest import WEIGHTED_SUM, candidate, dev_score


def gave(value: float) -> ExecutionResult:
    """A run that gave one tensor."""
    return ExecutionResult(True, None, None, None, 0.1, 1, Isolation("FULL"), {"t": torch.tensor([value])})


def failed(reason: Reason) -> ExecutionResult:
    """A run that gave nothing."""
    return ExecutionResult(False, reason, "why", 3, 0.1, 1, Isolation("FULL"), None)


class CountingBench:
    """Stands in for the workbench: answers in the order given, by source, and counts what it is asked for."""

    def __init__(self, probes: dict[str, list[ExecutionResult]], merges: dict[str, list[ExecutionResult]]) -> None:
        self.probes, self.merges, self.calls = probes, merges, Counter[str]()

    def probe(self, source: str) -> ExecutionResult:
        self.calls["probe"] += 1
        return self.probes[source].pop(0)

    def merge(self, source: str) -> ExecutionResult:
        self.calls["merge"] += 1
        return self.merges[source].pop(0)

    def score_vectors(self, vectors: Any) -> Scored:
        self.calls["score"] += 1
        return Scored(dev_score(), 0.1)


def proposed(number: int) -> Candidate:
    """A candidate whose source is named by its number."""
    row = candidate(number, None)
    return replace(row, program=replace(row.program, source=f"p{number}"), assessment=Assessment(Outcome.PENDING))


def assessed(bench: CountingBench, count: int, known: Known | None = None) -> list[Assessment]:
    """Assess candidates p1 … on the stand-in."""
    rows = [proposed(number) for number in range(1, count + 1)]
    return [assessment for _, assessment in assess_all(bench, rows, known or Known())]  # type: ignore[arg-type]


def test_a_program_that_behaves_like_an_earlier_one_is_paid_no_merge_and_no_score() -> None:
    bench = CountingBench({"p1": [gave(1)], "p2": [gave(1)], "p3": [gave(2)]}, {"p1": [gave(5)], "p3": [gave(6)]})
    outcomes = assessed(bench, 3)
    assert [a.outcome for a in outcomes] == [Outcome.OK, Outcome.DUPLICATE, Outcome.OK]
    assert outcomes[1].duplicate_of == proposed(1).program.id
    assert outcomes[1].sha256 is None
    assert bench.calls == {"probe": 3, "merge": 2, "score": 2}


def test_a_program_of_an_earlier_session_is_known() -> None:
    bench = CountingBench({"p1": [gave(1)]}, {"p1": [gave(5)]})
    (first,) = assessed(bench, 1)
    known = Known([replace(candidate(9, 0.5), assessment=first)])
    again = CountingBench({"p1": [gave(1)]}, {})
    assert assessed(again, 1, known)[0].duplicate_of == candidate(9, 0.5).program.id


@pytest.mark.parametrize("stage", ["probe", "merge"])
def test_a_time_out_is_tried_once_more(stage: str) -> None:
    slow = [failed(Reason.TIMEOUT), gave(1)]
    bench = CountingBench(
        {"p1": slow if stage == "probe" else [gave(1)]}, {"p1": slow if stage == "merge" else [gave(2)]}
    )
    (assessment,) = assessed(bench, 1)
    assert assessment.outcome is Outcome.OK
    assert bench.calls[stage] == 2


@pytest.mark.parametrize(
    ("reason", "outcome", "runs"),
    [
        (Reason.TIMEOUT, Outcome.FAILED, 2),
        (Reason.EXCEPTION, Outcome.FAILED, 1),
        (Reason.MEMORY, Outcome.FAILED, 1),
        (Reason.POLICY, Outcome.REJECTED, 1),
        (Reason.SYNTAX, Outcome.REJECTED, 1),
    ],
)
def test_a_fault_is_a_value_with_a_reason_and_never_a_score(reason: Reason, outcome: Outcome, runs: int) -> None:
    bench = CountingBench({"p1": [failed(reason)] * 2}, {})
    (assessment,) = assessed(bench, 1)
    assert (assessment.outcome, assessment.reason, assessment.line) == (outcome, reason.value, 3)
    assert assessment.score is None
    assert bench.calls == {"probe": runs}


def test_a_fault_of_the_host_is_an_exception() -> None:
    class Broken(CountingBench):
        def merge(self, source: str) -> ExecutionResult:
            raise OSError("no memory")

    with pytest.raises(OSError, match="no memory"):
        assessed(Broken({"p1": [gave(1)]}, {}), 1)


def test_names_of_experts_are_unique() -> None:
    assert expert_names(("x/a_2", "y/a", "z/a", "w/a")) == ("a_2", "a", "a_3", "a_4")


@pytest.fixture(scope="module")
def two_experts() -> CampaignConfig:
    """A campaign with two experts."""
    return build_config({"models": {"experts": ["pocket/expert_a", "pocket/expert_b"]}, "benchmark": {"dev_limit": 8}})


def test_probes_have_as_many_experts_as_the_campaign(two_experts: CampaignConfig) -> None:
    unpacking = "def merge_models(model_dict, device):\n    a, b = model_dict.values()\n    return a + 0.5 * b\n"
    with Bench(two_experts) as bench:
        assert bench.probe(unpacking).ok
        assert bench.merge(unpacking).ok
        three = "def merge_models(model_dict, device):\n    a, b, c = model_dict.values()\n    return a\n"
        assert bench.probe(three).reason is Reason.EXCEPTION
        assert bench.merge(WEIGHTED_SUM).ok
