"""TIES: trim, elect a sign for every value, average those that agree.

https://arxiv.org/abs/2306.01708

    trim:   keep the k = max(1, int(density * n)) values of largest magnitude of each task vector, zero the rest
    elect:  s = sign(sum_i w_i tau_i), a sum of exactly zero counting as +
    merge:  tau = scale * sum_{i: sign(w_i tau_i) = s} w_i tau_i / sum_{i: sign(w_i tau_i) = s} w_i

Trimming is per parameter tensor, as in mergekit (the paper's code trims over the whole model). normalize=0 leaves the
division out. Among equal magnitudes the values that come first are kept, so exactly k stay. w0 … w7 weigh the experts
in the order given; any further expert shares w7. Same numbers as mergekit's `ties`.
"""

import torch


def trim(vector, density):
    """Keep the largest magnitudes, exactly k of them."""
    count = vector.numel()
    if density >= 1:
        return vector
    if density <= 0:
        return torch.zeros_like(vector)
    kept = max(1, int(density * count))
    size = vector.abs().reshape(-1)
    edge = torch.kthvalue(size, count - kept + 1).values
    mask = size >= edge
    extra = int(mask.sum()) - kept
    if extra > 0:
        at_edge = torch.nonzero(size == edge).flatten()
        mask[at_edge[-extra:]] = False
    return vector * mask.reshape(vector.shape)


def merge_models(
    model_dict,
    device,
    *,
    density=0.5,
    scale=1.0,
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
    """Trim, elect signs, merge what agrees."""
    weights = [w0, w1, w2, w3, w4, w5, w6, w7]
    used = []
    vectors = []
    for i, vector in enumerate(model_dict.values()):
        used.append(weights[min(i, 7)])
        vectors.append(weights[min(i, 7)] * trim(vector.to(device), density))
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
