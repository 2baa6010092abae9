"""What a program makes of each tensor: the weighted sum of the task vectors that comes nearest, and what no weighted sum explains.

Every merge of task vectors can be held against the plainest one, Σ wᵢ·vᵢ: where the rest is 0 the program is that sum with these weights; where it is not, the
rest is what trimming, signs or masks do.
"""

from __future__ import annotations

import numpy as np
import torch

from engine.records import Effect
from sandbox import TensorJob


def effect(job: TensorJob, merged: torch.Tensor) -> Effect:
    """The effect on one tensor.

    Args:
        job: with the task vectors.
        merged: what the program made of them, in their shape.
    """
    vectors = np.stack([vector.numpy().ravel() for vector in job.vectors.values()]).astype(np.float64)
    result = merged.to(torch.float64).numpy().ravel()
    products, against = vectors @ vectors.T, vectors @ result
    weights = np.linalg.lstsq(products, against, rcond=None)[0]
    norm, lengths = float(result @ result), np.sqrt(np.diag(products))
    left = result - weights @ vectors
    mean = float(lengths.mean())
    return Effect(
        tensor=job.name,
        weights={name: float(weight) for name, weight in zip(job.vectors, weights, strict=True)},
        rest=min(1.0, float(left @ left) / norm) if norm else 0.0,
        size=norm**0.5 / mean if mean else 0.0,
        density=float(np.count_nonzero(result)) / result.size if result.size else 0.0,
    )
