"""Task arithmetic: add the scaled sum of the task vectors.

https://arxiv.org/abs/2212.04089

    tau = scale * sum_i tau_i

Same numbers as mergekit's `task_arithmetic` with every weight equal to `scale` (or every weight 1 and `lambda: scale`).
"""

import torch


def merge_models(model_dict, device, *, scale=0.4):
    """One scale for the sum of all task vectors."""
    vectors = [vector.to(device) for vector in model_dict.values()]
    merged = torch.zeros_like(vectors[0])
    for vector in vectors:
        merged = merged + vector
    return scale * merged
