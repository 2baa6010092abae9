"""The compiled loops, bit for bit against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from merges import float_bits, kernels
from merges.compiled import Array

ALL = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)


def as_torch(bits: Array) -> torch.Tensor:
    return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)


def test_every_bfloat16_is_read_as_torch_reads_it() -> None:
    values = np.empty(ALL.size, np.float32)
    assert not float_bits.from_bfloat16(ALL, values)
    assert np.array_equal(values.view(np.uint32), as_torch(ALL).float().numpy().view(np.uint32))
    finite = ALL[(ALL & 0x7F80) != 0x7F80]
    assert float_bits.from_bfloat16(finite, np.empty(finite.size, np.float32))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 17, 1023, 1500])
def test_one_value_that_is_not_finite_is_seen(bad: float, place: int) -> None:
    stored = torch.zeros(1501)
    stored[place] = bad
    assert not float_bits.is_finite(stored.numpy())
    bits = stored.to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    zeros, out = np.zeros(1501, np.float32), np.empty(1501, np.float32)
    assert not float_bits.from_bfloat16(bits, out)
    assert not float_bits.difference_of_bfloat16(bits, zeros, out)
    assert not float_bits.bfloat16_sum(zeros, stored.numpy(), np.empty(1501, np.uint16))
    assert not float_bits.float32_sum(zeros, stored.numpy(), out)


def test_rounding_to_bfloat16_is_torchs() -> None:
    rng = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31 - 1, (200_000,), generator=rng, dtype=torch.int64).to(torch.int32)
    values = bits.view(torch.float32)
    halves = (ALL.astype(np.uint32) << 16 | 0x8000).view(np.float32)  # ties, which go to the even neighbour
    values = torch.cat([values, torch.from_numpy(halves)])
    values = values[values.isfinite() & (values.abs() < 3e38)].contiguous()
    out = np.empty(values.numel(), np.uint16)
    assert float_bits.bfloat16_sum(np.zeros(values.numel(), np.float32), values.numpy(), out)
    assert torch.equal(as_torch(out).view(torch.int16), (values + 0.0).to(torch.bfloat16).view(torch.int16))


def test_a_sum_that_rounds_to_infinity_is_not_finite() -> None:
    largest = np.array([torch.finfo(torch.float32).max], np.float32)
    assert not float_bits.bfloat16_sum(np.zeros(1, np.float32), largest, np.empty(1, np.uint16))
    assert float_bits.float32_sum(np.zeros(1, np.float32), largest, np.empty(1, np.float32))


@pytest.mark.parametrize("size", [1, 7, 8, 9, 100_001])
def test_inner_products_are_exact_to_float64(size: int) -> None:
    rows = np.random.default_rng(size).standard_normal((3, size)).astype(np.float32)
    found = np.zeros((1, 3, 3))
    kernels.products(rows, size, found)
    exact = rows.astype(np.float64) @ rows.astype(np.float64).T
    assert np.allclose(found[0], np.triu(exact), rtol=0, atol=1e-11 * size)


def test_inner_products_by_groups_are_those_of_each_group() -> None:
    rows = np.random.default_rng(0).standard_normal((2, 12)).astype(np.float32)
    found = np.zeros((3, 2, 2))
    kernels.products(rows, 4, found)
    for group in range(3):
        alone = np.zeros((1, 2, 2))
        kernels.products(np.ascontiguousarray(rows[:, 4 * group : 4 * group + 4]), 4, alone)
        assert np.array_equal(found[group], alone[0])


@pytest.mark.parametrize("scale", [1.0, 0.3, -2.0])
@pytest.mark.parametrize("divisor", [1.0, 1.7])
def test_a_weighted_sum_in_one_walk_has_the_bits_of_torchs(scale: float, divisor: float) -> None:
    rng = torch.Generator().manual_seed(1)
    models = torch.randn(4, 2500, generator=rng).to(torch.bfloat16)
    models[1, :3], models[2, 5] = models[0, :3], -0.0
    weights = torch.tensor([0.5, -1.25, 3.0])
    base, total = models[0].float(), torch.zeros(2500)
    for model, weight in zip(models[1:], weights, strict=True):
        total = total + weight * (model.float() - base)
    total = total * np.float32(scale) if scale != 1 else total
    total = total / np.float32(divisor) if divisor != 1 else total
    out = np.empty(2500, np.uint16)
    bits = models.view(torch.int16).numpy().view(np.uint16)
    assert float_bits.weighted_bfloat16(bits, weights.numpy(), np.float32(scale), np.float32(divisor), out)
    assert torch.equal(as_torch(out).view(torch.int16), (base + total).to(torch.bfloat16).view(torch.int16))


@pytest.mark.parametrize("model", [0, 1, 3])
@pytest.mark.parametrize("place", [0, 1023, 1024, 1500])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3.3e38])
def test_a_weighted_sum_in_one_walk_sees_what_is_not_finite(model: int, place: int, bad: float) -> None:
    models = torch.zeros(4, 1501, dtype=torch.bfloat16)
    models[model, place] = bad  # the last is finite, and overflows with these weights
    bits = models.view(torch.int16).numpy().view(np.uint16)
    weights, out = np.full(3, 2, np.float32), np.empty(1501, np.uint16)
    assert not float_bits.weighted_bfloat16(bits, weights, np.float32(1), np.float32(1), out)
