"""SLERP of two whole models: interpolate on the arc between their weights.

https://en.wikipedia.org/wiki/Slerp

    theta = sin((1 - t) phi) / sin(phi) * theta_0 + sin(t phi) / sin(phi) * theta_1,   phi = angle(theta_0, theta_1)

theta_i = base + tau_i is each parameter tensor as one vector; the result less the base is returned. t=0 gives the first
model, t=1 the second. Where the two are nearly parallel or opposed (|cos phi| > 0.9995), and fine-tunes of one base
mostly are, it interpolates linearly. Same numbers as mergekit's `slerp` with the first model as its base_model.
For the arc between the task vectors themselves see `nuslerp`.
"""

import torch


def merge_models(model_dict, device, base, *, t=0.5):
    """Spherical interpolation between two models."""
    vectors = [vector.to(device) for vector in model_dict.values()]
    if len(vectors) != 2:
        raise ValueError("slerp merges exactly two models")
    base = base.to(device)
    a = base + vectors[0]
    b = base + vectors[1]
    norm_a = torch.linalg.vector_norm(a)
    norm_b = torch.linalg.vector_norm(b)
    unit_a = a / torch.where(norm_a > 1e-8, norm_a, 1.0)
    unit_b = b / torch.where(norm_b > 1e-8, norm_b, 1.0)
    dot = (unit_a * unit_b).sum().clamp(-1.0, 1.0)
    if dot.abs() > 0.9995:
        return (1 - t) * vectors[0] + t * vectors[1]
    angle = torch.acos(dot)
    sine = torch.sin(angle)
    return torch.sin((1 - t) * angle) / sine * a + torch.sin(t * angle) / sine * b - base
