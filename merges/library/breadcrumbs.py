"""Model Breadcrumbs: drop both the largest outliers and the smallest values of each task vector, then add.

https://arxiv.org/abs/2312.06795

    sort the n magnitudes of tau_i; of the ascending order keep int(density * n) values below the top int(gamma * n)
    tau = scale * sum_i w_i kept(tau_i)

density is the share that stays and gamma the share of outliers, as in mergekit's `breadcrumbs` (the paper's beta and
gamma are quantiles: beta = 1 - density - gamma from below, gamma from above). Where the two shares do not fit together
the density wins. density=1 keeps everything, outliers too. Nothing is rescaled. Per parameter tensor; among equal
magnitudes those that come first count as smaller. w0 … w7 weigh the experts in the order given; any further shares w7.
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


def merge_models(
    model_dict,
    device,
    *,
    density=0.9,
    gamma=0.01,
    scale=0.4,
    w0=1.0,
    w1=1.0,
    w2=1.0,
    w3=1.0,
    w4=1.0,
    w5=1.0,
    w6=1.0,
    w7=1.0,
):
    """Mask both tails of every task vector and add."""
    weights = [w0, w1, w2, w3, w4, w5, w6, w7]
    vectors = [vector.to(device) for vector in model_dict.values()]
    merged = torch.zeros_like(vectors[0])
    for i, vector in enumerate(vectors):
        merged = merged + weights[min(i, 7)] * keep_middle(vector, density, gamma)
    return scale * merged
