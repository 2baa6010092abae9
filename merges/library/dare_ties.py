"""DARE with sign election: drop values at random, rescale the rest, add those that agree in sign.

https://arxiv.org/abs/2311.03099 (dropping), https://arxiv.org/abs/2306.01708 (election)

    d_i = m_i tau_i / density,  m_i ~ Bernoulli(density) for every value
    s   = sign(sum_i w_i d_i), a sum of exactly zero counting as +
    tau = scale * sum_{i: sign(w_i d_i) = s} w_i d_i

normalize=1 divides by the weights that agree, as TIES does; it is 0 by default, as in mergekit's `dare_ties`. About
rescaling, masks and weights see `dare_linear`.
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
    normalize=0,
    w0=1.0,
    w1=1.0,
    w2=1.0,
    w3=1.0,
    w4=1.0,
    w5=1.0,
    w6=1.0,
    w7=1.0,
):
    """Drop, rescale, elect signs, add what agrees."""
    weights = [w0, w1, w2, w3, w4, w5, w6, w7]
    used = []
    vectors = []
    for i, vector in enumerate(model_dict.values()):
        used.append(weights[min(i, 7)])
        vectors.append(weights[min(i, 7)] * drop(vector.to(device), density, rescale, rng))
    total = torch.zeros_like(vectors[0])
    for vector in vectors:
        total = total + vector
    elected = torch.where(total >= 0, 1.0, -1.0)
    merged = torch.zeros_like(total)
    divisor = torch.zeros_like(total)
    for weight, vector in zip(used, vectors, strict=True):
        agrees = torch.sign(vector) == elected
        merged = merged + vector * agrees
        divisor = divisor + weight * agrees
    if normalize:
        merged = merged / torch.where(divisor == 0, 1.0, divisor)
    return scale * merged
