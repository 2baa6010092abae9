"""Karcher mean: the point on the sphere with the least sum of squared arc lengths to the experts' weights.

https://arxiv.org/abs/2603.04972, https://en.wikipedia.org/wiki/Fr%C3%A9chet_mean

theta_i = base + tau_i is each parameter tensor as one vector, u_i = theta_i / |theta_i|. From the normalised mean of the u_i,

    v    = mean_i angle(m, u_i) / sin(angle(m, u_i)) * (u_i - cos(angle) m)
    m    <- cos(|v|) m + sin(|v|) v / |v|

until |v| < tolerance or `steps` times; the result has the mean of the experts' norms; less the base it is returned. Tensors of norm
below the tolerance have no direction and count for the norm alone; an expert opposite to m pulls nowhere. Same numbers as mergekit's `karcher` without a
base model.
"""

import torch


def merge_models(model_dict, device, base, *, steps=10, tolerance=1e-5):
    """Mean on the sphere."""
    base = base.to(device)
    models = [base + vector.to(device) for vector in model_dict.values()]
    norms = [torch.linalg.vector_norm(model) for model in models]
    units = [model / norm for model, norm in zip(models, norms, strict=True) if norm > tolerance]
    if not units:
        return -base
    mean = sum(units) / len(units)
    length = torch.linalg.vector_norm(mean)
    mean = units[0] if length < tolerance else mean / length
    for _ in range(int(steps)):
        step = torch.zeros_like(mean)
        for unit in units:
            cosine = (mean * unit).sum().clamp(-1.0, 1.0)
            tangent = unit - cosine * mean
            sine = torch.linalg.vector_norm(tangent)
            if sine >= tolerance:
                step = step + torch.atan2(sine, cosine) / sine * tangent / len(units)
        length = torch.linalg.vector_norm(step)
        if length < tolerance:
            break
        mean = torch.cos(length) * mean + torch.sin(length) * step / length
        mean = mean / torch.linalg.vector_norm(mean)
    return sum(norms) / len(norms) * mean - base
