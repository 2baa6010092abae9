"""Programs of the grammar are sound, reproducible, varied, and work with any number of experts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from engine.grammar import MAX_SOURCE_CHARACTERS, ProgramGrammar, broken, cross, derive, render, vary
from merges.contract import EXAMPLE, program_id
from merges.probes import behaviour_hash, probe_jobs
from sandbox import Reason, Sandbox, TensorJob, check

SAMPLES = 200


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(allow_none=True) as started:
        yield started


@pytest.fixture(scope="module")
def programs() -> list[str]:
    rng, grammar = random.Random(5), ProgramGrammar()
    return [grammar.sample(rng) for _ in range(SAMPLES)]


def jobs_of(experts: int) -> list[TensorJob]:
    """One matrix and one vector, with the given number of experts."""
    generator = torch.Generator().manual_seed(experts)
    return [
        TensorJob(
            name=f"model.layers.{i}.mlp.up_proj.weight",
            depth=i / 2,
            vectors={f"m{k}": 0.01 * torch.randn(shape, generator=generator) for k in range(experts)},
            base=torch.randn(shape, generator=generator),
            seed=i,
        )
        for i, shape in enumerate(((8, 6), (9,)))
    ]


def test_programs_pass_the_gate_and_give_sound_results_on_the_probes(box: Sandbox, programs: list[str]) -> None:
    results = [box.execute(source, probe_jobs()) for source in programs]
    failed = [(result.reason, result.detail) for result in results if not result.ok]
    assert len(failed) <= SAMPLES // 50, failed


def test_programs_behave_differently_from_each_other(box: Sandbox, programs: list[str]) -> None:
    results = [box.execute(source, probe_jobs()) for source in programs[:60]]
    hashes = {behaviour_hash(result.outputs) for result in results if result.outputs is not None}
    assert len(hashes) >= 55


@pytest.mark.parametrize("experts", [2, 5, 8])
def test_most_programs_do_not_assume_three_experts(box: Sandbox, programs: list[str], experts: int) -> None:
    jobs = jobs_of(experts)
    sound = sum(box.execute(source, jobs).ok for source in programs[:80])
    assert sound >= 70


def test_same_seed_same_programs(programs: list[str]) -> None:
    rng, grammar = random.Random(5), ProgramGrammar()
    assert [grammar.sample(rng) for _ in range(20)] == programs[:20]


def test_canonical_trees_are_distinct(programs: list[str]) -> None:
    assert len({program_id(source) for source in programs}) >= 0.98 * SAMPLES


def test_all_rules_are_drawn() -> None:
    rng = random.Random(0)
    keys = {key for _ in range(1500) for key in derive(rng).keys}
    assert {"keep_largest", "low_rank", "random_drop", "elect", "measured", "pairwise", "product", "depth_line"} <= keys
    assert len(keys) >= 50


def test_programs_are_short_and_say_what_they_do(programs: list[str]) -> None:
    assert max(map(len, programs)) <= MAX_SOURCE_CHARACTERS
    explained = sum(source.startswith("#") or '"""' in source for source in programs)
    assert explained == len(programs)


def test_all_extras_and_hyperparameters_occur(programs: list[str]) -> None:
    heads = [source.split("def merge_models(")[1].split("):")[0] for source in programs]
    for word in ("name", "depth", "base", "rng", "*"):
        assert any(word in head.split(", ") for head in heads), word


def test_a_variant_of_numbers_keeps_the_text_around_them() -> None:
    parent = derive(random.Random(9))
    child = replace(parent, last=replace(parent.last, key="constant", numbers=parent.last.numbers + 1))
    before = render(replace(parent, last=replace(parent.last, key="constant")))
    after = render(child)
    strip = str.maketrans("", "", "0123456789.")
    assert before != after
    assert before.translate(strip) == after.translate(strip)


def test_variants_and_crossovers_of_derivations_are_new_and_sound(box: Sandbox) -> None:
    rng, grammar = random.Random(6), ProgramGrammar()
    sound = 0
    for _ in range(30):
        a, b = grammar.derivation(rng), grammar.derivation(rng)
        variant, child = grammar.variant(a, rng), grammar.crossover(a, b, rng)
        assert variant != render(a)
        assert child not in (render(a), render(b))
        sound += box.execute(variant, probe_jobs()).ok + box.execute(child, probe_jobs()).ok
    assert sound >= 58


def test_variants_and_crossovers_of_foreign_text_are_new_and_sound(box: Sandbox) -> None:
    rng, grammar = random.Random(7), ProgramGrammar()
    for _ in range(15):
        other = grammar.sample(rng)
        for child in (grammar.variant(EXAMPLE, rng), grammar.crossover(EXAMPLE, other, rng)):
            assert program_id(child) != program_id(EXAMPLE)
            result = box.execute(child, probe_jobs())
            assert result.ok, (result.detail, child)


@pytest.mark.parametrize("text", ["", "def merge_models(", "x = 1\n", "not python at all"])
def test_text_that_is_no_program_does_not_stop_a_variant_or_a_crossover(text: str) -> None:
    rng, grammar = random.Random(8), ProgramGrammar()
    assert isinstance(grammar.variant(text, rng), str)
    assert isinstance(grammar.crossover(text, EXAMPLE, rng), str)


def test_vary_and_cross_follow_the_seed() -> None:
    a, b = derive(random.Random(1)), derive(random.Random(2))
    assert vary(a, random.Random(3)) == vary(a, random.Random(3))
    assert cross(a, b, random.Random(4)) == cross(a, b, random.Random(4))


def test_broken_programs_fail_for_the_reason_given(box: Sandbox, programs: list[str]) -> None:
    rng = random.Random(10)
    agreed = 0
    for source in programs[:60]:
        faulty, reason = broken(source, rng)
        forgiven = reason.startswith("policy: import of")  # nobody uses it
        kind = None if forgiven else Reason(reason.split(":")[0])
        agreed += box.execute(faulty, probe_jobs()).reason == kind
    assert agreed >= 54


def test_every_program_passes_the_gate_alone(programs: list[str]) -> None:
    assert [check(source).detail for source in programs if not check(source).ok] == []
