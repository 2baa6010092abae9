"""What people read of a family: a tree up to the ancestors and one down to the descendants. Text only; no decisions are made here."""

from __future__ import annotations

from collections import deque

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text
from rich.tree import Tree

from engine.lineage import Family, Relative
from engine.records import Outcome
from engine.tables import percent, printable

_INDENT = 4  # characters a generation
_LABEL = 56  # of a relative, at most
_LEAST_DEPTH = 3

_STYLES = {Outcome.OK: "green", Outcome.FAILED: "red", Outcome.REJECTED: "red", Outcome.DUPLICATE: "yellow"}


def family_page(found: Family, asked: int | None = None) -> RenderableType:
    """Both trees, and what they leave out.

    Args:
        asked: number of the candidate that was asked for, if it need not be the one that stands for its program.
    """
    notes = _notes(found)
    if asked not in (None, found.member.number):
        notes.append(
            f"candidate {asked} is this program again; `mergewright archive show` has what that one was written from"
        )
    if not found.ancestors and not found.unknown:
        up: RenderableType = Text("No ancestors: it was written without another program before it.")
    else:
        up = _Branches("Ancestors", found, up=True)
    down = _Branches("Descendants", found, up=False) if found.descendants else Text("No descendants.")
    return Group(up, Text(), down, *(Text(note, style="dim") for note in notes))


def _notes(found: Family) -> list[str]:
    everyone = [found.member, *(one for some in (*found.ancestors, *found.descendants) for one in some)]
    notes = []
    if any(one.score is not None and not one.complete for one in everyone):
        notes.append("*: of what it was asked before the race stopped it")
    if any(one.again for one in everyone):
        notes.append("again: the same program as an earlier candidate; what was written from it is shown there")
    for more, who in ((found.more_ancestors, "ancestors"), (found.more_descendants, "descendants")):
        if more:
            notes.append(f"{more} more {who}, further off, are left out; --limit shows more")
    return notes


class _Branches:
    """One tree, as deep as the terminal has room. Who can be reached by several ways is gone into once."""

    def __init__(self, title: str, found: Family, *, up: bool) -> None:
        self._title, self._found, self._up = title, found, up
        generations = found.ancestors if up else found.descendants
        self._people = {one.number: one for some in generations for one in some}
        self._next: dict[int, list[int]] = {}
        for parent, child in found.edges:
            near, far = (child, parent) if up else (parent, child)
            if far in self._people:
                self._next.setdefault(near, []).append(far)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        depth = max(_LEAST_DEPTH, (options.max_width - _LABEL) // _INDENT)
        member = self._found.member
        root = Tree(Text.assemble((f"{self._title} of ", "bold"), _label(member)))
        met, deeper = {member.number}, False
        waiting = deque(
            [(member.number, root, 0)]
        )  # nearest first: who can be reached by several ways is shown by the shortest
        while waiting:
            number, branch, level = waiting.popleft()
            for far in self._next.get(number, ()):
                label = _label(self._people[far])
                if far in met:
                    branch.add(label.append("  (also elsewhere)"))
                    continue
                met.add(far)
                if level + 1 < depth:
                    waiting.append((far, branch.add(label), level + 1))
                else:
                    deeper |= bool(self._next.get(far))
                    branch.add(label.append("  …" if self._next.get(far) else ""))
            if self._up:
                self._unknown(member if number == member.number else self._people[number], branch)
        yield root
        if deeper:
            yield Text("…: goes on; ask for the lineage of that one, or for --json", style="dim")

    def _unknown(self, one: Relative, branch: Tree) -> None:
        for parent in one.parents:
            if parent in self._found.unknown:
                branch.add(Text(f"{printable(parent)}  not in this archive", style="dim"))


def _label(one: Relative) -> Text:
    """An id, where it lies, what became of it, and what was asked for."""
    star = "" if one.complete or one.score is None else " *"
    fate = f"{percent(one.score)} %{star}" if one.score is not None else one.outcome
    fate += f": {one.reason}" if one.reason else ""
    label = Text(printable(one.id), style="bold", no_wrap=True, overflow="ellipsis")
    label.append(f"  {one.number}, iteration {one.iteration}  ", style="not bold dim")
    label.append(printable(fate), style=f"not bold {_STYLES.get(Outcome(one.outcome), '')}".strip())
    label.append(f"  {printable(one.task)}" + (", again" if one.again else ""), style="not bold")
    return label
