"""Model Stock: go from the base towards the experts' mean, as far as their angle says.

https://arxiv.org/abs/2403.19522

    c   = mean over pairs i < j of cos(tau_i, tau_j)
    t   = N c / (1 + (N - 1) c)
    tau = t * mean_i tau_i

Per parameter tensor; filter_wise=1 computes an angle for every vector along the last dimension (a 1-D tensor is one
vector). Where the denominator vanishes (opposed experts) t is 0: the base stays. Same numbers as mergekit's
`model_stock`, except that mergekit treats a product of norms below 1e-6 as 1e-6 and so shrinks small tensors towards
the base; here the angle does not depend on the norms at all. One expert alone is returned as it is.
"""

import torch


def cosine(a, b):
    """Cosine along the last dimension; zero vectors have cosine 0."""
    dot = (a * b).sum(dim=-1)
    norms = torch.linalg.vector_norm(a, dim=-1) * torch.linalg.vector_norm(b, dim=-1)
    return torch.where(norms > 0, dot / torch.where(norms > 0, norms, 1.0), 0.0).clamp(-1.0, 1.0)


def merge_models(model_dict, device, *, filter_wise=0):
    """Interpolate between the base and the mean of the experts."""
    vectors = [vector.to(device) for vector in model_dict.values()]
    count = len(vectors)
    if count < 2:
        return vectors[0]
    shape = vectors[0].shape
    if not filter_wise or len(shape) < 2:
        vectors = [vector.reshape(1, -1) for vector in vectors]
    cosines = []
    for i in range(count):
        for j in range(i + 1, count):
            cosines.append(cosine(vectors[i], vectors[j]))
    angle = torch.stack(cosines).mean(dim=0).unsqueeze(-1)
    denominator = 1 + (count - 1) * angle
    singular = denominator.abs() < 1e-6
    ratio = torch.where(singular, 0.0, count * angle / torch.where(singular, 1.0, denominator))
    mean = torch.stack(vectors).mean(dim=0)
    return (ratio * mean).reshape(shape)
