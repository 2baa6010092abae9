"""Arcee Fusion: take over the changes that matter most, leave the rest as in the base.

https://arcee.ai (the method's name), https://en.wikipedia.org/wiki/Kullback%E2%80%93Leibler_divergence

    importance = |tau_1| * KL(softmax(theta_1), softmax(base)), the divergence along the last dimension
    threshold  = median + 1.5 * (third quartile - first quartile) of the importance
    tau        = tau_1 where the importance reaches the threshold, else 0

For one expert. Quartiles are values of the tensor (the lower neighbour of the exact place). Same numbers as mergekit's `arcee_fusion` for tensors of at
most a million values; of larger ones mergekit looks at a random million, this program at all.
"""

import torch


def merge_models(model_dict, device, base):
    """Keep the important changes."""
    vectors = [vector.to(device) for vector in model_dict.values()]
    if len(vectors) != 1:
        raise ValueError("arcee_fusion merges exactly one model into the base")
    base = base.to(device)
    p = torch.softmax(base + vectors[0], dim=-1) + 1e-8
    q = torch.softmax(base, dim=-1) + 1e-8
    importance = vectors[0].abs() * (p * torch.log(p / q)).sum(dim=-1, keepdim=True).clamp(min=0)
    ordered = torch.sort(importance.reshape(-1)).values
    last = ordered.numel() - 1
    first, middle, third = ordered[int(0.25 * last)], ordered[int(0.5 * last)], ordered[int(0.75 * last)]
    return vectors[0] * (importance >= middle + 1.5 * (third - first))
