"""DELLA: drop values at random, small ones likelier, rescale the rest, average those that agree in sign.

https://arxiv.org/abs/2406.11617 (dropping), https://arxiv.org/abs/2306.01708 (election)

    rank the magnitudes of tau_i along the second dimension (a 1-D tensor is one row), r from 0 to 1
    p = density - epsilon + 2 epsilon r                        probability to keep a value: the larger, the likelier
    d_i = m_i tau_i / p,  m_i ~ Bernoulli(p) for every value
    s   = sign(sum_i w_i d_i), a sum of exactly zero counting as +
    tau = scale * sum_{i: sign(w_i d_i) = s} w_i d_i / sum_{i: sign(w_i d_i) = s} w_i

normalize=0 leaves the division out.
Dividing by the own probability (the paper's rescaling) keeps the expectation exact; rescale=0 leaves it out. mergekit's `della`
rescales to the L1 norm before dropping instead. Masks are drawn from `rng`, on the CPU, so they are the same on every device. w0 … w7 weigh the
experts in the order given; any further expert shares w7.
"""

import torch


def drop(vector, density, epsilon, rescale, rng):
    """Keep each value with the probability of its rank."""
    if density >= 1:
        return vector
    if density <= 0:
        return torch.zeros_like(vector)
    if density + epsilon >= 1 or density - epsilon <= 0:
        raise ValueError("density + epsilon and density - epsilon have to lie between 0 and 1")
    rows = vector.reshape(1, -1) if vector.dim() < 2 else vector
    order = torch.argsort(rows.abs(), dim=1, stable=True)
    ranks = torch.argsort(order, dim=1).to(torch.float32)
    share = ranks / max(rows.shape[1] - 1, 1) if rows.shape[1] > 1 else torch.full_like(ranks, 0.5)
    keep = (density - epsilon) + share * 2 * epsilon
    mask = torch.rand(keep.shape, generator=rng).to(vector.device) < keep
    dropped = rows * mask
    return (dropped / keep if rescale else dropped).reshape(vector.shape)


def agreeing(vectors, weights):
    """The sum of the values whose sign is that of the sum (zero counting as +), and the sum of their weights."""
    total = torch.zeros_like(vectors[0])
    for vector in vectors:
        total = total + vector
    elected = torch.where(total >= 0, 1.0, -1.0)
    merged = torch.zeros_like(total)
    divisor = torch.zeros_like(total)
    for weight, vector in zip(weights, vectors, strict=True):
        agrees = torch.sign(vector) == elected
        merged = merged + vector * agrees
        divisor = divisor + weight * agrees
    return merged, divisor


def merge_models(
    model_dict,
    device,
    rng,
    *,
    density=0.5,
    epsilon=0.15,
    scale=1.0,
    rescale=1,
    normalize=1,
    w0=1.0,
    w1=1.0,
    w2=1.0,
    w3=1.0,
    w4=1.0,
    w5=1.0,
    w6=1.0,
    w7=1.0,
):
    """Drop by rank, rescale, elect signs, merge what agrees."""
    weights = [w0, w1, w2, w3, w4, w5, w6, w7]
    used = []
    vectors = []
    for i, vector in enumerate(model_dict.values()):
        used.append(weights[min(i, 7)])
        vectors.append(weights[min(i, 7)] * drop(vector.to(device), density, epsilon, rescale, rng))
    merged, divisor = agreeing(vectors, used)
    if normalize:
        merged = merged / torch.where(divisor == 0, 1.0, divisor)
    return scale * merged
