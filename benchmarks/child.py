"""A child process that is talked to in frames, from its start to its certain end.

A frame is eight bytes of length and one JSON object, over a socket pair of which the child is given one end. The child leads a
session of its own: Ctrl-C is for the campaign, and what it starts is ended with it, as one group.
"""

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Message = dict[str, Any]
"""One JSON object."""

MAX_FRAME_BYTES = 1 << 31
"""What is larger is not ours: ten thousand answers of ten thousand tokens take a third of it."""
LAST_WORDS_BYTES = 4096

_LENGTH = struct.Struct(">Q")


def send(connection: socket.socket, message: Message) -> None:
    """Writes one frame.

    Raises:
        OSError: nobody reads, or not in time.
    """
    body = json.dumps(message).encode()
    connection.sendall(_LENGTH.pack(len(body)) + body)


def receive(connection: socket.socket) -> Message:
    """Reads one frame.

    Raises:
        ConnectionError: the other side has closed, or does not speak in frames.
        TimeoutError: nothing came for as long as the socket waits.
    """
    (length,) = _LENGTH.unpack(_read(connection, _LENGTH.size))
    if length > MAX_FRAME_BYTES:
        raise ConnectionError(f"expected a frame of at most {MAX_FRAME_BYTES} bytes, got {length}")
    body = _read(connection, length)
    try:
        message = json.loads(body)
    except ValueError as error:
        raise ConnectionError(f"expected JSON, got {body[:40]!r}") from error
    if not isinstance(message, dict):
        raise ConnectionError(f"expected an object, got {body[:40]!r}")
    return message


def _read(connection: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        part = connection.recv(min(length - len(parts), 1 << 20))
        if not part:
            raise ConnectionError("the connection was closed")
        parts += part
    return bytes(parts)


class Child:
    """One process.

    Args:
        command: what to run; the number of its end of the socket is appended as the last argument.
        environment: all of it.
        folder: its working directory.
        descriptors: that it is to have as well, under the same numbers.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: str | Path, descriptors: Sequence[int]
    ) -> None:
        with contextlib.ExitStack() as opened:
            self._connection, theirs = socket.socketpair()
            opened.enter_context(self._connection)
            with theirs:
                self._log = opened.enter_context(tempfile.TemporaryFile())
                self._process = subprocess.Popen(
                    [*command, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=self._log,
                    stderr=subprocess.STDOUT,
                    env=dict(environment),
                    cwd=folder,
                    pass_fds=(theirs.fileno(), *descriptors),
                    start_new_session=True,
                )
            self._opened = opened.pop_all()
        self.pid = self._process.pid

    def ask(self, request: Message, seconds: float) -> Message:
        """The next frame that is no mere sign of life ("alive").

        Args:
            seconds: longest silence before it.

        Raises:
            OSError: it has died (ConnectionError) or was silent (TimeoutError).
        """
        self._connection.settimeout(seconds)
        send(self._connection, request)
        while "alive" in (reply := receive(self._connection)):
            pass
        return reply

    def wait(self, seconds: float) -> int | None:
        """Exit status once it has ended (negative: the signal that ended it), None if it has not.

        It stays unreaped, so that its group keeps its number.
        """
        descriptor = os.pidfd_open(self.pid)
        try:
            if not select.select([descriptor], [], [], seconds)[0]:
                return None
            ended = os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOWAIT)
        finally:
            os.close(descriptor)
        assert ended is not None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def last_words(self) -> str:
        """The last two lines that it wrote to its output, as one."""
        size = os.fstat(self._log.fileno()).st_size
        self._log.seek(max(0, size - LAST_WORDS_BYTES))
        lines = self._log.read().decode(errors="replace").splitlines()
        return " | ".join([" ".join(line.split()) for line in lines if line.strip()][-2:])

    def end(self, grace: float) -> None:
        """Closes the connection, which tells it to end; after `grace` seconds ends it and all that it started."""
        self._connection.close()
        self.wait(grace)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._opened.close()
