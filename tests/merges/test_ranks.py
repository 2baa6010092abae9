"""Which magnitudes are among the largest or the smallest, against a plain stable sort."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merges import ranks
from merges.blocks import Array

VALUES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.5, 2.0**-130, -(2.0**-149), 3e38]), st.floats(width=32, allow_nan=False, allow_infinity=False)
)  # fmt: skip
DATA = st.lists(VALUES, min_size=1, max_size=60).map(lambda values: np.array(values, np.float32))


def cut(values: Array, block: int) -> list[Array]:
    return [values[None, start : start + block] for start in range(0, values.size, block)]


def order(values: Array) -> Array:
    """Places by magnitude, the smallest first, of equal ones the first first."""
    return np.argsort(np.abs(values), kind="stable")


def kept(choice: ranks.Kept, values: Array, block: int) -> Array:
    """Which values it keeps: ones in place of the values, which may be zero."""
    found = []
    for part in cut(values, block):
        bits = part[0].copy()
        out = np.empty_like(bits)
        choice.trim(bits, np.float32(1), out)
        found.append(out)
    return np.concatenate(found)


@given(values=DATA, block=st.integers(1, 70), place=st.integers(0, 59))
@settings(deadline=None)
def test_what_stands_at_a_place(values: Array, block: int, place: int) -> None:
    place %= values.size
    ((rank,),) = ranks.at_ranks(lambda: iter(cut(values, block)), [[place]])
    sizes = np.abs(values)
    assert rank.value == np.sort(sizes)[place]
    assert rank.before == np.count_nonzero(sizes < rank.value)
    assert rank.equal == np.count_nonzero(sizes == rank.value)


@given(values=DATA, block=st.integers(1, 70), count=st.integers(1, 60))
@settings(deadline=None)
def test_the_largest_of_equal_ones_the_first(values: Array, block: int, count: int) -> None:
    count = min(count, values.size)
    ((rank,),) = ranks.at_ranks(lambda: iter(cut(values, block)), [[values.size - count]])
    expected = np.zeros(values.size, bool)
    expected[np.lexsort((np.arange(values.size), -np.abs(values).astype(np.float64)))[:count]] = True
    assert np.array_equal(kept(ranks.largest(rank, count, values.size), values, block), np.where(expected, values, 0))


@given(values=DATA, block=st.integers(1, 70), dropped=st.integers(0, 60), count=st.integers(0, 60))
@settings(deadline=None)
def test_the_middle_of_the_ascending_order(values: Array, block: int, dropped: int, count: int) -> None:
    dropped = min(dropped, values.size)
    count = min(count, values.size - dropped)
    places = [place for place in (dropped - 1, dropped + count - 1) if place >= 0] if count else []

    def data() -> Iterator[Array]:
        return iter(cut(values, block))

    found = ranks.at_ranks(data, [places])[0]
    choice = ranks.middle(found[0] if len(found) > 1 else None, found[-1] if found else None, dropped, count)
    expected = np.zeros(values.size, bool)
    expected[order(values)[dropped : dropped + count]] = True
    assert np.array_equal(kept(choice, values, block), np.where(expected, values, 0))


def test_a_row_of_which_nothing_is_asked_has_no_answer() -> None:
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    first, second = ranks.at_ranks(lambda: iter([rows]), [[], [0, 3]])
    assert first == []
    assert [rank.value for rank in second] == [4, 7]


@given(values=DATA, place=st.integers(0, 59))
@settings(deadline=None)
def test_sorting_and_counting_find_the_same(values: Array, place: int) -> None:
    place %= values.size
    sorted_ones = ranks.at_ranks(lambda: iter(cut(values, 60)), [[place, 0]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "_SORTED", 0)
        assert ranks.at_ranks(lambda: iter(cut(values, 60)), [[place, 0]]) == sorted_ones


@pytest.mark.parametrize("block", [1, 1000, 1024, 1025, 5000])
def test_edges_that_lie_inside_a_tile(block: int) -> None:
    values = np.tile(np.array([3, -3, 1, 5], np.float32), 1250)
    for count in (1250, 1251, 3000, 3750, 3751):
        ((rank,),) = ranks.at_ranks(lambda: iter(cut(values, block)), [[values.size - count]])
        found = kept(ranks.largest(rank, count, values.size), values, block)
        assert np.count_nonzero(found) == count
        assert np.count_nonzero(found == 5) == 1250
