from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.weight_buffer import ALIGNMENT, Layout, attach, reserve

SHAPES = st.dictionaries(st.text(min_size=1), st.lists(st.integers(0, 9), max_size=3).map(tuple), max_size=6)
DTYPES = st.sampled_from(["float32", "bfloat16", "float16", "float64"])


@given(shapes=SHAPES, dtype=DTYPES)
def test_places_are_aligned_and_apart(shapes: dict[str, tuple[int, ...]], dtype: str) -> None:
    layout, end = Layout(shapes, dtype), 0
    for name, (start, length) in layout.places().items():
        assert start % ALIGNMENT == 0
        assert start >= end
        assert length == math.prod(shapes[name]) * layout.torch_dtype.itemsize
        end = start + length
    assert layout.size == end


@given(shapes=SHAPES, dtype=DTYPES)
def test_what_one_writes_the_other_reads(shapes: dict[str, tuple[int, ...]], dtype: str) -> None:
    layout = Layout(shapes, dtype)
    memory = reserve(layout)
    try:
        ours, theirs = attach(memory, layout), attach(Path(f"/proc/{os.getpid()}/fd/{memory}"), layout)
    finally:
        os.close(memory)
    for at, (name, shape) in enumerate(shapes.items()):
        assert (ours[name].shape, ours[name].dtype) == (shape, layout.torch_dtype)
        assert not ours[name].any()
        ours[name].fill_(at + 1)
    for at, name in enumerate(shapes):
        assert torch.all(theirs[name] == at + 1)


def test_memory_that_is_gone_is_an_os_error() -> None:
    with pytest.raises(OSError, match="No such file"):
        attach(Path("/proc/self/fd/987654"), Layout({}, "float32"))
