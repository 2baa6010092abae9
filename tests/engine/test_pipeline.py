"""Working ahead: the same items in the same order, no further than allowed, every fault where it is read, no thread left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from engine.pipeline import ahead


def counted(count: int, begun: list[int]) -> Iterator[int]:
    for number in range(count):
        begun.append(number)
        yield number


def test_items_come_in_their_order() -> None:
    assert list(ahead(iter(range(100)), name="x")) == list(range(100))
    assert list(ahead(iter(range(100)), by=1, name="x")) == list(range(100))
    assert list(ahead(iter(()), name="x")) == []


def test_it_works_ahead_as_far_as_allowed_and_no_further() -> None:
    begun: list[int] = []
    second = threading.Event()

    def source() -> Iterator[int]:
        for number in range(5):
            begun.append(number)
            if number == 1:
                second.set()
            yield number

    items = ahead(source(), by=1, name="x")
    assert next(items) == 0
    assert second.wait(10), "the second one is begun while the first is in use"
    assert begun == [0, 1], "and the third is not, though the second is ready"
    assert list(items) == [1, 2, 3, 4]


def test_what_the_source_raises_is_raised_after_the_items_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    items = ahead(source(), name="x")
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)


@pytest.mark.parametrize("by", [1, None])
def test_closing_ends_the_thread_and_closes_the_source_in_it(by: int | None) -> None:
    closed: list[str] = []

    def source() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append(threading.current_thread().name)

    before = threading.active_count()
    items = ahead(source(), by=by, name="worker")
    next(items)
    items.close()
    assert closed == ["worker"]
    assert threading.active_count() == before


def test_a_chain_is_closed_from_its_end() -> None:
    begun: list[int] = []
    before = threading.active_count()
    first = ahead(counted(1000, begun), by=2, name="first")
    second = ahead((2 * number for number in first), by=1, name="second")
    assert [next(second) for _ in range(3)] == [0, 2, 4]
    second.close()
    first.close()
    assert threading.active_count() == before
    assert len(begun) < 10
