"""What is asked for one score: the items, their weights, their order and their blocks."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import Part, Suite
from tests.benchmarks.made import benchmark, problems, suite, weighted


def test_items_stand_in_the_order_of_the_parts_and_weigh_one_together() -> None:
    mixed = weighted({"a": 2, "b": 4}, {"a": 3.0, "b": 1.0})
    assert [item.problem.question for item in mixed.items] == ["a 0", "a 1", "b 0", "b 1", "b 2", "b 3"]
    assert [item.part for item in mixed.items] == ["a", "a", "b", "b", "b", "b"]
    assert mixed.weights.tolist() == pytest.approx([0.375] * 2 + [0.0625] * 4)


def test_an_order_has_every_item_once_and_follows_its_seed() -> None:
    one, same, other = (suite(50, seed=seed, block=20) for seed in (1, 1, 2))
    assert one.order == same.order != other.order
    assert sorted(one.order) == list(range(50))
    assert [len(block) for block in one.blocks] == [20, 20, 10]
    assert sum(one.blocks, ()) == one.order
    assert suite(50).blocks == (tuple(range(50)),)


def test_a_digest_changes_with_all_that_an_answer_depends_on() -> None:
    plain = Suite([Part(benchmark(), problems("made", 6))])
    others = [
        Suite([Part(benchmark(), problems("made", 5))]),
        Suite([Part(benchmark(max_new_tokens=9), problems("made", 6))]),
        Suite([Part(benchmark(scorer_version="2"), problems("made", 6))]),
        Suite([Part(benchmark(prompt=lambda problem: problem.question + "?"), problems("made", 6))]),
        Suite([Part(benchmark(), problems("made", 6))], block=2),
        Suite([Part(benchmark(), problems("made", 6))], rng=np.random.default_rng(0)),
    ]
    digests = [one.digest for one in (plain, *others)]
    assert len(set(digests)) == len(digests)
    assert plain.digest == Suite([Part(benchmark(), problems("made", 6))]).digest
