"""Reinforced Agent Merging: add what one expert alone has changed, average what several have.

https://arxiv.org/abs/2601.13572

    c   = number of experts with |tau_i| > epsilon, value by value
    tau = sum_{i: |tau_i| > epsilon} tau_i / c

Same numbers as mergekit's `ram`. With r and alpha an expert's own changes are made larger where it shares many: see `ramplus`.
"""

import torch


def merge_models(model_dict, device, *, epsilon=1e-5):
    """Average over the experts that changed a value."""
    vectors = [vector.to(device) for vector in model_dict.values()]
    merged = torch.zeros_like(vectors[0])
    count = torch.zeros_like(vectors[0])
    for vector in vectors:
        changed = vector.abs() > epsilon
        merged = merged + vector * changed
        count = count + changed
    return merged / count.clamp(min=1)
