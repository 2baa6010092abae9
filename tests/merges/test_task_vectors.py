"""Task vectors from checkpoints: values, order, seeds, and experts that do not fit."""

from __future__ import annotations

import pytest
import torch

from merges.checkpoints import Checkpoint
from merges.errors import CheckpointError, OptionError, ShapeError
from merges.selection import select
from merges.task_vectors import check_compatible, mergeable, reseeded, task_jobs, tensor_seed

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture
def experts(llamas):
    return {name: Checkpoint.open(llamas[name]) for name in ("expert_a", "expert_b")}


def wider(tensors):
    return {**tensors, EMBED: torch.zeros(40, 16), HEAD: torch.zeros(40, 16)}


def test_jobs_hold_expert_minus_base_in_float32(base, experts):
    jobs = task_jobs(base, experts, base.names, run_seed=1, program_id="p")
    assert [job.name for job in jobs] == list(base.names)
    for job in jobs:
        assert list(job.vectors) == ["expert_a", "expert_b"]
        assert torch.equal(job.base, base.read(job.name).float())
        for name, vector in job.vectors.items():
            assert vector.dtype is torch.float32
            assert torch.equal(vector, experts[name].read(job.name).float() - base.read(job.name).float())
        assert job.seed == tensor_seed(1, "p", job.name)


def test_order_is_the_callers_and_base_may_be_left_out(base, experts):
    (job,) = task_jobs(
        base, experts, [EMBED], run_seed=1, program_id="p", order=["expert_b", "expert_a"], with_base=False
    )
    assert list(job.vectors) == ["expert_b", "expert_a"]
    assert job.base is None


@pytest.mark.parametrize("order", [[], ["expert_a"], ["expert_a", "expert_a"], ["expert_a", "expert_b", "x"]])
def test_order_must_be_a_permutation(base, experts, order):
    with pytest.raises(OptionError, match=r"^order: expected each of \['expert_a', 'expert_b'\] once, got"):
        task_jobs(base, experts, [EMBED], run_seed=1, program_id="p", order=order)


def test_seeds_depend_on_run_program_and_tensor_alone():
    seeds = {tensor_seed(run, program, name) for run in (0, 1) for program in ("a", "b") for name in ("x", "y")}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert tensor_seed(0, "82ff471d1aa9", EMBED) == 1880546993495514111  # archives repeat only with it


def test_reseeding_shares_the_tensors(base, experts):
    jobs = task_jobs(base, experts, base.names[:3], run_seed=1, program_id="p")
    again = reseeded(jobs, run_seed=1, program_id="q")
    for old, new in zip(jobs, again, strict=True):
        assert new.seed == tensor_seed(1, "q", old.name) != old.seed
        assert new.vectors is old.vectors


def test_vocabularies_may_differ_outside_the_merge(base, llamas, edited):
    expert = Checkpoint.open(edited(llamas["expert_a"], wider))
    check_compatible(base, {"e": expert}, select(base.names, "mlp"))
    with pytest.raises(ShapeError, match=r"^tensor '.*': expected shape .* \(and 1 more\)$") as info:
        check_compatible(base, {"e": expert}, base.names)
    first = next(name for name in base.names if name in (EMBED, HEAD))
    assert str(info.value) == (
        f"tensor '{first}': expected shape (32, 16) as in the base, got (40, 16) in expert 'e'; resize embeddings "
        "before merging or leave the tensor out of the selection (and 1 more)"
    )


def test_expert_that_lacks_a_tensor_is_named(base, llamas, edited):
    expert = Checkpoint.open(edited(llamas["expert_a"], lambda t: {n: x for n, x in t.items() if n != HEAD}))
    with pytest.raises(
        ShapeError, match=r"^tensor 'lm_head.weight': expected shape .* got no such tensor in expert 'e'"
    ):
        check_compatible(base, {"e": expert}, base.names)


def test_tied_expert_serves_an_untied_base(base, llamas):
    tied = Checkpoint.open(llamas["tied"])
    check_compatible(base, {"tied": tied}, base.names)
    (job,) = task_jobs(base, {"tied": tied}, [HEAD], run_seed=0, program_id="p")
    assert torch.equal(job.vectors["tied"], tied.read(EMBED).float() - base.read(HEAD).float())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_weights_are_named(base, llamas, edited, bad):
    def poison(tensors):
        tensors[EMBED].view(-1)[7] = bad
        return tensors

    expert = Checkpoint.open(edited(llamas["expert_a"], poison))
    with pytest.raises(CheckpointError, match=r"^tensor '.*' of 'e' .*: expected finite values, got NaN or infinity"):
        task_jobs(base, {"e": expert}, [EMBED], run_seed=0, program_id="p")


def test_integers_are_never_merged(llamas, edited):
    folder = edited(llamas["base"], lambda t: {**t, "model.positions": torch.arange(4)})
    base = Checkpoint.open(folder)
    assert set(base.names) - set(mergeable(base, base.names)) == {"model.positions"}
