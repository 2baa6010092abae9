"""Frames arrive whole or not at all. How children live and die is in `test_vllm_evaluator.py`."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.child import MAX_FRAME_BYTES, receive, send

VALUES = st.none() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.lists(st.integers()))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@settings(max_examples=50)
@given(messages=st.lists(st.dictionaries(st.text(), VALUES), max_size=3))
def test_what_is_sent_is_received(messages: list[dict[str, object]]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for message in messages:
            send(ours, message)
        assert [receive(theirs) for _ in messages] == messages


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "was closed"),
        (b"\0\0\0", "was closed"),
        ((10).to_bytes(8, "big") + b"{}", "was closed"),
        ((MAX_FRAME_BYTES + 1).to_bytes(8, "big"), "expected a frame of at most"),
        (b"Traceback", "expected a frame of at most"),
        ((4).to_bytes(8, "big") + b"{'a'", "expected JSON"),
        ((2).to_bytes(8, "big") + b"\xff\xfe", "expected JSON"),
        ((2).to_bytes(8, "big") + b"[]", "expected an object"),
    ],
)
def test_what_is_no_frame_is_the_end_of_the_connection(
    pair: tuple[socket.socket, socket.socket], data: bytes, words: str
) -> None:
    ours, theirs = pair
    ours.sendall(data)
    ours.close()
    with pytest.raises(ConnectionError, match=words):
        receive(theirs)


def test_silence_is_a_time_out(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].settimeout(0.01)
    with pytest.raises(TimeoutError):
        receive(pair[0])
