"""Multi-SLERP: interpolate several task vectors on the sphere, in the tangent space at their mean.

https://goddard.blog/posts/multislerp-wow-what-a-cool-idea (the method), https://en.wikipedia.org/wiki/Slerp

    u_i = tau_i / |tau_i|,   m = normalised sum_i w_i u_i,   v = sum_i w_i (u_i - (u_i . m) m)
    tau = sum_i w_i |tau_i| * (cos(|v|) m + sin(|v|) v / |v|)

Each parameter tensor is one vector; the weights are divided by their sum. Two task vectors that cancel are interpolated linearly; more that do have no
mean direction, and the program fails. w0 … w7 weigh the experts in the order given; any further expert shares w7. Same numbers as
mergekit's `multislerp` with a base model.
"""

import torch


def merge_models(model_dict, device, *, w0=1.0, w1=1.0, w2=1.0, w3=1.0, w4=1.0, w5=1.0, w6=1.0, w7=1.0):
    """Barycentric interpolation on the sphere."""
    given = [w0, w1, w2, w3, w4, w5, w6, w7]
    vectors = [vector.to(device) for vector in model_dict.values()]
    if len(vectors) == 1:
        return vectors[0]
    used = torch.tensor([given[min(i, 7)] for i in range(len(vectors))], device=device)
    weights = used / used.sum()
    tiny = 1e-8
    flat = torch.stack(vectors).reshape(len(vectors), -1)
    norms = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    units = flat / (norms + tiny)
    mean = (units * weights.reshape(-1, 1)).sum(dim=0)
    length = torch.linalg.vector_norm(mean)
    if length < tiny:
        if len(vectors) > 2 and norms.max() > 0:
            raise ValueError("the weighted directions cancel; give other weights")
        return (flat * weights.reshape(-1, 1)).sum(dim=0).reshape(vectors[0].shape)
    mean = mean / length
    tangents = units - (units * mean).sum(dim=1, keepdim=True) * mean
    step = (tangents * weights.reshape(-1, 1)).sum(dim=0)
    angle = torch.linalg.vector_norm(step) + tiny
    merged = mean * torch.cos(angle) + step * (torch.sin(angle) / angle)
    return (merged * (norms.reshape(-1) * weights).sum()).reshape(vectors[0].shape)
