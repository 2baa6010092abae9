"""DARE with a weighted sum: drop values at random, rescale the rest, add.

https://arxiv.org/abs/2311.03099

    m_i ~ Bernoulli(density) for every value        tau = scale * sum_i w_i m_i tau_i / density

Dividing by the density (the paper's rescaling) keeps the expectation exact; rescale=0 leaves it out. mergekit's
`dare_linear` rescales to the L1 norm before dropping instead, which comes to the same on large tensors. Masks are drawn
from `rng`, on the CPU, so they are the same on every device. w0 … w7 weigh the experts in the order given; any further
expert shares w7.
"""

import torch


def drop(vector, density, rescale, rng):
    """Keep each value with probability `density`."""
    if density >= 1:
        return vector
    if density <= 0:
        return torch.zeros_like(vector)
    mask = torch.rand(vector.shape, generator=rng) < density
    dropped = vector * mask.to(vector.device)
    return dropped / density if rescale else dropped


def merge_models(
    model_dict,
    device,
    rng,
    *,
    density=0.5,
    scale=0.4,
    rescale=1,
    w0=1.0,
    w1=1.0,
    w2=1.0,
    w3=1.0,
    w4=1.0,
    w5=1.0,
    w6=1.0,
    w7=1.0,
):
    """Drop, rescale, add."""
    weights = [w0, w1, w2, w3, w4, w5, w6, w7]
    vectors = [vector.to(device) for vector in model_dict.values()]
    merged = torch.zeros_like(vectors[0])
    for i, vector in enumerate(vectors):
        merged = merged + weights[min(i, 7)] * drop(vector, density, rescale, rng)
    return scale * merged
