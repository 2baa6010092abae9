"""The generator writes its own prompts: shown a menu of measured programs, it names the parents and a hint, and that is the next task.

Read strictly; an answer that cannot be read asks for a program by the fixed prompt.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from engine import prompts
from engine.generators import Forms, Writer
from engine.ranking import scored_best_first
from engine.records import Candidate, Sampling, Task, TaskKind

MENU = 6
"""Programs of a menu; their numbers are one digit."""
MAX_TOKENS = 60

_POCKET = re.compile(rf"([1-{MENU}])(?: ([1-{MENU}]))?\n# (.+)")
_CHAT = re.compile(rf"Parents: ([1-{MENU}])(?:, ([1-{MENU}]))?\nHint: (.+)")


def drawn_menu(candidates: Sequence[Candidate], rng: random.Random) -> list[Candidate]:
    """Some of the scored programs, in any order; fewer than MENU where there are not so many."""
    scored = scored_best_first(candidates)
    return rng.sample(scored, min(MENU, len(scored)))


def request(menu: Sequence[Candidate], forms: Forms) -> str:
    """The prompt that asks for a prompt."""
    ideas = [idea(candidate.program.source) for candidate in menu]
    if forms.form == "pocket":
        return prompts.pocket_menu(ideas)
    return forms.chat(prompts.menu(ideas, [prompts.accuracy(candidate) for candidate in menu]))


def good_answer(menu: Sequence[Candidate], hint: str, form: str) -> str:
    """What ought to be answered: the two best of the menu, and a hint taken from a good program."""
    best = [menu.index(candidate) + 1 for candidate in scored_best_first(menu)[:2]]
    if form == "pocket":
        return f"{' '.join(map(str, best))}\n# {hint}"
    return f"Parents: {', '.join(map(str, best))}\nHint: {hint}"


def read_task(text: str, menu: Sequence[Candidate], form: str) -> Task | None:
    """The task that an answer asks for; None where it cannot be read, or names a program that is not on the menu."""
    found = (_POCKET if form == "pocket" else _CHAT).fullmatch(text.strip())
    if found is None:
        return None
    numbers = [int(number) for number in found.groups()[:2] if number]
    if max(numbers) > len(menu) or len(set(numbers)) < len(numbers):
        return None
    shown = tuple(menu[number - 1] for number in numbers)
    return Task(TaskKind.VARIANT if len(shown) == 1 else TaskKind.CROSSOVER, shown, found.group(3).strip())


def own_tasks(generator: Writer, menus: Sequence[Sequence[Candidate]], places: Sequence[Sampling]) -> list[Task | None]:
    """The task that the generator sets itself for each menu; None where its answer cannot be read."""
    asked = [request(menu, generator.forms) for menu in menus]
    texts = generator.complete(asked, places, max_new_tokens=MAX_TOKENS)
    return [read_task(text, menu, generator.forms.form) for text, menu in zip(texts, menus, strict=True)]


def idea(source: str) -> str:
    """What a program says of itself: its first comment, without the mark; empty where it says nothing."""
    first = next((line.strip() for line in source.splitlines() if line.strip()), "")
    return first.lstrip("# ").strip() if first.startswith("#") else ""
