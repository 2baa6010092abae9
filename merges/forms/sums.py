"""Weighted sums of task vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from merges.blocks import Blocks, WeightedSum
from merges.forms.common import given_weights, weight_array

__all__ = ["linear", "task_arithmetic", "weighted_task_arithmetic"]


def task_arithmetic(blocks: Blocks, *, scale: float) -> WeightedSum:
    """scale * sum of the task vectors."""
    return WeightedSum(np.ones(blocks.count, np.float32), scale)


def weighted_task_arithmetic(blocks: Blocks, *, scale: float, **given: Any) -> WeightedSum:
    """scale * weighted sum."""
    return WeightedSum(weight_array(blocks.count, given), scale)


def linear(blocks: Blocks, **given: Any) -> WeightedSum:
    """Weighted average; nothing where the weights cancel out."""
    total = 0.0
    for weight in given_weights(blocks.count, given):
        total = total + weight
    if abs(total) < 1e-8:
        return WeightedSum(np.zeros(blocks.count, np.float32))
    return WeightedSum(weight_array(blocks.count, given), divisor=total)
