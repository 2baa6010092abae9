"""Prompts carry what they should, and a program is found in whatever a model answers."""

from __future__ import annotations

import random
import textwrap
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import prompts
from engine.grammar import ProgramGrammar
from engine.prompts import END, PROGRAM_MARK, extract_program
from engine.records import Task, TaskKind
from merges.contract import CONTRACT, EXAMPLE
from sandbox import check
from tests.engine.conftest import candidate, dev_score

PROGRAM = "# Sum.\nimport torch\n\ndef merge_models(model_dict, device):\n    return sum(model_dict.values())\n"


def test_program_comes_back_from_its_own_completion() -> None:
    rng, grammar = random.Random(0), ProgramGrammar()
    for _ in range(50):
        source = grammar.sample(rng)
        assert extract_program(prompts.pocket_completion(source)) == source


@pytest.mark.parametrize(
    "text",
    [
        PROGRAM,
        PROGRAM + END + "garbage <|program|> def",
        prompts.pocket_one_shot() + PROGRAM,
        f"Sure!\n```python\n{PROGRAM}```\nThis sums.",
        f"```\nx = 1\n```\nBetter:\n```py\n{PROGRAM}```",
        f"```python\n{PROGRAM}",
        f"Here is my program:\n\n{PROGRAM}",
        PROGRAM + "\nI hope this helps you merge models!\n",
        PROGRAM.replace("\n", "\r\n"),
        f"~~~python\n{PROGRAM}~~~\nThis sums.",
        f"````\n{PROGRAM}````",
        f"1. First:\n   ```python\n{textwrap.indent(PROGRAM, '   ')}   ```\n2. Done.",
        f"```python title=merge.py\n{PROGRAM}```",
        f"{PROGRAM}```\nThis sums.",
        f"<think>\nShould I write\n```python\ndef merge_models(x): ...\n```\n?</think>\n{PROGRAM}",
        f"as the template opened it</think>\n```python\n{PROGRAM}```<|im_end|>",
        f"\ufeff{PROGRAM}</s>",
    ],
    ids=[
        "bare",
        "after-end",
        "with-prompt",
        "fenced",
        "two-fences",
        "open-fence",
        "talk-before",
        "talk-after",
        "crlf",
        "tildes",
        "long-fence",
        "in-a-list",
        "titled",
        "opened-by-the-prompt",
        "thought",
        "thought-unopened",
        "end-of-turn",
    ],
)
def test_program_is_found_in_an_answer(text: str) -> None:
    assert extract_program(text) == PROGRAM


@pytest.mark.parametrize(
    "text",
    [
        f"<think>First\n```python\nx = 1\n```</think>\n<thinking>again</thinking>\n```python\n{PROGRAM}```",
        f"```python\n{PROGRAM}```\nThat was my </think> answer.",
        f"{PROGRAM}\nIt does this:\n  - it scales\n  - it sums\n\nHope it helps.",
        f"# My program\n\nHere it comes, with a scale.\n\n{PROGRAM}",
        f"from what I know, sums are good.\n\n{PROGRAM}",
    ],
    ids=["thought-twice", "thought-ends-late", "talk-with-a-list", "heading", "prose-like-an-import"],
)
def test_a_program_is_found_among_odd_talk(text: str) -> None:
    assert extract_program(text) == PROGRAM


@pytest.mark.parametrize(
    "text", ["", "   \n", "I cannot do that.", END, f"<think>It never ends\n```python\n{PROGRAM}```"]
)
def test_no_program_is_an_empty_text(text: str) -> None:
    assert extract_program(text) == ""


def test_a_fault_inside_the_program_is_not_hidden() -> None:
    faulty = PROGRAM.replace("sum(", "sum((")
    assert extract_program(faulty) == faulty
    helper = PROGRAM + "\n\ndef helper(:\n    return 1\n"
    assert extract_program(helper) == helper


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=400))
def test_extraction_never_raises_and_ends_in_one_newline(text: str) -> None:
    found = extract_program(text)
    assert found == "" or (found.endswith("\n") and not found.endswith("\n\n"))


def test_full_prompts_show_the_contract_and_what_they_are_about() -> None:
    assert CONTRACT in prompts.one_shot()
    assert EXAMPLE.strip() in prompts.one_shot()
    assert "accuracy 41.5 %" in prompts.variant(PROGRAM, 0.415)
    assert "accuracy" not in prompts.variant(PROGRAM)
    assert prompts.crossover(PROGRAM, EXAMPLE, (0.1, None)).count("```python\n") == 2
    assert "nonfinite: NaN" in prompts.repair(PROGRAM, "nonfinite: NaN\n")


def test_a_parent_that_a_race_stopped_is_shown_without_an_accuracy() -> None:
    whole = candidate(1, 0.25)
    stopped = replace(candidate(2, 0.5), assessment=replace(whole.assessment, score=dev_score("11" + 98 * "-")))
    prompt = prompts.chat_form(Task(TaskKind.CROSSOVER, (whole, stopped)))
    assert "Program A (accuracy 25.0 %):\n" in prompt
    assert "Program B:\n" in prompt


def test_pocket_prompts_end_where_a_program_is_due() -> None:
    made = [
        prompts.pocket_one_shot(),
        prompts.pocket_plain(),
        prompts.pocket_variant(PROGRAM),
        prompts.pocket_crossover(PROGRAM, PROGRAM),
        prompts.pocket_repair(PROGRAM, "exception: boom"),
    ]
    for prompt in made:
        assert prompt.startswith(prompts.BEGIN)
        assert prompt.endswith(PROGRAM_MARK + "\n")


def test_pocket_repair_holds_one_short_line_of_reason() -> None:
    prompt = prompts.pocket_repair(
        PROGRAM, "exception: tensor 'model.norm.weight': NameError:\nname 'x' is not defined" + " again" * 99
    )
    line = prompt.split("\n")[0].removeprefix(prompts.BEGIN + prompts.FAILED_MARK)
    assert line.startswith("exception: NameError: name 'x' is not defined again")
    assert len(line) <= prompts.MAX_REASON_CHARACTERS


def test_the_pocket_example_is_a_program_under_the_contract() -> None:
    assert check(prompts.POCKET_EXAMPLE).ok
