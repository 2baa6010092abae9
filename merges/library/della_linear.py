"""DELLA with a weighted sum: drop values at random, small ones likelier, rescale the rest, add.

https://arxiv.org/abs/2406.11617

    rank the magnitudes of tau_i along the second dimension (a 1-D tensor is one row), r from 0 to 1
    p = density - epsilon + 2 epsilon r                        probability to keep a value: the larger, the likelier
    d_i = m_i tau_i / p,  m_i ~ Bernoulli(p) for every value
    tau = scale * sum_i w_i d_i

Dividing by the own probability (the paper's rescaling) keeps the expectation exact; rescale=0 leaves it out. mergekit's `della_linear`
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


def merge_models(
    model_dict,
    device,
    rng,
    *,
    density=0.5,
    epsilon=0.15,
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
    """Drop by rank, rescale, add."""
    weights = [w0, w1, w2, w3, w4, w5, w6, w7]
    vectors = [vector.to(device) for vector in model_dict.values()]
    merged = torch.zeros_like(vectors[0])
    for i, vector in enumerate(vectors):
        merged = merged + weights[min(i, 7)] * drop(vector, density, epsilon, rescale, rng)
    return scale * merged
