"""Prompts: what a generator is shown, short for the pocket generator and in full for chat models, and how a program is
found in what it answers.

The pocket forms are part of the pocket generator (it was pre-trained on them): changing one means `make pocket`. Scores are
shown to chat models only; the pocket generator's corpus knows nothing of scores, so a number would mean nothing to it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from markdown_it import MarkdownIt

from engine.records import Candidate, Task, TaskKind
from merges.contract import CONTRACT, EXAMPLE
from sandbox import parse

BEGIN = "<|begin|>"
END = "<|end|>"
PAD = "<|pad|>"
CONTRACT_MARK = "<|contract|>"
PROGRAM_MARK = "<|program|>"
PARENT_MARK = "<|parent|>"
FAILED_MARK = "<|failed|>"
SPECIAL_TOKENS = (PAD, BEGIN, END, CONTRACT_MARK, PROGRAM_MARK, PARENT_MARK, FAILED_MARK)

MOST_STARTS = 20  # lines at which a program is looked for, in a text without fences
MAX_REASON_CHARACTERS = 100  # of a failure's text in the pocket form

POCKET_CONTRACT = """\
merge_models(model_dict, device): task vectors of one tensor in, the merged one out.
Also by name: name, depth, base, rng. Numbers after * are hyper-parameters."""
POCKET_EXAMPLE = """\
# Plain weighted sum.
import torch

def merge_models(model_dict, device, *, scale=0.4):
    merged = 0
    for v in model_dict.values():
        merged = merged + scale * v
    return merged"""

_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL)  # not ended: there is no answer
_THOUGHT_ENDS = re.compile(r"</think(?:ing)?>")
_PLACE = re.compile(r"tensor '[^']*': |SyntaxError: ")  # parts of a detail that the corpus leaves out
_MARKS = re.compile(r"<\|[a-z_]+\|>|</s>")  # ours, and those that chat models end a turn with
_DEFINED = "def merge_models"
_START = re.compile(r"^(?:#|import |from |def |class |@|[A-Z_]+ *=|\"\"\")")


# The pocket forms: prompt + program + END is one document of the corpus.


def pocket_one_shot() -> str:
    """The fixed prompt: contract in brief, one example, and the marker after which a program is due."""
    return f"{BEGIN}{CONTRACT_MARK}{POCKET_CONTRACT}\n{PROGRAM_MARK}\n{POCKET_EXAMPLE}{END}{PROGRAM_MARK}\n"


def pocket_plain() -> str:
    """No example: a program from nothing."""
    return f"{BEGIN}{PROGRAM_MARK}\n"


def pocket_variant(parent: str) -> str:
    """A parent; its variant is due."""
    return f"{BEGIN}{PARENT_MARK}\n{parent.strip()}{PROGRAM_MARK}\n"


def pocket_crossover(first: str, second: str) -> str:
    """Two parents; a child of both is due."""
    return f"{BEGIN}{PARENT_MARK}\n{first.strip()}{PARENT_MARK}\n{second.strip()}{PROGRAM_MARK}\n"


def pocket_repair(failed: str, reason: str) -> str:
    """A program that failed, with `"<reason>: <detail>"` of the sandbox; the mended program is due."""
    line = " ".join(_PLACE.sub("", reason).split())[:MAX_REASON_CHARACTERS]
    return f"{BEGIN}{FAILED_MARK}{line}\n{failed.strip()}{PROGRAM_MARK}\n"


def pocket_hint(hint: str | None) -> str:
    """The first line of the program that is due, which states its idea; nothing without a hint."""
    return f"# {' '.join(hint.split())}\n" if hint else ""


def pocket_form(task: Task) -> str:
    """A task as the pocket generator knows it; a hint is the beginning of the program."""
    sources = [candidate.program.source for candidate in task.shown]
    if task.kind is TaskKind.ONE_SHOT:
        form = pocket_one_shot()
    elif task.kind is TaskKind.VARIANT:
        form = pocket_variant(sources[0])
    elif task.kind is TaskKind.CROSSOVER:
        form = pocket_crossover(sources[0], sources[1])
    else:
        form = pocket_repair(sources[0], fault(task.shown[0]))
    return form + pocket_hint(task.hint)


def fault(candidate: Candidate) -> str:
    """Why a program failed, in the sandbox's words."""
    a = candidate.assessment
    return f"{a.reason}: {a.detail or ''}"


def pocket_judge(source: str) -> str:
    """A program; its points, one digit, are due. No document of the corpus has this form: only who has learnt to judge knows it."""
    return f"{BEGIN}{PARENT_MARK}\n{source.strip()}{CONTRACT_MARK}"


def pocket_menu(ideas: Sequence[str]) -> str:
    """Ideas of measured programs, numbered; the numbers of parents and a hint are due. Like the form above, it has to be learnt."""
    lines = "\n".join(f"{number} {text}" for number, text in enumerate(ideas, start=1))
    return f"{BEGIN}{CONTRACT_MARK}\n{lines}{PARENT_MARK}"


def pocket_completion(source: str) -> str:
    """What follows a pocket prompt: the program and the end mark. `extract_program` gives the program back."""
    return f"{source.strip()}{END}"


# The full forms, for models that read English.

_ANSWER = "Answer with one complete Python program in a ```python block and nothing after it. Start it with a comment that states the idea."


def one_shot() -> str:
    """Contract, the example, the task."""
    return f"{CONTRACT}\nExample:\n```python\n{EXAMPLE.strip()}\n```\nInvent a different and better way to merge. {_ANSWER}\n"


def variant(parent: str, score: float | None = None) -> str:
    """Improve one parent. `score` is its share of right answers on dev, 0..1, or None where it has none."""
    return f"{CONTRACT}\n{_shown('A program', parent, score)}\nChange it so that the merged model scores higher. {_ANSWER}\n"


def crossover(first: str, second: str, scores: Sequence[float | None] = (None, None)) -> str:
    """Combine two parents."""
    shown = f"{_shown('Program A', first, scores[0])}\n{_shown('Program B', second, scores[1])}"
    return f"{CONTRACT}\n{shown}\nWrite one program that combines what is good in both. {_ANSWER}\n"


def repair(failed: str, reason: str) -> str:
    """Mend a program that the sandbox refused or that failed there."""
    return f"{CONTRACT}\nThis program failed.\n```python\n{failed.strip()}\n```\nReason: {reason.strip()}\nMend it. {_ANSWER}\n"


def judge(source: str, criteria: Sequence[str]) -> str:
    """Judge a program by adding points, reasons first."""
    points = "\n".join(f"- {criterion}" for criterion in criteria)
    return (
        f"{CONTRACT}\nA program:\n```python\n{source.strip()}\n```\nHow good is the model that it makes? Add one point for each of these:\n{points}\n"
        f'Give a reason for each in one line, and end with a line "Score: n", where n is the sum, 0 to {len(criteria)}.\n'
    )


def menu(ideas: Sequence[str], scores: Sequence[float | None]) -> str:
    """Choose parents, and say what to try."""
    lines = "\n".join(
        f"{number}. {text or 'no comment'}" + (f" (accuracy {100 * score:.1f} %)" if score is not None else "")
        for number, (text, score) in enumerate(zip(ideas, scores, strict=True), start=1)
    )
    return (
        f"These merge programs were measured:\n{lines}\nWhich one or two should the next program start from, and what should it try? "
        'Answer with two lines and nothing else: "Parents: 2, 5" and "Hint: " with an idea in a few words.\n'
    )


def chat_form(task: Task) -> str:
    """A task in words."""
    sources = [candidate.program.source for candidate in task.shown]
    scores = [accuracy(candidate) for candidate in task.shown]
    if task.kind is TaskKind.ONE_SHOT:
        form = one_shot()
    elif task.kind is TaskKind.VARIANT:
        form = variant(sources[0], scores[0])
    elif task.kind is TaskKind.CROSSOVER:
        form = crossover(sources[0], sources[1], scores)
    else:
        form = repair(sources[0], fault(task.shown[0]))
    return f"{form}Follow this idea: {' '.join(task.hint.split())}\n" if task.hint else form


def accuracy(candidate: Candidate) -> float | None:
    """The dev share, 0..1, that a prompt shows beside a program; None where it has none, or a race stopped it: what it got of a few problems says too much."""
    return candidate.score if candidate.complete else None


def _shown(title: str, source: str, score: float | None) -> str:
    scored = f" (accuracy {100 * score:.1f} %)" if score is not None else ""
    return f"{title}{scored}:\n```python\n{source.strip()}\n```"


# From an answer back to a program.


def extract_program(text: str) -> str:
    """The program in a generator's answer, ending in one newline; empty where there is none to be seen. Never raises.

    Takes the text before the end mark, without what a model thinks first; of Markdown's fenced blocks the last that defines `merge_models`, else what
    stands before the first fence, if that does (the prompt may have opened it), else the last block; without a fence the whole. What is not a block
    begins at the first line that looks like code and is, else at the first that looks so. A model's talk after the program is cut off where that
    leaves a program that parses.
    """
    if BEGIN in text and PROGRAM_MARK in text:  # the prompt came back with the answer
        text = text.rsplit(PROGRAM_MARK, 1)[1]
    text = text.split(END)[0]
    text = _MARKS.sub("", text).replace("\r\n", "\n").replace("\x00", "").removeprefix("\ufeff")
    text = _answered(text)
    text = _fenced(text) if "```" in text or "~~~" in text else _from_code_on(text)
    text = text.strip("\n").rstrip()
    return _without_talk(text) + "\n" if text.strip() else ""


def _answered(text: str) -> str:
    """What is said after the thoughts; the prompt may have opened the first one."""
    parts = _THOUGHT_ENDS.split(_THOUGHT.sub("", text))
    return next((part for part in reversed(parts) if _DEFINED in part), parts[-1])


def _fenced(text: str) -> str:
    """The program in a text with fences."""
    fences = [token for token in MarkdownIt().parse(text) if token.type == "fence"]
    if not fences:
        return _from_code_on(text)
    assert fences[0].map is not None
    before = _from_code_on("\n".join(text.split("\n")[: fences[0].map[0]]))
    blocks = [textwrap.dedent(token.content) for token in fences]
    for block in [*reversed(blocks), before]:
        if _DEFINED in block:
            return block
    return blocks[-1]


def _from_code_on(text: str) -> str:
    lines = text.split("\n")
    starts = [i for i, line in enumerate(lines) if _START.match(line)][:MOST_STARTS]
    found = ["\n".join(lines[start:]) for start in starts]
    sound = (one for one in found if _DEFINED in one and _parses(_without_talk(one)))
    return next(sound, found[0] if found else "")


def _without_talk(text: str) -> str:
    """Without what follows the program, from the first unindented line that is no code; a fault inside the program is not ours to hide."""
    if _parses(text):
        return text
    lines = text.split("\n")
    for end, line in enumerate(lines):
        is_talk = line.strip() and line[0] not in " \t" and not _START.match(line)
        shorter = "\n".join(lines[:end]).rstrip()
        if is_talk and _DEFINED in shorter and _parses(shorter):
            return shorter
    return text


def _parses(text: str) -> bool:
    try:
        parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
