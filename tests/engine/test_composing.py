"""What programs are asked for: shares, parents, and the order of threads behind them."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from engine.composing import RECENT_FAILURES, compose
from engine.config import PromptsSection
from engine.config_file import build_config
from engine.errors import ConfigError, Interrupted
from engine.history import History
from engine.records import Outcome, Sampling, TaskKind
from tests.engine.conftest import candidate

PLACES = [Sampling(1.0, 1.0, seed, 0, seed) for seed in range(400)]
MIXED = [candidate(i, i / 100) for i in range(1, 31)] + [candidate(i, None) for i in range(31, 61)]


def test_by_default_everyone_is_asked_by_the_fixed_prompt() -> None:
    assert {task.kind for task in compose(PromptsSection(), PLACES, MIXED)} == {TaskKind.ONE_SHOT}


def test_kinds_are_dealt_out_by_their_shares() -> None:
    section = PromptsSection(one_shot=1, variant=2, crossover=3, repair=4)
    count = Counter(task.kind for task in compose(section, PLACES, MIXED))
    for kind, share in section.shares().items():
        assert count[kind] / len(PLACES) == pytest.approx(share / 10, abs=0.06)


def test_parents_are_of_the_elite_the_better_the_likelier() -> None:
    tasks = compose(PromptsSection(one_shot=0, crossover=1, elite=5), PLACES, MIXED)
    assert all(len({c.number for c in task.shown}) == 2 for task in tasks)
    count = Counter(c.number for task in tasks for c in task.shown)
    assert set(count) == {26, 27, 28, 29, 30}
    assert count[30] > count[28] > count[26]


def test_what_is_mended_failed_lately() -> None:
    tasks = compose(PromptsSection(one_shot=0, repair=1), PLACES, MIXED)
    shown = {c.number for task in tasks for c in task.shown}
    assert shown <= set(range(61 - RECENT_FAILURES, 61))
    assert len(shown) > RECENT_FAILURES / 2


@pytest.mark.parametrize(
    ("section", "assessed"),
    [
        (PromptsSection(one_shot=0, variant=1), []),
        (PromptsSection(one_shot=0, crossover=1), MIXED[:1]),
        (PromptsSection(one_shot=0, repair=1), MIXED[:30]),
        (PromptsSection(one_shot=0, variant=1), [candidate(1, 0.9, outcome=Outcome.DUPLICATE)]),
    ],
)
def test_with_nothing_to_show_the_fixed_prompt_is_asked(section: PromptsSection, assessed: list) -> None:
    assert {task.kind for task in compose(section, PLACES[:9], assessed)} == {TaskKind.ONE_SHOT}


def test_a_task_follows_from_its_place_alone() -> None:
    section = PromptsSection(one_shot=1, variant=1, crossover=1, repair=1)
    whole = compose(section, PLACES, MIXED)
    assert compose(section, PLACES[100:110], MIXED) == whole[100:110]


def test_shares_that_sum_to_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="a share above 0 for one kind of task"):
        build_config({"prompts": {"one_shot": 0}})


def test_history_gives_what_is_assessed_and_waits_for_the_rest() -> None:
    history, got = History(MIXED[:2]), []
    assert history.first(2) == tuple(MIXED[:2])
    reader = threading.Thread(target=lambda: got.append(history.first(3)))
    reader.start()
    history.add(MIXED[2])
    reader.join()
    assert got == [tuple(MIXED[:3])]


def test_who_waits_for_a_history_that_ends_is_told() -> None:
    history, got = History(), []

    def read() -> None:
        with pytest.raises(Interrupted, match="the run was stopped"):
            history.first(1)
        got.append(True)

    reader = threading.Thread(target=read)
    reader.start()
    history.close()
    reader.join()
    assert got == [True]
