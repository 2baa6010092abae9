"""Behaviour hashes: equal for equal behaviour, different for different, the same for ever."""

from __future__ import annotations

import pytest
import torch
from blake3 import blake3

from merges import library
from merges.errors import OptionError
from merges.probes import PROBE_MODELS, behaves_as, behaviour_hash, probe_jobs

KINDS = (
    *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    *("input_layernorm", "post_attention_layernorm", "embed_tokens", "model.norm", "lm_head"),
    *("self_attn", "mlp", "norm", "layers"),
)
"""What a program may look for in a Llama's parameter names, one by one and by group."""


def outputs(function):
    return {job.name: function(*job.vectors.values()) for job in probe_jobs()}


def test_probes_never_change():
    # Every behaviour hash in an archive hangs on these bytes.
    digest = blake3()
    for job in probe_jobs(8):
        digest.update(f"{job.name} {job.depth!r} {job.seed}".encode())
        for tensor in (*job.vectors.values(), job.base):
            digest.update(tensor.contiguous().numpy().tobytes())
    assert digest.hexdigest()[:16] == "7cda7683381d2fec"


def test_probes_are_unequal_where_programs_look():
    jobs = probe_jobs()
    assert {len(job.base.shape) for job in jobs} == {1, 2, 3}
    assert len({job.depth for job in jobs}) == 8
    assert len({job.seed for job in jobs}) == len(jobs)
    for job in jobs:
        assert tuple(job.vectors) == PROBE_MODELS[:3]
        norms = [vector.norm().item() for vector in job.vectors.values()]
        assert len({round(norm / norms[0], 1) for norm in norms}) == 3
        assert all(vector.dtype is torch.float32 and vector.is_contiguous() for vector in job.vectors.values())


def test_fewer_experts_are_the_first_of_more():
    for few, many in zip(probe_jobs(2), probe_jobs(8), strict=True):
        assert tuple(many.vectors) == PROBE_MODELS
        assert (few.name, few.depth, few.seed, tuple(few.vectors)) == (
            many.name,
            many.depth,
            many.seed,
            PROBE_MODELS[:2],
        )
        assert torch.equal(few.base, many.base)
        assert all(torch.equal(vector, many.vectors[model]) for model, vector in few.vectors.items())
        norms = [vector.norm().item() for vector in many.vectors.values()]
        assert len({round(norm / norms[0], 2) for norm in norms}) == len(norms)


@pytest.mark.parametrize("experts", [0, 1, 9])
def test_other_numbers_of_experts_are_refused(experts):
    with pytest.raises(OptionError, match=rf"^experts: expected 2 to 8 .* got {experts};"):
        probe_jobs(experts)


@pytest.mark.parametrize("weight", ["w3", "w4"])
def test_a_weight_of_a_later_expert_shows_where_there_are_so_many(run_jobs, weight):
    def hashes(experts):
        jobs, program = probe_jobs(experts), "weighted_task_arithmetic"
        return [behaviour_hash(run_jobs(program, jobs, {weight: value})) for value in (0.1, 0.2)]

    assert len(set(hashes(5))) == 2
    assert len(set(hashes(3))) == 1


def test_a_program_for_two_experts_is_sound_on_two(sandbox):
    source = "def merge_models(model_dict, device):\n    a, b = model_dict.values()\n    return 0.5 * (a + b)\n"
    assert [sandbox.execute(source, probe_jobs(n)).ok for n in (2, 3)] == [True, False]


def test_every_kind_of_parameter_leaves_a_trace_of_its_own(run_jobs):
    body = "def merge_models(model_dict, device, name):\n    return sum(model_dict.values()) * (0.5 if {!r} in name else 1)\n"
    hashes = {kind: behaviour_hash(run_jobs(body.format(kind), probe_jobs())) for kind in (*KINDS, "nothing")}
    assert len(set(hashes.values())) == len(hashes)


def test_thresholds_of_depth_leave_a_trace(run_jobs):
    body = "def merge_models(model_dict, device, depth):\n    return sum(model_dict.values()) * (0.5 if depth < {} else 1)\n"
    thresholds = (0.0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 2.0)
    assert len({behaviour_hash(run_jobs(body.format(t), probe_jobs())) for t in thresholds}) == len(thresholds)


def test_order_of_summation_does_not_split_equals():
    one = outputs(lambda a, b, c: (a + b + c) / 3)
    other = outputs(lambda a, b, c: (c / 3 + b / 3) + a * (1 / 3))
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert behaviour_hash(one) == behaviour_hash(other)


def test_float_noise_seldom_splits_equals():
    exact = outputs(lambda a, b, c: 0.4 * (a + b + c))
    generator = torch.Generator().manual_seed(0)
    same = 0
    for _ in range(100):
        noisy = {n: t * (1 + 1e-7 * torch.randn(t.shape, generator=generator)) for n, t in exact.items()}
        same += behaviour_hash(noisy) == behaviour_hash(exact)
    assert same >= 95


def test_a_hash_that_another_processor_took_is_told_from_another_behaviour():
    exact = outputs(lambda a, b, c: 0.4 * (a + b + c))
    generator = torch.Generator().manual_seed(0)
    split = 0
    for _ in range(40):  # 3e-6 is what the oldest kernels make of most programs that enlarge rounding
        noisy = {n: t * (1 + 3e-6 * torch.randn(t.shape, generator=generator)) for n, t in exact.items()}
        split += behaviour_hash(noisy) != behaviour_hash(exact)
        assert behaves_as(noisy, behaviour_hash(exact))
        assert behaves_as(exact, behaviour_hash(noisy))
    assert split >= 10, "nothing was tried"
    for others in (lambda a, b, c: 0.4001 * (a + b + c), lambda a, b, c: 0.4 * (a + b + 1.001 * c)):
        assert not behaves_as(exact, behaviour_hash(outputs(others)))


def test_library_differs_in_behaviour_but_for_the_two_forms_of_task_arithmetic(run_jobs):
    of_three = set(library.names()) - {"slerp", "nuslerp", "nearswap", "arcee_fusion"}
    hashes = {name: behaviour_hash(run_jobs(name, probe_jobs())) for name in of_three}
    assert hashes["task_arithmetic"] == hashes["weighted_task_arithmetic"]  # with their defaults they are one program
    assert hashes["ram"] == hashes["ramplus"]  # no value of the probes has been changed by one expert alone
    assert len(set(hashes.values())) == len(hashes) - 2


@pytest.mark.parametrize("change", [1.001, -1.0, 2.0, 0.0])
def test_scale_and_sign_show(change):
    one = outputs(lambda a, b, c: a + b + c)
    assert behaviour_hash(one) != behaviour_hash({name: tensor * change for name, tensor in one.items()})


def test_one_changed_element_one_permuted_row_and_another_model_show():
    one = outputs(lambda a, b, c: a + b + c)
    flat = outputs(lambda a, b, c: a + b + c)
    next(iter(flat.values())).view(-1)[5] = 0.0
    flipped = {name: tensor.flip(0) for name, tensor in one.items()}
    hashes = {
        behaviour_hash(x) for x in (one, flat, flipped, outputs(lambda a, b, c: a + b), outputs(lambda a, b, c: c))
    }
    assert len(hashes) == 5


def test_order_of_outputs_is_free_and_hash_is_sixteen_hex():
    one = outputs(lambda a, b, c: a)
    assert behaviour_hash(dict(reversed(one.items()))) == behaviour_hash(one)
    assert len(behaviour_hash(one)) == 16
    assert int(behaviour_hash(one), 16) >= 0


def test_depth_name_base_and_order_leave_a_trace(run_jobs):
    bodies = {
        "plain": "def merge_models(model_dict, device):\n    return sum(model_dict.values())\n",
        "depth": "def merge_models(model_dict, device, depth):\n    return sum(model_dict.values()) * (1 - depth / 2)\n",
        "name": "def merge_models(model_dict, device, name):\n"
        "    return sum(model_dict.values()) * (0.5 if 'mlp' in name else 1)\n",
        "base": "def merge_models(model_dict, device, base):\n    return sum(model_dict.values()) + 0.1 * base\n",
        "first": "def merge_models(model_dict, device):\n    return list(model_dict.values())[0]\n",
        "last": "def merge_models(model_dict, device):\n    return list(model_dict.values())[-1]\n",
    }
    hashes = {key: behaviour_hash(run_jobs(body, probe_jobs())) for key, body in bodies.items()}
    assert len(set(hashes.values())) == len(bodies)
