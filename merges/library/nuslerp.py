"""NuSLERP: interpolate on the arc between two task vectors.

https://en.wikipedia.org/wiki/Slerp (the formula), https://github.com/arcee-ai/mergekit (the method's name)

    tau = sin((1 - t) phi) / sin(phi) * tau_0 + sin(t phi) / sin(phi) * tau_1,   t = w1 / (w0 + w1)

phi is the angle between the two, each parameter tensor taken as one vector; flatten=0 takes an angle for every vector
along the last dimension, and row_wise=1 with it along the first. Parallel vectors are interpolated linearly. Same
numbers as mergekit's `nuslerp` with a base model. Weights whose sum is zero count as equal.
"""

import torch


def unit(vector):
    """Scale to norm 1 along the last dimension; a zero vector stays zero."""
    return vector / torch.linalg.vector_norm(vector, dim=-1, keepdim=True).clamp(min=1e-7)


def merge_models(model_dict, device, *, w0=1.0, w1=1.0, flatten=1, row_wise=0):
    """Spherical interpolation between two task vectors."""
    vectors = [vector.to(device) for vector in model_dict.values()]
    if len(vectors) != 2:
        raise ValueError("nuslerp merges exactly two models")
    a, b = vectors
    shape = a.shape
    t = 0.5 if abs(w0 + w1) < 1e-6 else w1 / (w0 + w1)
    if flatten:
        a = a.reshape(-1)
        b = b.reshape(-1)
    elif row_wise:
        a = a.transpose(0, -1)
        b = b.transpose(0, -1)
    cosine = (unit(a) * unit(b)).sum(dim=-1, keepdim=True).clamp(-1.0, 1.0)
    parallel = 1 - cosine * cosine <= 1e-16
    angle = torch.acos(torch.where(parallel, 0.0, cosine))
    arc = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
    merged = torch.where(parallel, (1 - t) * a + t * b, arc)
    if row_wise and not flatten:
        merged = merged.transpose(0, -1)
    return merged.reshape(shape)
