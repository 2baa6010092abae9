"""Model Breadcrumbs with sign election: mask both tails of every task vector, then add what agrees in sign.

https://arxiv.org/abs/2312.06795 (masking), https://arxiv.org/abs/2306.01708 (election)

    keep the density * n values below the gamma * n largest magnitudes of each task vector, zero the rest
    s   = sign(sum_i w_i tau_i), a sum of exactly zero counting as +
    tau = scale * sum_{i: sign(w_i tau_i) = s} w_i tau_i

normalize=1 divides by the weights that agree, as TIES does; it is 0 by default, as in mergekit's `breadcrumbs_ties`. About
masking and weights see `breadcrumbs`.
"""

import torch


def smallest(size, count):
    """Mask of the `count` smallest values, exactly that many."""
    if count <= 0:
        return torch.zeros_like(size, dtype=torch.bool)
    edge = torch.kthvalue(size, count).values
    mask = size <= edge
    extra = int(mask.sum()) - count
    if extra > 0:
        at_edge = torch.nonzero(size == edge).flatten()
        mask[at_edge[-extra:]] = False
    return mask


def keep_middle(vector, density, gamma):
    """Keep the values between the crumbs and the outliers."""
    if density >= 1:
        return vector
    size = vector.abs().reshape(-1)
    count = size.numel()
    kept = int(density * count)
    outliers = int(gamma * count)
    below = max(0, count - kept - outliers)
    mask = smallest(size, below + kept) & ~smallest(size, below)
    return vector * mask.reshape(vector.shape)


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
    *,
    density=0.9,
    gamma=0.01,
    scale=0.4,
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
    """Mask both tails, elect signs, add what agrees."""
    weights = [w0, w1, w2, w3, w4, w5, w6, w7]
    used = []
    vectors = []
    for i, vector in enumerate(model_dict.values()):
        used.append(weights[min(i, 7)])
        vectors.append(weights[min(i, 7)] * keep_middle(vector.to(device), density, gamma))
    merged, divisor = agreeing(vectors, used)
    if normalize:
        merged = merged / torch.where(divisor == 0, 1.0, divisor)
    return scale * merged
