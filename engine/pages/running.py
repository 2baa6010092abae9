"""The server: an address, a port that is free, and an end by Ctrl-C."""

from __future__ import annotations

import errno
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from urllib.parse import quote

import uvicorn

from engine.errors import UserError
from engine.pages.app import create_app
from engine.pages.guard import is_loopback
from engine.pages.runs import Runs

TOKEN_BYTES = 24
SHORTEST_TOKEN = 16
"""Characters of a token that somebody chose."""


def serve(runs: Runs, *, host: str, port: int, token: str | None, say: Callable[[str], None]) -> None:
    """Serve pages until the process is asked to end.

    Args:
        host: an address of this machine, or a name of one.
        port: 0: any that is free.
        token: what visitors must know; None: on the loopback nothing, elsewhere one is made up.
        say: told the address to open.

    Raises:
        UserError: the address is not this machine's, the port is taken or not ours to take, or the token is short.
    """
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise UserError(
            f"token: expected {SHORTEST_TOKEN} or more printable ASCII characters, got {len(token)}; choose a longer one, or none: one is made up"
        )
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(TOKEN_BYTES)
    with _bound(host, port) as listening:
        say(_address(listening) + (f"?token={quote(token, safe='')}" if token else ""))
        app = create_app(runs, token=token)
        settings = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2
        )
        with _ending_in_order():
            uvicorn.Server(settings).run(sockets=[listening])


def _address(listening: socket.socket) -> str:
    name, number = listening.getsockname()[:2]
    if ip_address(name).is_unspecified:
        name = socket.gethostname()
    return f"http://[{name}]:{number}/" if ":" in name else f"http://{name}:{number}/"


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """uvicorn ends in order at a signal, and raises it once more when it has: that one asks for nothing."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(one, lambda *_: None) for one in signals]
    try:
        yield
    finally:
        for one, handler in zip(signals, before, strict=True):
            signal.signal(one, handler)


def _bound(host: str, port: int) -> socket.socket:
    """A socket of our own: a port that is taken shows before anything is said."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UserError(
            f"--host '{host}': expected an address of this machine, got {error.strerror}; leave it out for 127.0.0.1"
        ) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(socket.SOMAXCONN)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise UserError(
                f"--host '{host}': expected an address of this machine, got another one's; leave it out for 127.0.0.1"
            ) from error
        raise UserError(
            f"--port {port}: expected a free port of ours, got {error.strerror}; give another --port, or 0 for any"
        ) from error
    return listening
