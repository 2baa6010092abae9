"""Library merges in streamed form: the same arithmetic as the program of that name, block by block and outside a sandbox.

A form says of which weighted sum the merged task vector consists, or yields its blocks in order, as float32 in the scratch of its worker, each to be
used before the next is asked for. What needs to know the whole tensor first (a rank, an angle) makes a pass of its own over it: the inputs are in the system's cache by then. Operations and
their order are the program's, so the bits are too, but for sums over a whole tensor or row, which are taken in float64 here
(`tests/merges/test_streamed.py` holds every form equal to its program).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from merges import library
from merges.blocks import Blocks, WeightedSum
from merges.contract import program_id
from merges.forms import angles, changes, masks, sums
from merges.forms.common import Merged, row_elements, slice_elements

__all__ = ["FORMS", "Form", "form_of"]


@dataclass(frozen=True)
class Form:
    """A merge in streamed form.

    Attributes:
        name: the library program's.
        merge: `merge(Blocks, **hyper-parameters)` gives the merged task vector, or raises ValueError where they are of no use.
        takes: how many experts; None: any number. With another number the program says so itself, in the sandbox.
        unit: elements of a tensor of this shape that are only of use together (rows that are ranked or measured).
        rows: how many rows or columns of such a tensor it keeps inner products of, with these hyper-parameters.
    """

    name: str
    merge: Callable[..., Merged | WeightedSum]
    takes: int | None = None
    unit: Callable[[Sequence[int]], int] = lambda shape: 1
    rows: Callable[[Sequence[int], Mapping[str, Any]], int] = lambda shape, parameters: 0

    def blocks(self, blocks: Blocks, **parameters: Any) -> Merged:
        """The merged task vector's blocks."""
        merged = self.merge(blocks, **parameters)
        return (blocks.summed(merged, *span) for span in blocks.spans()) if isinstance(merged, WeightedSum) else merged

    def onto_base(self, blocks: Blocks, dtype: torch.dtype, **parameters: Any) -> Iterator[Tensor | None]:
        """The merged model's blocks, rounded to `dtype`; None for one that overflows it."""
        merged = self.merge(blocks, **parameters)
        if isinstance(merged, WeightedSum):
            return (blocks.summed_onto_base(merged, *span, dtype) for span in blocks.spans())
        return blocks.onto_base(merged, dtype)


def _rows(shape: Sequence[int], parameters: Mapping[str, Any]) -> int:
    """Of the last dimension, where they are measured one by one."""
    return math.prod(shape) // row_elements(shape) if parameters.get("filter_wise", True) and len(shape) > 1 else 0


def _arcs(shape: Sequence[int], parameters: Mapping[str, Any]) -> int:
    """Of nuslerp: rows, or columns, or the tensor as a whole."""
    if parameters.get("flatten"):
        return 0
    return slice_elements(shape) if parameters.get("row_wise") and len(shape) > 1 else _rows(shape, {})


FORMS: Mapping[str, Form] = {
    form.name: form
    for form in (
        Form("arcee_fusion", changes.arcee_fusion, takes=1, unit=row_elements, rows=_rows),
        Form("breadcrumbs", masks.breadcrumbs),
        Form("breadcrumbs_ties", masks.breadcrumbs_ties),
        Form("dare_linear", masks.dare_linear),
        Form("dare_ties", masks.dare_ties),
        Form("della", masks.della, unit=slice_elements),
        Form("della_linear", masks.della_linear, unit=slice_elements),
        Form("karcher", angles.karcher),
        Form("linear", sums.linear),
        Form("model_stock", angles.model_stock, unit=row_elements, rows=_rows),
        Form("multislerp", angles.multislerp),
        Form("nearswap", changes.nearswap, takes=1),
        Form("nuslerp", angles.nuslerp, takes=2, unit=slice_elements, rows=_arcs),
        Form("ram", changes.ram),
        Form("ramplus", changes.ramplus),
        Form("sce", changes.sce),
        Form("slerp", angles.slerp, takes=2),
        Form("task_arithmetic", sums.task_arithmetic),
        Form("ties", masks.ties),
        Form("weighted_task_arithmetic", sums.weighted_task_arithmetic),
    )
}
"""Library name -> streamed form."""


def form_of(program: str, experts: int) -> Form | None:
    """The streamed form of the program with this id, if it is a library program that has one for so many experts."""
    found = _by_program().get(program)
    return found if found is not None and found.takes in (None, experts) else None


@cache
def _by_program() -> Mapping[str, Form]:
    """Program id -> form; naming the whole library takes some 50 ms."""
    return {program_id(library.source(name)): form for name, form in FORMS.items()}
