"""From a proposed program to a scored one: what is paid for, what is tried again, and what stays a reason."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks import score
from engine.assess import assess_all
from engine.bench import Bench, Scored, expert_names
from engine.config import CampaignConfig
from engine.config_file import build_config
from engine.descriptors import NUMBERS, SKETCH_NUMBERS, Descriptors
from engine.errors import Interrupted
from engine.known import Known
from engine.records import Assessment, Candidate, Outcome
from engine.stages import Stages
from engine.triage import screened
from sandbox import ExecutionResult, Isolation, Reason
from tests.benchmarks.made import Answering, Remembered, suite
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
        self.sketches: dict[str, tuple[float, ...]] = {}
        self.config, self.dev, self.stages = build_config({}), suite(4), Stages()

    def probe(self, source: str) -> ExecutionResult:
        self.calls["probe"] += 1
        return self.probes[source].pop(0)

    def describe(self, source: str, answer: ExecutionResult) -> Descriptors:
        assert answer.ok
        self.calls["describe"] += 1
        sketch = self.sketches.get(source, (1.0,) * SKETCH_NUMBERS)
        return Descriptors(dict.fromkeys(NUMBERS, 0.25), (0.5,), (source,), sketch)

    def merge(self, source: str) -> ExecutionResult:
        self.calls["merge"] += 1
        return self.merges[source].pop(0)

    def score_merge(self, result: ExecutionResult, **options: Any) -> Scored:
        self.calls["score"] += 1
        return Scored(dev_score(), 0.1)


def proposed(number: int) -> Candidate:
    """A candidate whose source is named by its number."""
    row = candidate(number, None)
    return replace(row, program=replace(row.program, source=f"p{number}"), assessment=Assessment(Outcome.PENDING))


def assessed(bench: CountingBench, count: int, known: Known | None = None) -> list[Assessment]:
    """Assess candidates p1 … on the stand-in."""
    rows = [proposed(number) for number in range(1, count + 1)]
    return [assessment for _, assessment in assess_all(bench, iter(rows), known or Known())]  # type: ignore[arg-type]


def test_a_program_that_behaves_like_an_earlier_one_is_paid_no_merge_and_no_score() -> None:
    bench = CountingBench({"p1": [gave(1)], "p2": [gave(1)], "p3": [gave(2)]}, {"p1": [gave(5)], "p3": [gave(6)]})
    outcomes = assessed(bench, 3)
    assert [a.outcome for a in outcomes] == [Outcome.OK, Outcome.DUPLICATE, Outcome.OK]
    assert outcomes[1].duplicate_of == proposed(1).program.id
    assert outcomes[1].sha256 is None
    assert bench.calls == {"probe": 3, "describe": 2, "merge": 2, "score": 2}
    assert [a.descriptors and a.descriptors.operations for a in outcomes] == [("p1",), None, ("p3",)]


def test_a_program_that_does_nearly_the_same_is_paid_no_score_and_says_how_near_it_is() -> None:
    probes = {f"p{n}": [gave(n)] for n in (1, 2, 3)}
    bench = CountingBench(probes, {"p1": [gave(5)], "p3": [gave(6)]})
    sketches = {"p1": 1.0, "p2": 1.01, "p3": 2.0}
    bench.sketches = {name: (value,) * SKETCH_NUMBERS for name, value in sketches.items()}
    first, near, far = assessed(bench, 3, Known(novelty=0.1))
    assert [first.outcome, near.outcome, far.outcome] == [Outcome.OK, Outcome.DUPLICATE, Outcome.OK]
    assert near.duplicate_of == proposed(1).program.id
    assert near.detail == "nearly the same: distance 0.0099"
    assert near.descriptors is None
    assert bench.calls["score"] == 2


def test_a_program_of_an_earlier_session_is_known() -> None:
    bench = CountingBench({"p1": [gave(1)]}, {"p1": [gave(5)]})
    (first,) = assessed(bench, 1)
    known = Known([replace(candidate(9, 0.5), assessment=first)])
    again = CountingBench({"p1": [gave(1)]}, {})
    assert assessed(again, 1, known)[0].duplicate_of == candidate(9, 0.5).program.id


def test_what_behaves_like_a_program_that_failed_on_the_real_tensors_failed_too() -> None:
    def probes() -> dict[str, list[ExecutionResult]]:
        return {name: [gave(1)] for name in ("p1", "p2", "p3")}

    bench = CountingBench(probes(), {"p1": [failed(Reason.NONFINITE)]})
    first, second, third = assessed(bench, 3)
    for later in (second, third):
        assert (later.outcome, later.reason) == (Outcome.FAILED, "nonfinite")
        assert later.duplicate_of == proposed(1).program.id
        assert later.detail == f"as {proposed(1).program.id}, which behaves the same: {first.detail}"
        assert later.descriptors is None
    assert bench.calls == {"probe": 3, "describe": 1, "merge": 1}
    # and the same after the first, or the second, in another process
    earlier = [replace(proposed(n), assessment=a) for n, a in ((1, first), (2, second))]
    for done in (1, 2):
        again = CountingBench(probes(), {})
        rest = assess_all(again, (proposed(n) for n in range(done + 1, 4)), Known(earlier[:done]))  # type: ignore[arg-type]
        assert [a for _, a in rest] == [second, third][done - 1 :]


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (Reason.TIMEOUT, Outcome.FAILED),
        (Reason.EXCEPTION, Outcome.FAILED),
        (Reason.MEMORY, Outcome.FAILED),
        (Reason.POLICY, Outcome.REJECTED),
        (Reason.SYNTAX, Outcome.REJECTED),
    ],
)
def test_a_fault_is_a_value_with_a_reason_and_never_a_score(reason: Reason, outcome: Outcome) -> None:
    bench = CountingBench({"p1": [failed(reason)] * 2}, {})
    (assessment,) = assessed(bench, 1)
    assert (assessment.outcome, assessment.reason, assessment.line) == (outcome, reason.value, 3)
    assert assessment.score is None
    assert bench.calls == {"probe": 1}


def test_a_fault_of_the_host_is_an_exception() -> None:
    class Broken(CountingBench):
        def merge(self, source: str) -> ExecutionResult:
            raise OSError("no memory")

    with pytest.raises(OSError, match="no memory"):
        assessed(Broken({"p1": [gave(1)]}, {}), 1)


def test_names_of_experts_are_unique() -> None:
    assert expert_names(("x/a_2", "y/a", "z/a", "w/a")) == ("a_2", "a", "a_3", "a_4")


@pytest.mark.parametrize("slow", [1, 2])
def test_a_time_out_is_tried_once_more_and_no_oftener(
    two_experts: CampaignConfig, monkeypatch: pytest.MonkeyPatch, slow: int
) -> None:
    with Bench(two_experts) as bench:
        for run in (bench.probe, bench.merge):
            answers = [failed(Reason.TIMEOUT)] * slow + [gave(1)]
            monkeypatch.setattr(bench.sandbox, "execute", lambda *_, answers=answers: answers.pop(0))
            assert run(WEIGHTED_SUM).ok == (slow == 1)
            assert len(answers) == slow - 1


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


def judged_batch(values: list[float | None]) -> list[Candidate]:
    """One batch of programs p1, p2 … by a trained generator that has judged them."""
    rows = [proposed(number) for number in range(1, len(values) + 1)]
    return [
        replace(
            row,
            program=replace(
                row.program, generator="1", judged=value, sampling=replace(row.program.sampling, row=row.number - 1)
            ),
        )
        for row, value in zip(rows, values, strict=True)
    ]


TRIAGED = {
    "learn": {"method": "self-rewarding"},
    "judge": {"triage": 0.5},
    "generator": {"batch": 6},
    "campaign": {"programs": 6},
}
JUDGED = [1.0, 4.0, None, 4.0, 5.0, 2.0]


def triage_bench() -> CountingBench:
    """p5, judged best, fails; of the five that work the three judged best are p2, p4 and p6."""
    probes = {f"p{i}": [gave(float(i))] for i in range(1, 7)} | {"p5": [failed(Reason.EXCEPTION)]}
    bench = CountingBench(probes, {f"p{i}": [gave(float(i))] for i in range(1, 7)})
    bench.config = build_config(TRIAGED)
    return bench


def test_the_triage_pays_a_merge_and_a_score_for_the_judged_best_that_work() -> None:
    bench = triage_bench()
    fates = list(assess_all(bench, iter(judged_batch(JUDGED)), Known()))  # type: ignore[arg-type]
    assert [c.number for c, _ in fates] == [1, 2, 3, 4, 5, 6]
    assert [a.outcome.value for _, a in fates] == ["skipped", "ok", "skipped", "ok", "failed", "ok"]
    assert bench.calls == {"probe": 6, "describe": 5, "merge": 3, "score": 3}
    assert all((a.score is not None) == (a.outcome is Outcome.OK) for _, a in fates)
    assert fates[0][1].behaviour is not None


def assert_ends_alike(
    made: Callable[[], CountingBench], rows: list[Candidate], novelty: float = 0.0
) -> list[Assessment]:
    """The fates of these rows, the same wherever the run is broken off."""
    whole = list(assess_all(made(), iter(rows), Known(novelty=novelty)))  # type: ignore[arg-type]
    for done in range(1, len(rows)):
        earlier = [replace(c, assessment=a) for c, a in whole[:done]]
        rest = assess_all(made(), iter(rows[done:]), Known(earlier, novelty), earlier)  # type: ignore[arg-type]
        assert list(rest) == whole[done:], f"broken off after {done}"
    return [a for _, a in whole]


def test_a_resumed_triage_chooses_the_same() -> None:
    assert_ends_alike(triage_bench, judged_batch(JUDGED))


def foretold_iteration(before: int) -> tuple[Callable[[], CountingBench], list[Candidate], list[Candidate]]:
    """A second iteration of one batch, p1 to p6, and `before` scored programs: the nearer a sketch is to 10, the higher they scored."""
    sketches = {"p1": 2.0, "p2": 9.0, "p3": 5.0, "p4": 4.0, "p5": 10.0, "p6": 8.0}

    def made() -> CountingBench:
        probes = {name: [gave(at)] for at, name in enumerate(sketches)} | {"p5": [failed(Reason.EXCEPTION)]}
        bench = CountingBench(probes, {name: [gave(at)] for at, name in enumerate(sketches)})
        bench.sketches = {name: (value,) * SKETCH_NUMBERS for name, value in sketches.items()}
        bench.config = build_config(
            {
                "explore": {"screen": 0.5, "screen_after": 10},
                "generator": {"batch": 6},
                "campaign": {"programs": 6},
                "learn": {"method": "none"},
            }
        )
        return bench

    earlier = []
    for number in range(101, 101 + before):
        one = candidate(number, (number % 10 + 1) / 20)
        does = Descriptors({}, (), (), (number % 10 + 1.0,) * SKETCH_NUMBERS)
        earlier.append(replace(one, assessment=replace(one.assessment, descriptors=does)))
    batch = [replace(c, iteration=2) for c in judged_batch([None] * 6)]
    return made, earlier, batch


def test_the_screen_pays_a_merge_and_a_score_for_what_programs_that_do_alike_make_one_expect_most_of() -> None:
    made, earlier, batch = foretold_iteration(before=20)
    bench = made()
    whole = list(assess_all(bench, iter(batch), Known(earlier), earlier))  # type: ignore[arg-type]
    assert [a.outcome.value for _, a in whole] == ["skipped", "ok", "ok", "skipped", "failed", "ok"]
    assert bench.calls == {"probe": 6, "describe": 5, "merge": 3, "score": 3}
    details = [a.detail for _, a in whole if a.outcome is Outcome.SKIPPED]
    assert all(
        re.fullmatch(r"foretold \d+\.\d % by programs that do alike: not among the first 3 of 5", d) for d in details
    )
    ((iteration, (skill, count)),) = screened([*earlier, *(replace(c, assessment=a) for c, a in whole)]).items()
    assert (iteration, skill.programs, count) == (2, 3, 2)
    for done in range(1, 6):  # broken off
        there = [*earlier, *(replace(c, assessment=a) for c, a in whole[:done])]
        assert list(assess_all(made(), iter(batch[done:]), Known(there), there)) == whole[done:]  # type: ignore[arg-type]


@pytest.mark.parametrize(("before", "iteration"), [(9, 2), (20, 1)])
def test_nothing_is_screened_while_too_little_is_known(before: int, iteration: int) -> None:
    made, earlier, batch = foretold_iteration(before)
    rows = [replace(c, iteration=iteration) for c in batch]
    fates = [a.outcome.value for _, a in assess_all(made(), iter(rows), Known(earlier), earlier)]  # type: ignore[arg-type]
    assert fates == ["ok", "ok", "ok", "ok", "failed", "ok"]


def test_a_program_that_fails_on_the_real_tensors_keeps_its_place_in_a_resumed_triage() -> None:
    def made() -> CountingBench:
        bench = CountingBench(
            {f"p{i}": [gave(i)] for i in range(1, 5)}, {"p1": [failed(Reason.NONFINITE)], "p2": [gave(2)]}
        )
        bench.config = build_config({**TRIAGED, "generator": {"batch": 4}, "campaign": {"programs": 4}})
        return bench

    fates = assert_ends_alike(made, judged_batch([5.0, 4.0, 3.0, 2.0]))
    assert [a.outcome.value for a in fates] == ["failed", "ok", "skipped", "skipped"]


def test_what_the_triage_passed_over_may_be_scored_in_a_later_batch() -> None:
    """Two batches of three; p4 does what p1 did, p5 what p2 did, and p3 repeats p1 in its own batch."""

    def bench() -> CountingBench:
        values = {"p1": 1.0, "p2": 2.0, "p3": 1.0, "p4": 1.0, "p5": 2.0, "p6": 3.0}
        one = CountingBench({n: [gave(v)] for n, v in values.items()}, {n: [gave(v)] for n, v in values.items()})
        one.config = build_config({**TRIAGED, "generator": {"batch": 3}})
        return one

    rows = [
        replace(c, program=replace(c.program, sampling=replace(c.program.sampling, batch=i // 3, row=i % 3)))
        for i, c in enumerate(judged_batch([1.0, 5.0, 1.0, 5.0, 5.0, 1.0]))
    ]
    fates = assert_ends_alike(bench, rows)
    assert [a.outcome.value for a in fates] == ["skipped", "ok", "duplicate", "ok", "duplicate", "skipped"]
    assert fates[4].duplicate_of == rows[1].program.id


@pytest.mark.parametrize("triage", [0.5, 1.0])
def test_what_is_only_near_to_a_program_that_failed_on_the_real_tensors_has_not_failed(triage: float) -> None:
    """Two batches of three; p1 fails, p2 is near it, and p3 and p4 are p2's text again."""

    def made() -> CountingBench:
        probes = {"p1": [gave(1)], "p2": [gave(2)] * 3, "p5": [gave(5)], "p6": [gave(6)]}
        merges = {**{name: [gave(9)] for name in probes}, "p1": [failed(Reason.NONFINITE)]}
        bench = CountingBench(probes, merges)
        bench.sketches = {
            name: (value,) * SKETCH_NUMBERS for name, value in zip(probes, (1.0, 1.01, 2.0, 3.0), strict=True)
        }
        settings = {**TRIAGED, "judge": {"triage": triage}, "generator": {"batch": 3}}
        bench.config = build_config(settings)
        return bench

    rows = judged_batch([5.0, 4.0, 3.0, 5.0, 4.0, 1.0])
    same = {"source": "p2", "id": rows[1].program.id}
    rows = [
        replace(
            c,
            program=replace(
                c.program,
                sampling=replace(c.program.sampling, batch=at // 3, row=at % 3),
                **(same if c.number in (3, 4) else {}),
            ),
        )
        for at, c in enumerate(rows)
    ]
    fates = assert_ends_alike(made, rows, novelty=0.1)
    outcomes = [a.outcome.value for a in fates]
    if triage < 1.0:  # near when the batch was probed; in the next batch p1 is nobody's neighbour
        assert outcomes == ["failed", "duplicate", "duplicate", "ok", "ok", "skipped"]
        assert {a.detail for a in fates[1:3]} == {"nearly the same: distance 0.0099"}
        assert {a.duplicate_of for a in fates[1:3]} == {rows[0].program.id}
    else:  # p1 has failed before p2 is looked at
        assert outcomes == ["failed", "ok", "duplicate", "duplicate", "ok", "ok"]
        assert {a.duplicate_of for a in fates[2:4]} == {rows[1].program.id}


def test_what_an_untrained_generator_writes_is_not_triaged() -> None:
    rows = [replace(c, program=replace(c.program, generator="0", judged=None)) for c in judged_batch(JUDGED)]
    fates = assess_all(triage_bench(), iter(rows), Known())  # type: ignore[arg-type]
    assert [a.outcome.value for _, a in fates] == ["ok", "ok", "ok", "ok", "failed", "ok"]


class ScoringBench(CountingBench):
    """Programs p1 … each behave in their own way, and answer the dev suite by the bits given; every question is noted."""

    def __init__(self, lines: list[str], **settings: Any) -> None:
        names = [f"p{number}" for number in range(1, len(lines) + 1)]
        many = len(lines) * 4
        probes = {name: [gave(at)] * many for at, name in enumerate(names)}
        merges = {name: [gave(at)] * many for at, name in enumerate(names)}
        super().__init__(probes, merges)
        self.config = build_config(
            {
                "campaign": {"finalists": 2, "programs": len(lines)},
                "learn": {"chosen_floor": 1, "elite": 1},
                "benchmark": settings,
            }
        )
        self.dev = suite(len(lines[0]), seed=5, block=len(lines[0]) // 4)
        self.names = {merges[name][0].sha256: name for name in names}
        self.lines, self.asked = dict(zip(names, lines, strict=True)), Counter[str]()
        self.memory: dict[str, Remembered] = {}

    def score_merge(self, result: ExecutionResult, **options: Any) -> Scored:
        name = self.names[result.sha256]
        evaluator = Answering(self.dev, self.lines[name])
        memory = self.memory.setdefault(name, Remembered())
        found = score(evaluator, self.dev, judged=memory, **options)
        self.asked[name] += len(evaluator.asked)
        return Scored(found, 0.1)


def line(right: int, of: int = 80) -> str:
    """So many right answers, spread evenly."""
    return "".join("1" if (at * right) // of != ((at + 1) * right) // of else "0" for at in range(of))


SHARES = [60, 56, 4, 58, 0, 64, 30, 2, 66, 50]


@pytest.mark.parametrize("racing", ["sequential", "halving", "none"])
def test_the_best_are_asked_everything_and_the_worst_little(racing: str) -> None:
    bench = ScoringBench([line(right) for right in SHARES], racing=racing)
    found = assessed(bench, len(SHARES))
    complete = {number for number, a in enumerate(found) if a.score and a.score.complete}
    assert {5, 8} <= complete, "the two best"
    assert all(a.outcome is Outcome.OK and a.score for a in found)
    asked = [bench.asked[f"p{number}"] for number in range(1, len(SHARES) + 1)]
    assert asked == [a.score.n for a in found if a.score], "nothing was asked twice"
    if racing == "none":
        assert asked == [80] * len(SHARES)
    else:
        assert asked[4] == asked[7] == 20
        assert sum(asked) < 0.8 * 80 * len(SHARES)


def test_a_resumed_race_ends_as_an_unbroken_one() -> None:
    lines = [line(right) for right in SHARES]
    whole = assessed(ScoringBench(lines), len(SHARES))
    rows = [proposed(number) for number in range(1, len(SHARES) + 1)]
    for done in (1, 4, 7):
        earlier = [replace(row, assessment=a) for row, a in zip(rows, whole, strict=False)][:done]
        rest = assess_all(ScoringBench(lines), iter(rows[done:]), Known(earlier), earlier)  # type: ignore[arg-type]
        assert [a for _, a in rest] == whole[done:]


def test_halving_is_told_whole_and_asks_nothing_twice_when_it_is_told_again() -> None:
    lines = [line(right) for right in SHARES]
    whole = assessed(ScoringBench(lines, racing="halving"), len(SHARES))
    again = ScoringBench(lines, racing="halving")
    broken = assess_all(again, (proposed(n) for n in range(1, 11)), Known())  # type: ignore[arg-type]
    next(broken)
    broken.close()
    again.asked.clear()
    assert [a.score for a in assessed(again, len(SHARES))] == [a.score for a in whole]
    assert sum(again.asked.values()) == 0


def test_halving_may_be_stopped_before_any_fate_is_told() -> None:
    bench, seen = ScoringBench([line(right) for right in SHARES], racing="halving"), Counter[str]()

    def check() -> None:
        seen["checked"] += 1
        if seen["checked"] == 3:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted, match="stopped"):
        next(assess_all(bench, (proposed(n) for n in range(1, 11)), Known(), check=check))  # type: ignore[arg-type]
    assert sum(bench.asked.values()) == 2 * 20


def test_a_later_iteration_races_for_the_runs_places_and_for_its_own() -> None:
    bench = ScoringBench([line(right) for right in (64, 60, 40, 38, 20)])
    first = [replace(proposed(number), iteration=1) for number in (1, 2)]
    second = [replace(proposed(number), iteration=2) for number in (3, 4, 5)]
    done = [replace(c, assessment=a) for c, a in assess_all(bench, iter(first), Known())]  # type: ignore[arg-type]
    found = [a.score for _, a in assess_all(bench, iter(second), Known(done), done)]  # type: ignore[arg-type]
    assert found[0]
    assert found[0].complete, "no place of the run, but the first of its iteration: it is learnt from"
    assert found[2]
    assert not found[2].complete


def test_the_sandbox_runs_the_next_program_while_one_is_scored() -> None:
    class Watching(ScoringBench):
        second = threading.Event()

        def probe(self, source: str) -> ExecutionResult:
            if source == "p2":
                self.second.set()
            return super().probe(source)

        def score_merge(self, result: ExecutionResult, **options: Any) -> Scored:
            assert self.second.wait(20), "the first program is scored, and the second one does not begin"
            return super().score_merge(result, **options)

    assert len(assessed(Watching([line(right) for right in (10, 20, 30)]), 3)) == 3
