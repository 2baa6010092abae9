"""A tensor's data as bytes: what is written to disk and what is hashed, without a copy."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["tensor_bytes"]


def tensor_bytes(tensor: Tensor) -> memoryview:
    """View a CPU tensor's elements in row-major order, as stored in a little-endian file. Any dtype, any shape."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
