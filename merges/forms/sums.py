"""Weighted sums of task vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from merges.blocks import Blocks
from merges.forms.common import Merged, given_weights, weight_array, weighted_sum

__all__ = ["linear", "task_arithmetic", "weighted_task_arithmetic"]


def task_arithmetic(blocks: Blocks, *, scale: float) -> Merged:
    """scale * sum of the task vectors."""
    ones = np.ones(blocks.count, np.float32)
    for span in blocks.spans():
        yield weighted_sum(blocks, blocks.vectors(*span), ones, scale)


def weighted_task_arithmetic(blocks: Blocks, *, scale: float, **given: Any) -> Merged:
    """scale * weighted sum."""
    weights = weight_array(blocks.count, given)
    for span in blocks.spans():
        yield weighted_sum(blocks, blocks.vectors(*span), weights, scale)


def linear(blocks: Blocks, **given: Any) -> Merged:
    """Weighted average."""
    weights, total = weight_array(blocks.count, given), 0.0
    for weight in given_weights(blocks.count, given):
        total = total + weight
    for span in blocks.spans():
        merged = weighted_sum(blocks, blocks.vectors(*span), weights)
        if abs(total) < 1e-8:
            merged[:] = 0
        else:
            np.divide(merged, np.float32(total), out=merged)
        yield merged
