"""Task arithmetic with one weight per expert.

https://arxiv.org/abs/2212.04089

    tau = scale * sum_i w_i tau_i

w0 … w7 weigh the experts in the order given; any further expert shares w7. Nothing is normalised. Same numbers as
mergekit's `task_arithmetic` with these weights and `lambda: scale`.
"""

import torch


def merge_models(model_dict, device, *, scale=1.0, w0=0.4, w1=0.4, w2=0.4, w3=0.4, w4=0.4, w5=0.4, w6=0.4, w7=0.4):
    """Weighted sum of the task vectors."""
    weights = [w0, w1, w2, w3, w4, w5, w6, w7]
    vectors = [vector.to(device) for vector in model_dict.values()]
    merged = torch.zeros_like(vectors[0])
    for i, vector in enumerate(vectors):
        merged = merged + weights[min(i, 7)] * vector
    return scale * merged
