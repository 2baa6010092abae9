"""Families: whom a program comes from and what came of it, as a plain look at every candidate finds them."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from sqlalchemy import event

from engine.lineage import Family, Relative, family, related
from engine.lineage_page import family_page
from engine.records import Assessment, Candidate, Outcome
from engine.search import Query
from engine.store import Store
from tests.engine.conftest import candidate


def name(number: int) -> str:
    return f"{number:012x}"


def archive(folder: Path, people: Sequence[tuple[int, Sequence[int], Outcome]]) -> tuple[Store, list[Candidate]]:
    """An archive of (program, its parents, outcome), in this order."""
    folder.mkdir(exist_ok=True)
    store, everyone = Store.in_folder(folder, create=True), []
    for number, (program, parents, outcome) in enumerate(people, start=1):
        one = candidate(number, 0.5 if outcome is Outcome.OK else None, outcome=outcome)
        kin = replace(one.program, id=name(program), parents=tuple(map(name, parents)), task="variant")
        everyone.append(replace(one, program=kin))
    store.take_over(everyone)
    return store, everyone


def stands(everyone: Sequence[Candidate], program: str) -> Candidate | None:
    """The oracle's: the first with a score, else the first."""
    same = [c for c in everyone if c.program.id == program]
    return min(same, key=lambda c: (c.assessment.outcome is not Outcome.OK, c.number), default=None)


def walked(everyone: Sequence[Candidate], program: str, step: Callable[[Candidate], list[Candidate]]) -> list[set[int]]:
    """Generations by a plain look at everyone, the nearest first."""
    start = stands(everyone, program)
    assert start
    met, last, generations = {start.number}, [start], []
    while last := list({c.number: c for one in last for c in step(one) if c.number not in met}.values()):
        met |= {c.number for c in last}
        generations.append({c.number for c in last})
    return generations


def looked_through(everyone: Sequence[Candidate], program: str) -> tuple[list[set[int]], list[set[int]]]:
    def before(one: Candidate) -> list[Candidate]:
        return [c for parent in one.program.parents if (c := stands(everyone, parent))]

    def after(one: Candidate) -> list[Candidate]:
        is_parent = stands(everyone, one.program.id) == one
        return [c for c in everyone if is_parent and one.program.id in c.program.parents]

    return walked(everyone, program, before), walked(everyone, program, after)


FATES = st.sampled_from([Outcome.OK, Outcome.OK, Outcome.FAILED, Outcome.DUPLICATE, Outcome.SKIPPED])
PEOPLE = st.lists(
    st.tuples(st.integers(1, 9), st.lists(st.integers(1, 10), max_size=2), FATES), min_size=1, max_size=14
)


@settings(max_examples=150, deadline=None)
@given(people=PEOPLE)
def test_a_family_is_what_a_look_at_everyone_finds_circles_and_all(
    tmp_path_factory: pytest.TempPathFactory, people: list[tuple[int, list[int], Outcome]]
) -> None:
    store, everyone = archive(tmp_path_factory.mktemp("family"), people)
    for program in {c.program.id for c in everyone}:
        found, (up, down) = family(store, program), looked_through(everyone, program)
        assert found
        assert [{one.number for one in some} for some in found.ancestors] == up
        assert [{one.number for one in some} for some in found.descendants] == down
        assert (found.more_ancestors, found.more_descendants) == (0, 0)
        for query, generations in (("ancestors_of", up), ("descendants_of", down)):
            listed, count = store.find(Query(**{query: program}, sort="number"))  # type: ignore[arg-type]
            assert [c.number for c in listed] == sorted(set().union(*generations))
            assert count == len(listed)
        check_nodes(found, everyone)
    store.close()


def check_nodes(found: Family, everyone: Sequence[Candidate]) -> None:
    people = [found.member, *(one for some in (*found.ancestors, *found.descendants) for one in some)]
    numbers = {one.number for one in people}
    for one in people:
        c = everyone[one.number - 1]
        assert (one.id, one.iteration, one.outcome) == (c.program.id, c.iteration, c.assessment.outcome)
        assert (one.score, one.complete, one.parents) == (c.score, c.complete, c.program.parents)
        assert one.again == (stands(everyone, one.id) != c)
    wanted = {
        (parent.number, one.number)
        for one in people
        for its in one.parents
        if (parent := stands(everyone, its)) and parent.number in numbers
    }
    assert set(found.edges) == wanted
    assert len(found.edges) == len(wanted)
    there = {c.program.id for c in everyone}
    before = (found.member, *(one for some in found.ancestors for one in some))
    assert set(found.unknown) == {parent for one in before for parent in one.parents} - there


OK, DUPLICATE, FAILED = Outcome.OK, Outcome.DUPLICATE, Outcome.FAILED


def test_a_program_written_again_by_its_grandchild_is_that_ones_child_and_nobodys_parent(tmp_path: Path) -> None:
    store, _ = archive(tmp_path, [(1, [], OK), (2, [1], OK), (3, [2], OK), (1, [3], DUPLICATE), (4, [1], OK)])
    found = family(store, name(1))
    assert found
    assert found.ancestors == ()
    assert [[one.number for one in some] for some in found.descendants] == [[2, 5], [3], [4]]
    assert found.edges == ((1, 2), (1, 5), (2, 3), (3, 4))
    assert [one.again for some in found.descendants for one in some] == [False, False, False, True]


def test_the_candidate_with_a_score_stands_for_a_program_that_was_left_out_before(tmp_path: Path) -> None:
    store, _ = archive(tmp_path, [(1, [], Outcome.SKIPPED), (1, [], OK), (2, [1], OK)])
    found = family(store, name(1))
    assert found
    assert (found.member.number, found.edges) == (2, ((2, 3),))
    chosen = store.program(name(1))
    assert chosen
    assert chosen.number == 2


def test_a_parent_that_the_archive_lacks_is_named(tmp_path: Path) -> None:
    store, _ = archive(tmp_path, [(1, [77], OK), (2, [1, 99], OK)])
    found = family(store, name(2))
    assert found
    assert found.unknown == (name(77), name(99))
    assert "not in this archive" in drawn(found)


def test_nobody_has_no_family(tmp_path: Path) -> None:
    store, _ = archive(tmp_path, [(1, [], OK)])
    assert family(store, name(2)) is None


def test_a_limit_keeps_the_nearest_and_counts_the_others(tmp_path: Path) -> None:
    people = [
        (1, [], OK),
        *((number, [number - 1], OK) for number in range(2, 31)),
        *((100 + n, [30], OK) for n in range(50)),
    ]
    store, _ = archive(tmp_path, people)
    found = family(store, name(30), limit=7)
    assert found
    assert [one.number for some in found.ancestors for one in some] == list(range(29, 22, -1))
    assert [one.number for some in found.descendants for one in some] == list(range(31, 38))
    assert (found.more_ancestors, found.more_descendants) == (22, 43)
    text = drawn(found)
    assert "22 more ancestors, further off, are left out" in text
    assert "43 more descendants" in text


def test_no_whole_candidate_is_read(tmp_path: Path) -> None:
    store, _ = archive(tmp_path, [(1, [], OK), (2, [1], OK), (3, [2], FAILED)])
    asked: list[str] = []
    event.listen(store._engine, "before_cursor_execute", lambda _c, _k, statement, *_: asked.append(statement))
    assert family(store, name(2))
    assert asked
    for statement in asked:
        for column in ("source", "prompt", "candidates.text", "sampling", "scores", "descriptors", "sketches"):
            assert column not in statement


def test_families_in_a_large_archive_are_asked_for_in_a_few_questions(tmp_path: Path) -> None:
    """Counted and not timed: a question for each generation that is shown, whatever the archive holds."""
    rng = random.Random(3)
    people = [(1, [], OK), *((number, [rng.randint(max(1, number - 40), number - 1)], OK) for number in range(2, 2001))]
    store, _ = archive(tmp_path, people)
    asked: list[str] = []
    event.listen(store._engine, "before_cursor_execute", lambda _c, _k, statement, *_: asked.append(statement))
    found = family(store, name(1), limit=100)
    assert found
    generations = len(found.ancestors) + len(found.descendants)
    assert len([statement for statement in asked if statement != "BEGIN"]) <= generations + 5
    assert found.more_descendants == 1999 - 100


def drawn(found: Family, width: int = 100, asked: int | None = None) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(family_page(found, asked))
    return out.getvalue()


def test_the_trees_name_everybody_with_number_fate_and_task(tmp_path: Path) -> None:
    store, _ = archive(tmp_path, [(1, [], OK), (2, [], OK), (3, [1, 2], OK), (4, [3], FAILED), (3, [4], DUPLICATE)])
    found = family(store, name(3))
    assert found
    up, down = drawn(found).split("\n\n")
    assert {name(3), name(1), name(2)} <= set(up.split())
    assert name(4) not in up
    assert "50.0 %" in up
    assert {name(3), name(4)} <= set(down.split())
    assert "failed: exception" in down
    assert "variant, again" in down
    assert "again: the same program as an earlier candidate" in down
    assert "candidate 5 is this program again" in drawn(found, asked=5)
    assert "candidate" not in drawn(found, asked=3).split("again:")[0]


def test_a_deep_family_is_drawn_as_deep_as_there_is_room(tmp_path: Path) -> None:
    store, _ = archive(tmp_path, [(1, [], OK), *((number, [number - 1], OK) for number in range(2, 151))])
    found = family(store, name(1))
    assert found
    text = drawn(found, 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "  …" in text
    assert name(2) in text
    assert name(100) not in text
    assert "…: goes on; ask for the lineage of that one" in text
    assert "goes on" not in drawn(family(store, name(150), limit=4), 80)  # type: ignore[arg-type]
    assert sum(map(len, found.descendants)) == 149


def test_hostile_text_in_a_family_is_shown_and_does_nothing() -> None:
    bad = Relative(1, "\x1b[2J[red]x", 1, "failed", "\x1b]0;t\x07[/]", None, False, "[link=x]\x00", ("\x9b31m",), False)
    text = drawn(Family(bad, (), ((replace(bad, number=2),),), ((1, 2),), unknown=("\x9b31m",)))
    assert not set(text) & {"\x1b", "\x00", "\x07", "\x9b"}
    assert "\\x1b[2J[red]x" in text


def test_related_names_children_duplicates_and_updates(tmp_path: Path) -> None:
    store, everyone = archive(tmp_path, [(1, [], OK), (2, [], OK), (3, [1], OK), (4, [], OK)])
    store.propose(1, [replace(everyone[0].program, id=name(5))])
    store.assess(5, Assessment(Outcome.DUPLICATE, duplicate_of=name(1), behaviour="b1"))
    store.add_update(1, "dpo", {"trained": True, "pairs": [[1, 2, 0.25, 0.9]]})
    first, second, third, _, _ = store.candidates()
    of_first = related(store, first)
    assert of_first["children"] == [name(3)]
    assert of_first["duplicates"] == [f"{name(5)} (candidate 5)"]
    assert of_first["chosen in learning"] == ["after iteration 1"]
    assert related(store, second)["rejected in learning"] == ["after iteration 1"]
    assert of_first["generator learnt from"] == []
    later = replace(third, program=replace(third.program, generator="1"))
    assert related(store, later)["parents"] == [name(1)]
    assert related(store, later)["generator learnt from"] == ["iteration 1: 1 programs liked, 1 disliked, by dpo"]


def test_other_methods_say_otherwise_what_they_liked(tmp_path: Path) -> None:
    store, everyone = archive(tmp_path, [(1, [], OK), (2, [], OK)])
    store.add_update(1, "rest-em", {"trained": True, "kept": [1]})
    store.add_update(2, "kto", {"trained": True, "undesirable": [2]})
    assert related(store, everyone[0])["chosen in learning"] == ["after iteration 1"]
    assert related(store, everyone[1])["rejected in learning"] == ["after iteration 2"]
