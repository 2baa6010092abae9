"""Linear merge (model soup): the weighted average of the experts.

https://arxiv.org/abs/2203.05482

    theta = sum_i w_i theta_i / sum_i w_i      so, in task vectors,      tau = sum_i w_i tau_i / sum_i w_i

w0 … w7 weigh the experts in the order given; any further expert shares w7. Same numbers as mergekit's `linear` with
`normalize: true` and the base not among its models. Weights whose sum is zero give the base.
"""

import torch


def merge_models(model_dict, device, *, w0=1.0, w1=1.0, w2=1.0, w3=1.0, w4=1.0, w5=1.0, w6=1.0, w7=1.0):
    """Weighted average of the task vectors."""
    weights = [w0, w1, w2, w3, w4, w5, w6, w7]
    vectors = [vector.to(device) for vector in model_dict.values()]
    merged = torch.zeros_like(vectors[0])
    total = 0.0
    for i, vector in enumerate(vectors):
        weight = weights[min(i, 7)]
        merged = merged + weight * vector
        total = total + weight
    if abs(total) < 1e-8:
        return torch.zeros_like(merged)
    return merged / total
