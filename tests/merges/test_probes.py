"""Behaviour hashes: equal for equal behaviour, different for different, the same for ever."""

from __future__ import annotations

import pytest
import torch
from blake3 import blake3

from merges import library
from merges.probes import PROBE_MODELS, behaviour_hash, probe_jobs


def outputs(function):
    return {job.name: function(*job.vectors.values()) for job in probe_jobs()}


def test_probes_never_change():
    # Every behaviour hash in an archive hangs on these bytes.
    digest = blake3()
    for job in probe_jobs():
        digest.update(f"{job.name} {job.depth!r} {job.seed}".encode())
        for tensor in (*job.vectors.values(), job.base):
            digest.update(tensor.contiguous().numpy().tobytes())
    assert digest.hexdigest()[:16] == "9ef216d00d303e01"


def test_probes_are_unequal_where_programs_look():
    jobs = probe_jobs()
    assert {len(job.base.shape) for job in jobs} == {1, 2, 3}
    assert len({job.depth for job in jobs}) >= 4
    assert len({job.seed for job in jobs}) == len(jobs)
    for job in jobs:
        assert tuple(job.vectors) == PROBE_MODELS
        norms = [vector.norm().item() for vector in job.vectors.values()]
        assert len({round(norm / norms[0], 1) for norm in norms}) == 3
        assert all(vector.dtype is torch.float32 and vector.is_contiguous() for vector in job.vectors.values())


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


def test_library_differs_in_behaviour_but_for_the_two_forms_of_task_arithmetic(run_jobs):
    hashes = {name: behaviour_hash(run_jobs(name, probe_jobs())) for name in library.names() if "slerp" not in name}
    assert hashes["task_arithmetic"] == hashes["weighted_task_arithmetic"]  # with their defaults they are one program
    assert len(set(hashes.values())) == len(hashes) - 1


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
