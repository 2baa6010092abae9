"""The control that tunes constants: its programs, and that it climbs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.generators import CoefficientsGenerator
from engine.records import Assessment, Candidate, Outcome, Program, Sampling, Task
from merges.probes import probe_jobs
from sandbox import Sandbox
from tests.engine.conftest import candidate

EXPERTS, GROUPS, SIZE = 3, 2, 8


def places(batch: int, count: int = SIZE) -> list[Sampling]:
    return [Sampling(1.0, 1.0, 1000 * batch + row, batch, row) for row in range(count)]


def assessed(batch: int, sources: list[str], scores: list[float]) -> list[Candidate]:
    rows = [candidate(batch * SIZE + i + 1, score) for i, score in enumerate(scores)]
    return [
        replace(row, program=replace(row.program, source=source, sampling=place))
        for row, source, place in zip(rows, sources, places(batch, len(sources)), strict=True)
    ]


def weights(source: str) -> np.ndarray:
    rows = source.split("weights = [")[1].split("]\n    in_layers")[0]
    return np.array(eval(f"[{rows}]"))


def climb(generator: CoefficientsGenerator, batches: int, *, start: int = 0) -> list[float]:
    """The best of each batch, where the score falls with the distance to 0.8."""
    best = []
    for batch in range(start, start + batches):
        sources = [d.source for d in generator.write(places(batch), [Task()] * SIZE)]
        scores = [max(0.0, 1.0 - float(np.abs(weights(s) - 0.8).mean())) for s in sources]
        best.append(max(scores))
        generator.tell(assessed(batch, sources, scores))
    return best


@pytest.fixture
def generator() -> CoefficientsGenerator:
    return CoefficientsGenerator(EXPERTS, GROUPS, SIZE)


def test_every_point_is_a_program_that_works_with_weights_by_layer(generator: CoefficientsGenerator) -> None:
    (first, *_) = generator.write(places(0), [Task()] * SIZE)
    assert weights(first.source).shape == (GROUPS + 1, EXPERTS)
    with Sandbox() as sandbox:
        assert sandbox.execute(first.source, probe_jobs(EXPERTS)).ok
        assert sandbox.execute(first.source, probe_jobs(2)).ok  # fewer experts than weights


def test_what_lies_outside_the_layers_has_weights_of_its_own(generator: CoefficientsGenerator) -> None:
    (first, *_) = generator.write(places(0), [Task()] * SIZE)
    assert first.source
    merge: dict[str, Any] = {}
    exec(first.source, merge)  # ours, not a candidate's
    ones = {f"expert {at}": row for at, row in enumerate(np.eye(EXPERTS))}
    names = {
        "model.embed_tokens.weight": (0.0, GROUPS),
        "model.layers.0.mlp.up_proj.weight": (0.0, 0),
        "transformer.h.3.attn.c_proj.weight": (0.3, 0),
        "model.layers.9.mlp.up_proj.weight": (1.0, GROUPS - 1),
        "model.norm.weight": (1.0, GROUPS),
        "lm_head.weight": (1.0, GROUPS),
    }
    for name, (depth, row) in names.items():
        assert merge["merge_models"](ones, "cpu", name, depth) == pytest.approx(weights(first.source)[row]), name


def test_it_climbs(generator: CoefficientsGenerator) -> None:
    best = climb(generator, 40)
    assert best[0] < 0.85
    assert best[-1] > 0.97


def test_told_again_it_goes_on_as_if_it_had_never_stopped(generator: CoefficientsGenerator) -> None:
    told, whole = [], CoefficientsGenerator(EXPERTS, GROUPS, SIZE)
    for batch in range(3):
        sources = [d.source for d in whole.write(places(batch), [Task()] * SIZE)]
        told.append(assessed(batch, sources, [0.1 * i for i in range(SIZE)]))
        whole.tell(told[-1])
    for batch in told:
        generator.tell(batch)
    assert generator.write(places(3), [Task()] * SIZE) == whole.write(places(3), [Task()] * SIZE)


def test_a_short_batch_gives_the_first_of_a_population_and_teaches_nothing(generator: CoefficientsGenerator) -> None:
    other = CoefficientsGenerator(EXPERTS, GROUPS, SIZE)
    short = generator.write(places(0, 3), [Task()] * 3)
    assert short == other.write(places(0), [Task()] * SIZE)[:3]
    generator.tell(assessed(0, [d.source for d in short], [0.3, 0.2, 0.1]))
    other.tell(assessed(0, [d.source for d in short], [0.1, 0.2, 0.3]))
    assert generator.write(places(1), [Task()] * SIZE) == other.write(places(1), [Task()] * SIZE)


def test_numpys_global_generator_is_left_alone(generator: CoefficientsGenerator) -> None:
    np.random.seed(7)
    before = np.random.get_state()[1].copy()
    climb(generator, 2)
    assert (np.random.get_state()[1] == before).all()


def test_failures_are_the_worst_of_a_population(generator: CoefficientsGenerator) -> None:
    sources = [d.source for d in generator.write(places(0), [Task()] * SIZE)]
    rows = assessed(0, sources, [0.5] * SIZE)
    rows[0] = replace(rows[0], assessment=Assessment(Outcome.FAILED, reason="timeout"))
    assert isinstance(rows[0].program, Program)
    generator.tell(rows)  # a reason is no number, and none is needed
