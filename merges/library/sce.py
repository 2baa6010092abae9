"""SCE: select the values that vary most between the experts, calculate a weight for each expert, erase minority signs.

https://arxiv.org/abs/2408.07990

    select:    keep the values whose variance over the experts is among the int(density * number that vary) largest
    calculate: w_i = mean(tau_i^2) / sum_j mean(tau_j^2), over the kept values
    erase:     s = sign(sum_i tau_i), a sum of exactly zero counting as +
    tau = sum_{i: sign(tau_i) = s} w_i tau_i / sum_{i: sign(tau_i) = s} w_i

Per parameter tensor. Where task vectors are so small that the sum of their mean squares is below 1e-6, all weights are
equal, as in mergekit. Same numbers as mergekit's `sce` with `select_topk: density`.
"""

import torch


def largest(values, count):
    """Mask of the `count` largest values, of equal ones those that come first."""
    flat = values.reshape(-1)
    edge = torch.kthvalue(flat, flat.numel() - count + 1).values
    mask = flat >= edge
    extra = int(mask.sum()) - count
    if extra > 0:
        at_edge = torch.nonzero(flat == edge).flatten()
        mask[at_edge[-extra:]] = False
    return mask.reshape(values.shape)


def variance(vectors):
    """Variance over the experts, value by value."""
    mean = sum(vectors) / len(vectors)
    return sum((vector - mean).square() for vector in vectors) / len(vectors)


def merge_models(model_dict, device, *, density=1.0):
    """Select, calculate, erase."""
    vectors = [vector.to(device) for vector in model_dict.values()]
    if density < 1:
        spread = variance(vectors)
        count = int(int(torch.count_nonzero(spread)) * density)
        if count <= 0:
            return torch.zeros_like(vectors[0])
        mask = largest(spread, count)
        vectors = [vector * mask for vector in vectors]
    elected = torch.where(sum(vectors) >= 0, 1.0, -1.0)
    energy = torch.stack([vector.square().mean() for vector in vectors])
    total = energy.sum()
    weights = energy / total if total.abs() >= 1e-6 else torch.ones_like(energy) / len(vectors)
    merged = torch.zeros_like(vectors[0])
    divisor = torch.zeros_like(vectors[0])
    for weight, vector in zip(weights, vectors, strict=True):
        agrees = torch.sign(vector) == elected
        merged = merged + weight * (vector * agrees)
        divisor = divisor + weight * agrees
    return merged / divisor.clamp(min=1e-6)
