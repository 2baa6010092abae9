"""Reinforced Agent Merging Plus, tensor by tensor: as `ram`, and an expert's own changes are made larger where it shares many.

https://arxiv.org/abs/2601.13572

    rho_i    = (values that expert i and others have changed) / (values that it alone has changed)
    lambda_i = 1 + r * min(rho_i, alpha)
    tau      = lambda_i tau_i where expert i alone has changed a value, the mean of the changed where several have

A value has changed where |tau_i| > epsilon. Same numbers as mergekit's `ramplus_tl`.
"""

import torch


def merge_models(model_dict, device, *, r=0.1, alpha=0.2, epsilon=1e-5):
    """Average what is shared, reinforce what is not."""
    vectors = [vector.to(device) for vector in model_dict.values()]
    count = sum((vector.abs() > epsilon).to(torch.float32) for vector in vectors)
    merged = torch.zeros_like(vectors[0])
    for vector in vectors:
        changed = vector.abs() > epsilon
        alone = changed & (count == 1)
        shared = changed & (count > 1)
        rho = shared.sum() / alone.sum().clamp(min=epsilon)
        reinforced = 1 + r * rho.clamp(min=0, max=alpha)
        merged = merged + torch.where(alone, vector * reinforced, vector * shared / count.clamp(min=1))
    return merged
