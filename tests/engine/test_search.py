"""Searching an archive: the database answers what a plain look at every candidate would answer."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.descriptors import NUMBERS, Descriptors
from engine.errors import ConfigError
from engine.ranking import best_first
from engine.records import Candidate, Outcome
from engine.rows import AT_ONCE
from engine.search import MOST_AT_ONCE, MOST_TEXT, NAMES, Condition, Query, condition, in_order
from engine.store import Store
from tests.engine.conftest import candidate, dev_score
from tests.engine.test_lineage import looked_through as relatives_of

OPERATIONS = ("abs", "abs_", "svd", "SVD", "topk")
WORDS = ("Median", "100%", "under_score", "quote'", "back\\slash")


def made(number: int, rng: random.Random) -> Candidate:
    """A candidate of any fate."""
    fate = rng.choice(["ok", "ok", "raced", "failed", "duplicate"])
    iteration = rng.randint(1, 3)
    if fate == "failed":
        one = candidate(number, None, iteration=iteration)
    else:
        one = candidate(number, rng.choice([0.25, 0.5, 0.75]), iteration=iteration)
        if fate == "raced":
            one = replace(
                one, assessment=replace(one.assessment, score=dev_score(rng.choice(["10--", "11--", "01--"])))
            )
        numbers = {name: rng.choice([-1.0, 0.0, 0.5, 1.0]) for name in NUMBERS}
        operations = tuple(name for name in OPERATIONS if rng.random() < 0.4)
        found = Descriptors(numbers, (0.5,), operations, (0.25,))
        one = replace(one, assessment=replace(one.assessment, descriptors=found, execute_seconds=rng.random()))
    if fate == "duplicate":
        same = replace(one.assessment, outcome=Outcome.DUPLICATE, score=None, descriptors=None, duplicate_of="0" * 12)
        one = replace(one, assessment=same)
    source = one.program.source + "".join(f"# {word}\n" for word in WORDS if rng.random() < 0.3)
    parents = tuple(f"{rng.randint(1, 90):012x}" for _ in range(rng.choice([0, 0, 1, 2])))
    again = fate in ("duplicate", "failed") and rng.random() < 0.5
    same = f"{rng.randint(1, 80):012x}" if again else one.program.id
    program = replace(one.program, id=same, source=source, generator=rng.choice("01"), parents=parents)
    return replace(one, program=program)


@pytest.fixture(scope="module")
def candidates() -> list[Candidate]:
    rng = random.Random(7)
    return sorted((made(number, rng) for number in range(1, 81)), key=lambda c: c.iteration)


@pytest.fixture(scope="module")
def store(
    candidates: list[Candidate], tmp_path_factory: pytest.TempPathFactory, archive_url: str | None
) -> Iterator[Store]:
    store = Store.in_folder(tmp_path_factory.mktemp("found"), create=True, server=archive_url)
    for number, one in enumerate(candidates, start=1):
        candidates[number - 1] = replace(one, number=number)
        store.propose(one.iteration, [one.program])
        store.assess(number, one.assessment)
    assert list(store.candidates()) == candidates
    yield store
    store.close()


def value(c: Candidate, name: str) -> float | None:
    """What a candidate's record has by this name."""
    a = c.assessment
    facts = {
        "score": c.score,
        "number": c.number,
        "iteration": c.iteration,
        "seconds": a.execute_seconds,
        "memory": a.peak_memory_bytes,
    }
    return facts[name] if name in facts else a.descriptors.numbers[name] if a.descriptors else None


def holds(c: Candidate, one: Condition) -> bool:
    there = value(c, one.name)
    if there is None:
        return False
    return {
        ">=": there >= one.value,
        "<=": there <= one.value,
        ">": there > one.value,
        "<": there < one.value,
        "=": there == one.value,
    }[one.comparison]


def family_of(everyone: list[Candidate], program: str) -> tuple[set[int], set[int]]:
    up, down = relatives_of(everyone, program) if any(c.program.id == program for c in everyone) else ((), ())
    return set().union(*up), set().union(*down)


def looked_through(everyone: list[Candidate], query: Query) -> list[Candidate]:
    """The oracle: every candidate is looked at."""
    found = [
        c
        for c in everyone
        if query.verdict in (None, c.assessment.outcome.value)
        and query.iteration in (None, c.iteration)
        and query.generator in (None, c.program.generator)
        and (query.ancestors_of is None or c.number in family_of(everyone, query.ancestors_of)[0])
        and (query.descendants_of is None or c.number in family_of(everyone, query.descendants_of)[1])
        and query.text.lower() in c.program.source.lower()
        and all(c.assessment.descriptors and name in c.assessment.descriptors.operations for name in query.operations)
        and all(holds(c, one) for one in query.conditions)
    ]
    if query.sort is None:
        return sorted(found, key=best_first)
    found.sort(key=lambda c: c.number)
    numbers = {c.number: number for c in found if (number := value(c, query.sort)) is not None}
    having, lacking = ([c for c in found if (c.number in numbers) is there] for there in (True, False))
    return sorted(having, key=lambda c: numbers[c.number], reverse=query.falling) + lacking


MEMBERS = st.one_of(st.none(), st.none(), st.integers(1, 91).map(lambda number: f"{number:012x}"))
QUERIES = st.builds(
    Query,
    verdict=st.sampled_from([None, None, "ok", "failed", "duplicate"]),
    iteration=st.sampled_from([None, None, 1, 2, 9]),
    generator=st.sampled_from([None, None, "0", "1"]),
    operations=st.lists(st.sampled_from(OPERATIONS), max_size=2, unique=True),
    text=st.sampled_from(["", "", "median", "0%", "r_s", "quote'", "k\\s", "%", "_"]),
    conditions=st.lists(
        st.builds(
            Condition,
            st.sampled_from(NAMES),
            st.sampled_from([">=", "<=", ">", "<", "="]),
            st.sampled_from([0.0, 0.5, 1.0, 2.0]),
        ),
        max_size=2,
    ),
    sort=st.sampled_from([None, *NAMES]),
    falling=st.booleans(),
    limit=st.sampled_from([None, 1, 5]),
    offset=st.sampled_from([0, 0, 3]),
    ancestors_of=MEMBERS,
    descendants_of=MEMBERS,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=QUERIES)
def test_the_database_finds_what_a_look_at_everyone_finds(
    store: Store, candidates: list[Candidate], query: Query
) -> None:
    expected = looked_through(candidates, query)
    found, count = store.find(query)
    assert count == len(expected)
    end = None if query.limit is None else query.offset + query.limit
    assert [c.number for c in found] == [c.number for c in expected[query.offset : end]]
    assert list(found) == expected[query.offset : end]
    assert in_order(expected, query) == expected[: query.limit], "of several archives, each in this order"


def test_an_order_hides_nobody(store: Store, candidates: list[Candidate]) -> None:
    for name in NAMES:
        for verdict in (None, Outcome.DUPLICATE.value, Outcome.FAILED.value):
            everyone = [c.number for c in candidates if verdict in (None, c.assessment.outcome.value)]
            found, count = store.find(Query(verdict=verdict, sort=name))
            assert (sorted(c.number for c in found), count) == (everyone, len(everyone)), (name, verdict)


def test_more_than_a_database_takes_at_once(tmp_path: Path, archive_url: str | None) -> None:
    store = Store.in_folder(tmp_path, create=True, server=archive_url)
    count = 2 * AT_ONCE + 1
    store.propose(1, [candidate(number, None).program for number in range(1, count + 1)])
    found, there = store.find(Query(sort="number", falling=True))
    assert [c.number for c in found] == list(range(count, 0, -1))
    assert there == count


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rest>0.1", Condition("rest", ">", 0.1)),
        (" score >= 70% ", Condition("score", ">=", 0.7)),
        ("scale<-1e-3", Condition("scale", "<", -0.001)),
        ("iteration=2", Condition("iteration", "=", 2.0)),
    ],
)
def test_conditions_are_read(text: str, expected: Condition) -> None:
    found = condition(text)
    assert (found.name, found.comparison) == (expected.name, expected.comparison)
    assert found.value == pytest.approx(expected.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rest", r"condition 'rest': expected NAME, one of >= <= > < = and a number"),
        ("rest>>1", "and a number, such as 'rest>0.1'; write it so"),
        ("rest>1.2.3", "and a number"),
        ("taste>1", r"expected a name out of score, number, .*nodes, got 'taste'; choose one"),
        ("rest>1; DROP TABLE candidates", "and a number"),
    ],
)
def test_what_is_no_condition_is_told_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        condition(text)


def test_unknown_verdicts_and_names_to_sort_by_are_told_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"verdict: expected one of pending, ok, .* got 'good'; choose one"):
        Query(verdict="good")
    with pytest.raises(ConfigError, match=r"sort: expected one of score, .* got 'taste'; choose one"):
        Query(sort="taste")


@pytest.mark.parametrize(
    ("name", "most", "one"),
    [
        ("text", MOST_TEXT, "\ufdef"),  # which takes the most bytes
        ("operations", MOST_AT_ONCE, ["svd"]),
        ("conditions", MOST_AT_ONCE, [Condition("rest", ">", 2.0)]),
    ],
)
def test_a_question_is_as_long_as_a_database_takes_and_no_longer(
    store: Store, name: str, most: int, one: str | list[object]
) -> None:
    store.find(Query(**{name: one * most}))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"{name}: expected {most}.* at most, got {most + 1}"):
        Query(**{name: one * (most + 1)})  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    beginning=st.one_of(
        st.text("0123456789abcdef%_", max_size=12), st.text(max_size=4), st.integers(0, 90).map("{:012x}".format)
    )
)
def test_ids_are_found_by_their_beginning_and_by_nothing_else(
    store: Store, candidates: list[Candidate], beginning: str
) -> None:
    expected = {c.program.id for c in candidates if c.program.id.startswith(beginning)}
    assert store.ids(beginning) == sorted(expected)
