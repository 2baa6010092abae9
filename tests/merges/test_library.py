"""The library's programs, run in the sandbox: mergekit's and peft's numbers, and laws that need no oracle."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from merges import library
from merges.contract import signature_of
from merges.errors import UnknownProgramError

GOLDENS = Path(__file__).parent / "goldens"
TENSORS = load_file(GOLDENS / "tensors.safetensors")
CASES = json.loads((GOLDENS / "cases.json").read_text())
SHAPES = [(37,), (12, 17), (3, 5, 8)]
PAIRS_ONLY = {"slerp", "nuslerp"}
ONE_ONLY = {"nearswap", "arcee_fusion"}
RANDOM = {"dare_linear", "dare_ties", "della", "della_linear"}
DARE = {"dare_linear", "dare_ties"}
ORDER_MATTERS = PAIRS_ONLY | ONE_ONLY


def vectors(count: int, shape: tuple[int, ...] = (12, 17), seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(shape, generator=generator)
    return [(i + 1) * (0.5 * shared + torch.randn(shape, generator=generator)) for i in range(count)]


def count_for(name: str) -> int:
    return 1 if name in ONE_ONLY else 2 if name in PAIRS_ONLY else 3


@pytest.mark.parametrize("program", library.names())
def test_program_gives_its_peers_numbers(run_jobs, job, program):
    groups = defaultdict(list)
    for number, case in enumerate(CASES):
        if case["program"] == program:
            groups[json.dumps(case["parameters"])].append((f"out/{number}", case))
    assert groups
    for parameters, cases in groups.items():
        bases = {out: TENSORS[f"{case['shape']}/base"] for out, case in cases}
        jobs = [
            job(
                [TENSORS[f"{case['shape']}/expert_{i}"] - bases[out] for i in range(case["experts"])],
                base=bases[out],
                seed=case.get("seed", 0),
                name=out,
            )
            for out, case in cases
        ]
        merged = run_jobs(program, jobs, json.loads(parameters))
        for out, case in cases:
            off = (bases[out] + merged[out] - TENSORS[out]).abs().max().item()
            assert off < 1e-5, f"off by {off} in {case}"


def test_goldens_cover_every_program():
    assert {case["program"] for case in CASES} == set(library.names())


@pytest.mark.parametrize("program", sorted(DARE))
@pytest.mark.parametrize(("peer", "rescale"), [("mergekit", 0), ("peft", 1)])
def test_goldens_cover_dropping(program, peer, rescale):
    dropping = [c for c in CASES if c["program"] == program and peer in c and c["parameters"]["density"] < 1]
    assert {(c["shape"], c["experts"]) for c in dropping} == {(s, n) for s in ("1d", "2d", "3d") for n in (2, 3, 5)}
    assert all(c["parameters"].get("rescale", 1) == rescale and c["seed"] for c in dropping)


def test_goldens_are_not_all_alike():
    outputs = [TENSORS[f"out/{n}"] for n, case in enumerate(CASES) if case["shape"] == "2d" and case["experts"] == 2]
    distinct = {tuple((output * 1e4).round().flatten().tolist()) for output in outputs}
    assert len(distinct) >= len(outputs) - 4


@pytest.mark.parametrize("name", library.names())
def test_source_states_its_paper_and_numbers_only_as_parameters(name):
    source = library.source(name)
    assert re.search(r"https://(arxiv\.org/abs/\d{4}\.\d{5}|en\.wikipedia\.org/)", source.split('"""')[1])
    assert all(type(value) in (int, float) for value in signature_of(source).parameters.values())


@pytest.mark.parametrize("name", library.names())
def test_shape_is_kept_and_zero_vectors_give_zero(run_jobs, job, name):
    jobs = [job([torch.zeros(shape)] * count_for(name), base=torch.ones(shape), name=str(shape)) for shape in SHAPES]
    for shape, merged in run_jobs(name, jobs).items():
        assert str(tuple(merged.shape)) == shape
        assert merged.abs().max() < 1e-6


@pytest.mark.parametrize("name", sorted(set(library.names()) - RANDOM - ORDER_MATTERS))
def test_order_of_equally_weighted_models_does_not_matter(run, name):
    models = vectors(4)
    torch.testing.assert_close(run(name, models), run(name, models[::-1]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("linear", {}),
        ("task_arithmetic", {"scale": 1 / 3}),
        ("weighted_task_arithmetic", {"w0": 0.2, "w1": 0.5, "w2": 0.3}),
        ("ties", {"density": 1.0}),
        ("dare_ties", {"density": 1.0, "scale": 1.0, "normalize": 1}),
        ("model_stock", {}),
        ("model_stock", {"filter_wise": 1}),
        ("breadcrumbs", {"density": 1.0, "scale": 1 / 3}),
    ],
)
def test_identical_models_merge_to_themselves(run, name, parameters):
    model = vectors(1)[0]
    torch.testing.assert_close(run(name, [model] * 3, **parameters), model, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(PAIRS_ONLY))
def test_identical_models_interpolate_to_themselves(run, name):
    model = vectors(1)[0]
    torch.testing.assert_close(run(name, [model] * 2), model, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["dare_linear", "breadcrumbs"])
def test_density_one_is_task_arithmetic(run, name):
    models = vectors(3)
    torch.testing.assert_close(run(name, models, density=1.0, scale=0.3), run("task_arithmetic", models, scale=0.3))


def test_ties_and_dare_ties_agree_when_nothing_is_dropped(run):
    models = vectors(3)
    ours = run("dare_ties", models, density=1.0, scale=0.7, normalize=1)
    torch.testing.assert_close(ours, run("ties", models, density=1.0, scale=0.7))


@pytest.mark.parametrize("name", [n for n in library.names() if "scale" in signature_of(library.source(n)).parameters])
def test_scale_zero_is_the_base_and_scale_is_linear(run, name):
    models = vectors(3)
    assert not run(name, models, scale=0.0).any()
    torch.testing.assert_close(run(name, models, scale=0.6), 2 * run(name, models, scale=0.3))


def test_weights_are_per_expert_in_order(run):
    models = vectors(3)
    for i, model in enumerate(models):
        only = {f"w{j}": float(i == j) for j in range(3)}
        torch.testing.assert_close(run("weighted_task_arithmetic", models, scale=1.0, **only), model)
        torch.testing.assert_close(run("linear", models, **only), model)


def test_ninth_model_shares_the_last_weight(run):
    models = vectors(9)
    merged = run("weighted_task_arithmetic", models, scale=1.0, **{f"w{j}": float(j == 7) for j in range(8)})
    torch.testing.assert_close(merged, models[7] + models[8])


@pytest.mark.parametrize("name", ["slerp", "nuslerp"])
def test_slerp_ends_at_its_end_points(run, name):
    models, base = vectors(2), torch.randn(12, 17, generator=torch.Generator().manual_seed(9))
    ends = [{"t": 0.0}, {"t": 1.0}] if name == "slerp" else [{"w0": 1.0, "w1": 0.0}, {"w0": 0.0, "w1": 1.0}]
    for model, end in zip(models, ends, strict=True):
        torch.testing.assert_close(run(name, models, base=base, **end), model, rtol=1e-5, atol=1e-5)


def test_slerp_keeps_the_norm_of_models_of_equal_norm(run):
    a, b = (v / v.norm() for v in vectors(2, seed=3))
    for t in (0.2, 0.5, 0.9):
        assert run("slerp", [a, b], t=t).norm().item() == pytest.approx(1.0, abs=1e-5)


def test_slerp_of_nearly_parallel_models_is_linear(run):
    base, models = 100 * torch.ones(12, 17), vectors(2)
    expected = 0.75 * models[0] + 0.25 * models[1]
    torch.testing.assert_close(run("slerp", models, base=base, t=0.25), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(PAIRS_ONLY))
def test_slerp_of_three_models_is_refused(sandbox, run, name):
    with pytest.raises(AssertionError, match="exactly two models"):
        run(name, vectors(3))


@pytest.mark.parametrize("density", [0.0, 0.01, 0.3, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("name", ["ties", "breadcrumbs"])
def test_density_is_the_exact_share_kept_even_among_equal_magnitudes(run, name, density):
    model = torch.randint(1, 4, (20, 20), generator=torch.Generator().manual_seed(1)).float()
    kept = int(run(name, [model, torch.zeros_like(model)], density=density).count_nonzero())
    least = 1 if name == "ties" and density > 0 else 0
    assert kept == max(least, int(density * 400))


def test_first_of_equal_magnitudes_stay(run):
    model, zeros = torch.tensor([2.0, 1.0, -1.0, 1.0, 3.0, -1.0]), torch.zeros(6)
    assert run("ties", [model, zeros], density=0.7).nonzero().flatten().tolist() == [0, 1, 2, 4]
    middle = run("breadcrumbs", [model, zeros], density=0.5, gamma=0.2, scale=1.0)
    assert middle.nonzero().flatten().tolist() == [0, 3, 5]


def test_breadcrumbs_drops_outliers_and_crumbs(run):
    model = torch.arange(1.0, 101.0)
    merged = run("breadcrumbs", [model, torch.zeros(100)], density=0.8, gamma=0.05, scale=1.0)
    assert merged.nonzero().flatten().tolist() == list(range(15, 95))


def test_model_stock_of_orthogonal_experts_stays_at_the_base_and_ignores_their_norm(run):
    a, b = torch.zeros(10), torch.zeros(10)
    a[0], b[1] = 1.0, 1.0
    assert not run("model_stock", [a, b]).any()
    models = vectors(3)
    tiny = run("model_stock", [model * 1e-6 for model in models])
    torch.testing.assert_close(tiny * 1e6, run("model_stock", models), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", sorted(DARE))
def test_dare_keeps_its_rate_and_repeats_with_its_seed(run, name):
    model, zeros, n, density = torch.ones(300, 300), torch.zeros(300, 300), 90_000, 0.3
    merged = run(name, [model, zeros], density=density, scale=1.0, seed=5)
    spread = 5 * (n * density * (1 - density)) ** 0.5
    assert abs(int(merged.count_nonzero()) - n * density) < spread
    assert torch.equal(merged, run(name, [model, zeros], density=density, scale=1.0, seed=5))
    assert not torch.equal(merged, run(name, [model, zeros], density=density, scale=1.0, seed=6))


def test_dare_keeps_the_expectation(run, run_jobs, job):
    models = vectors(3, (8, 9))
    jobs = [job(models, seed=seed, name=str(seed)) for seed in range(400)]
    draws = torch.stack(list(run_jobs("dare_linear", jobs, {"density": 0.5, "scale": 1.0}).values()))
    expected = run("task_arithmetic", models, scale=1.0)
    # variance of one value: (1/p - 1) * sum of squares, here with p = 1/2
    deviation = (sum(m.square() for m in models) / len(draws)).sqrt()
    assert ((draws.mean(0) - expected).abs() < 5 * deviation).all()


@pytest.mark.parametrize("name", ["della", "della_linear"])
def test_della_keeps_the_large_likelier_and_repeats_with_its_seed(run, name):
    model = torch.linspace(0.01, 1.0, 300).repeat(300, 1)
    settings = {"density": 0.4, "epsilon": 0.3, "scale": 1.0, "rescale": 0}
    merged = run(name, [model, torch.zeros_like(model)], seed=5, **settings)
    kept = (merged != 0).float().mean(dim=0)
    expected = torch.linspace(0.1, 0.7, 300)
    assert ((kept - expected).abs() < 5 * (expected * (1 - expected) / 300).sqrt()).all()
    assert torch.equal(merged, run(name, [model, torch.zeros_like(model)], seed=5, **settings))
    assert not torch.equal(merged, run(name, [model, torch.zeros_like(model)], seed=6, **settings))


def test_della_keeps_the_expectation(run, run_jobs, job):
    models = vectors(3, (8, 9))
    jobs = [job(models, seed=seed, name=str(seed)) for seed in range(400)]
    draws = torch.stack(list(run_jobs("della_linear", jobs, {"density": 0.5, "scale": 1.0}).values()))
    deviation = ((1 / 0.35 - 1) * sum(m.square() for m in models) / len(draws)).sqrt()  # at the least probability
    assert ((draws.mean(0) - run("task_arithmetic", models, scale=1.0)).abs() < 5 * deviation).all()


def test_della_of_a_window_that_does_not_fit_is_refused(run):
    with pytest.raises(AssertionError, match="have to lie between 0 and 1"):
        run("della", vectors(2), density=0.9, epsilon=0.2)


def test_dare_masks_of_the_models_are_independent(run):
    ones = torch.ones(300, 300)
    merged = run("dare_linear", [ones, ones], density=0.5, scale=1.0, rescale=0, seed=1)
    shares = [float((merged == k).float().mean()) for k in (0, 1, 2)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.01)


def test_unknown_program_is_one_line_with_a_hint():
    with pytest.raises(UnknownProgramError, match=r"^program 'tie': expected one of .*; did you mean 'ties'\?$"):
        library.source("tie")
    with pytest.raises(UnknownProgramError, match=r"choose one of these$"):
        library.source("../errors")
