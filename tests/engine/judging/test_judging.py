"""Rubric, judgements and self-written prompts: what they deserve, how they are read, how far they agree."""

from __future__ import annotations

import io
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from engine import locations
from engine.agreement import Agreement
from engine.config import CampaignConfig, GeneratorSection
from engine.config_learning import JudgeSection
from engine.generators import Forms, LanguageModelGenerator
from engine.judging.judge import Judge, agreement, points
from engine.judging.menus import MENU, drawn_menu, good_answer, idea, own_tasks, read_task, request
from engine.judging.rubric import BEST, CRITERIA, Rubric
from engine.learning import Past, method_named
from engine.records import Candidate, Outcome, Sampling, Task, TaskKind, Trial
from engine.tables import search_report
from merges.contract import CONTRACT
from tests.engine.conftest import WEIGHTED_SUM, candidate, dev_score


def trial(name: str, kind: str, share: float) -> Trial:
    ones = round(100 * share)
    return Trial(name, kind, {}, dev_score("1" * ones + "0" * (100 - ones)))


TRIALS = [trial("seed", "seed", 0.3), trial("expert:a", "expert", 0.4), trial("expert:b", "expert", 0.5)]
MEASURED = [candidate(i, i / 100) for i in range(21, 101)] + [candidate(101, None)]


def with_idea(row: Candidate, text: str) -> Candidate:
    return replace(row, program=replace(row.program, source=f"# {text}\n{row.program.source}"))


def judged(row: Candidate, value: float | None) -> Candidate:
    return replace(row, program=replace(row.program, judged=value))


def stopped(number: int, bits: str) -> Candidate:
    """A candidate that a race stopped after these answers, of 100 problems."""
    row = candidate(number, 0.0)
    return replace(row, assessment=replace(row.assessment, score=dev_score(bits.ljust(100, "-"))))


def test_points_add_up_over_the_bands_of_measured_scores() -> None:
    rubric = Rubric.of(MEASURED, TRIALS)
    assert rubric.thresholds == (0.3, 0.5, 0.81, 0.93)
    wanted = {101: 0, 21: 1, 30: 2, 49: 2, 50: 3, 81: 4, 92: 4, 93: 5, 100: 5}
    for number, expected in wanted.items():
        assert rubric.points(next(c for c in MEASURED if c.number == number)) == expected


def test_without_a_measured_program_nobody_is_among_the_best() -> None:
    assert Rubric.of([], TRIALS).points(candidate(1, 1.0)) == 3


def test_the_best_quarter_is_one_of_all_that_were_scored_stopped_ones_too() -> None:
    whole = [candidate(i, i / 100) for i in range(61, 101)]
    measured = [*whole, *(stopped(i, "1" * 9 + "0") for i in range(101, 161)), candidate(161, None)]
    rubric = Rubric.of(measured, TRIALS)
    assert rubric.thresholds == (0.3, 0.5, 0.76, 0.91)  # places 25 and 10 of 100
    assert sum(rubric.points(c) >= 4 for c in measured) == 25
    assert sum(rubric.points(c) == 5 for c in measured) == 10


def test_a_program_stopped_in_a_race_is_never_among_the_best_whatever_it_had_shown() -> None:
    measured = [candidate(1, 0.6), *(stopped(i, "1111") for i in range(2, 21))]
    rubric = Rubric.of(measured, TRIALS)
    assert [rubric.points(c) for c in measured] == [5] + [3] * 19
    assert rubric.points(stopped(21, "01000")) == 1
    assert {Rubric.of(measured[1:], TRIALS).points(c) for c in measured} == {3}


@pytest.mark.parametrize(
    ("text", "form", "found"),
    [
        ("4", "pocket", 4),
        ("6", "pocket", None),
        ("42", "pocket", None),
        ("", "pocket", None),
        (" 4", "pocket", None),
        ("It runs. Yes.\nScore: 3", "chat", 3),
        ("Score: 3\n", "chat", 3),
        ("Score: 3\nScore: 3", "chat", None),
        ("Score: 7\nScore: 3", "chat", None),
        ("Score: 3\nNo, it fails.", "chat", None),
        ("Score: 3\nScore: 4", "chat", None),
        ("Score: 7", "chat", None),
        ("Score: 3 or so", "chat", None),
        ("score: 3", "chat", None),
        ("I would say 3.", "chat", None),
    ],
)
def test_judgements_are_read_strictly(text: str, form: str, found: int | None) -> None:
    assert points(text, form) == found


@given(st.lists(st.booleans(), min_size=len(CRITERIA), max_size=len(CRITERIA)))
def test_what_a_judge_is_taught_is_what_is_read(met: list[bool]) -> None:
    for form in ("pocket", "chat"):
        judge = Judge(Answers(form=form), JudgeSection())
        assert points(judge.verdict(met), form) == sum(met)


class Template:
    """A chat model's tokenizer, as far as its forms need one."""

    chat_template = "here"

    def apply_chat_template(self, turns: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool) -> str:
        assert (tokenize, add_generation_prompt) == (False, True)
        return "".join(f"<{turn['role']}>{turn['content']}" for turn in turns) + "<assistant>"


class Answers:
    """A generator that gives fixed answers, and remembers what it was asked."""

    def __init__(self, *texts: str, form: str = "pocket") -> None:
        self.texts, self.asked, self.forms = texts, [], Forms(Template(), form, "here")

    def complete(self, asked: list[str], places: list[Sampling], *, max_new_tokens: int) -> list[str]:
        self.asked, self.longest = list(asked), max_new_tokens
        assert len({place.seed for place in places}) == len(places)
        return [self.texts[row % len(self.texts)] for row in range(len(asked))]


def test_judgements_of_a_program_are_averaged_without_what_cannot_be_read() -> None:
    generator = Answers("5", "2", "nonsense", "?", "?", "?")
    judge = Judge(generator, JudgeSection(samples=3))
    assert judge.judge(["one", "two"], seed=1) == [3.5, None]
    assert [("one" in prompt, "two" in prompt) for prompt in generator.asked] == [(True, False)] * 3 + [
        (False, True)
    ] * 3
    assert generator.longest == 1
    assert judge.judge([], seed=1) == []


def test_a_chat_model_is_asked_to_judge_in_words_through_its_template() -> None:
    generator = Answers("It runs: yes.\nScore: 5", "Score: 2", "I cannot say.", form="chat")
    judge = Judge(generator, JudgeSection(samples=3, max_new_tokens=77))
    assert judge.judge([WEIGHTED_SUM, "two"], seed=1) == [3.5, 3.5]
    assert len(generator.asked) == 6
    for prompt in generator.asked[:3]:
        assert prompt.startswith(f"<user>{CONTRACT}")
        assert prompt.endswith(f'"Score: n", where n is the sum, 0 to {BEST}.\n<assistant>')
        assert f"```python\n{WEIGHTED_SUM.strip()}\n```" in prompt
        assert all(f"- {criterion}\n" in prompt for criterion in CRITERIA)
    assert all("```python\ntwo\n```" in prompt for prompt in generator.asked[3:])
    assert generator.longest == 77


def test_agreement_counts_ordered_pairs_and_leaves_out_equal_scores() -> None:
    rows = [
        judged(candidate(i, share), value)
        for i, (share, value) in enumerate([(0.1, 1.0), (0.2, 3.0), (0.3, 2.0), (0.3, 3.0)], 1)
    ]
    found = agreement([*rows, candidate(9, 0.9), judged(candidate(10, None), 5.0)])
    assert found.programs == 4
    assert found.pairwise == pytest.approx((1 + 1 + 1 + 0 + 0.5) / 5)
    assert found.spearman == pytest.approx(0.5, abs=0.01)


def test_agreement_of_nothing_is_no_number() -> None:
    assert agreement([]) == Agreement(0, None, None)
    assert agreement([judged(candidate(i, 0.5), 1.0) for i in (1, 2)]) == Agreement(2, None, None)


def test_the_campaigns_table_says_by_iteration_how_well_the_judge_did() -> None:
    second = [replace(judged(candidate(i, i / 10), 5.0 - i), iteration=2) for i in (1, 2, 3)]
    store = SimpleNamespace(
        candidates=lambda: [candidate(9, 0.9), *second],
        meta=lambda _: None,
        updates=dict,
        replies=list,
        phases=list,
        stages=list,
    )
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(search_report(CampaignConfig(), store))  # type: ignore[arg-type]
    printed = console.export_text()
    assert "Judge, iteration 2: 0 % of pairs in the order of the scores, Spearman -1.00 (n = 3)" in printed
    assert "Judge, iteration 1" not in printed


def test_a_program_stopped_in_a_race_says_nothing_about_the_judge() -> None:
    assert agreement([judged(stopped(1, "01"), 3.0)]).programs == 0


MENU_ROWS = [with_idea(candidate(i, i / 10), f"idea {i}") for i in range(1, MENU + 1)]


@pytest.mark.parametrize("form", ["pocket", "chat"])
def test_the_good_answer_names_the_two_best_and_is_understood(form: str) -> None:
    menu = random.Random(1).sample(MENU_ROWS, MENU)
    task = read_task(good_answer(menu, "trim more", form), menu, form)
    assert task is not None
    assert [c.number for c in task.shown] == [MENU, MENU - 1]
    assert (task.kind, task.hint) == (TaskKind.CROSSOVER, "trim more")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("", "pocket"),
        ("1", "pocket"),
        ("1 1\n# twice the same", "pocket"),
        ("7\n# not on the menu", "pocket"),
        ("1 2 3\n# three", "pocket"),
        ("1\n# an idea\nand more", "pocket"),
        ("Parents: 1 and 2\nHint: x", "chat"),
        ("Parents: 1, 2", "chat"),
        ("Hint: x\nParents: 1", "chat"),
    ],
)
def test_an_answer_that_cannot_be_read_is_no_task(text: str, form: str) -> None:
    assert read_task(text, MENU_ROWS, form) is None


def test_a_menu_shorter_than_the_number_named_is_no_task() -> None:
    assert read_task("3\n# x", MENU_ROWS[:2], "pocket") is None
    assert read_task("2\n# x", MENU_ROWS[:2], "pocket") is not None


def test_a_menu_is_of_scored_programs_alone() -> None:
    drawn = drawn_menu([*MEASURED, candidate(200, 0.5, outcome=Outcome.DUPLICATE)], random.Random(3))
    assert len(drawn) == MENU
    assert all(c.number <= 100 for c in drawn)
    assert len(drawn_menu(MEASURED[:2], random.Random(3))) == 2


def test_an_idea_is_the_first_comment() -> None:
    assert idea("\n\n#  Trim, then sum.\nimport torch\n") == "Trim, then sum."
    assert idea("import torch\n# later\n") == ""
    assert idea("") == ""


def test_self_set_tasks_are_read_one_by_one() -> None:
    generator = Answers("2\n# sum", "nonsense")
    tasks = own_tasks(generator, [MENU_ROWS, MENU_ROWS], [Sampling(1.0, 1.0, s, 0, s) for s in (1, 2)])
    assert tasks[0] is not None
    assert tasks[0].shown == (MENU_ROWS[1],)
    assert tasks[1] is None
    assert all(f"{i} idea {i}" in generator.asked[0] for i in range(1, MENU + 1))


def test_a_chat_model_sets_itself_tasks_in_words_through_its_template() -> None:
    answers = ("Parents: 2, 5\nHint: trim more ", "Parents: 3\nHint: sum", "Parents: 1, 8\nHint: no such program")
    generator = Answers(*answers, form="chat")
    menu = [candidate(1, 0.1), *MENU_ROWS[1:5], with_idea(stopped(6, "1111"), "idea 6")]
    both, one, none = own_tasks(generator, [menu] * 3, [Sampling(1.0, 1.0, s, 0, s) for s in (1, 2, 3)])
    assert both == Task(TaskKind.CROSSOVER, (menu[1], menu[4]), "trim more")
    assert one == Task(TaskKind.VARIANT, (menu[2],), "sum")
    assert none is None
    (prompt,) = set(generator.asked)
    assert prompt.startswith("<user>")
    assert prompt.endswith('"Hint: " with an idea in a few words.\n<assistant>')
    lines = prompt.splitlines()[1:7]
    assert lines[:2] == ["1. no comment (accuracy 10.0 %)", "2. idea 2 (accuracy 20.0 %)"]
    assert lines[5] == "6. idea 6", "what a race stopped has no share of all problems to show"
    # and what the model asked itself for is a prompt of words again
    drafts = generator.forms.written([both], lambda asked: ["```python\n" + WEIGHTED_SUM + "```"])
    assert drafts[0].source == WEIGHTED_SUM.lstrip()
    assert drafts[0].parents == tuple(c.program.id for c in both.shown)
    assert "Follow this idea: trim more\n" in drafts[0].prompt


@pytest.fixture(scope="module")
def writer() -> LanguageModelGenerator:
    return LanguageModelGenerator(locations.model("pocket/generator"), GeneratorSection(max_new_tokens=60))


def test_the_first_lesson_is_what_was_measured_and_the_second_what_it_judged_itself(
    writer: LanguageModelGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter(range(10**6))
    monkeypatch.setattr(Judge, "judge", lambda self, sources, seed: [float(next(values) % 5) for _ in sources])
    measured = [with_idea(c, f"idea {c.number}") for c in MEASURED[60:]]
    config = CampaignConfig(judge=JudgeSection(prompts=3, candidates=4))
    past = Past({1: measured}, "fixed", trials=TRIALS, seed=5)
    first, second = method_named("self-rewarding").lessons(past, config, writer)
    texts = {row["completion"] for row in [*first.rows, *first.held_out]}
    assert {"0", "3", "4", str(BEST)} <= texts  # judgements
    assert any(text.startswith("6 ") or "\n# idea" in text for text in texts)  # menus
    assert any("merge_models" in text for text in texts)  # programs
    assert first.record["judging"] == len(measured)
    assert sum(first.record["deserved"].values()) == len(measured)
    assert (second.record["own_tasks"], second.record["own_programs"]) == (3, 12)
    assert second.record["own_pairs"] == len(second.rows) == 3
    assert (first.compares, second.compares) == (False, True)


def test_where_all_are_judged_alike_there_is_no_pair(
    writer: LanguageModelGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Judge, "judge", lambda self, sources, seed: [2.0] * len(sources))
    config = CampaignConfig(judge=JudgeSection(prompts=2, candidates=2))
    _, second = method_named("self-rewarding").lessons(Past({1: MEASURED}, "fixed", trials=TRIALS), config, writer)
    assert list(second.rows) == []


def test_with_too_little_measured_there_is_no_lesson(writer: LanguageModelGenerator) -> None:
    for rows in (MEASURED[:3], [candidate(i, None) for i in range(1, 20)]):
        assert list(method_named("self-rewarding").lessons(Past({1: rows}, "fixed"), CampaignConfig(), writer)) == []


def test_the_request_for_a_prompt_lists_the_ideas(writer: LanguageModelGenerator) -> None:
    assert "3 idea 3" in request(MENU_ROWS, writer.forms)
