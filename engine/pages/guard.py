"""Who may ask, and what a browser may do with the answer.

Covered: other sites in the same browser (a name that resolves to this machine is refused by its Host; nothing is framed, and no script, style, image or request but our
own is allowed to a page); everybody else on the network, where the server is not on the loopback (a token, kept in a cookie that scripts cannot read).
Not covered: other users of this machine, who can ask a loopback address as well as its owner; eavesdroppers, since this is plain HTTP: tunnel it.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from urllib.parse import urlencode

from starlette.datastructures import URL
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

COOKIE = "mergewright"
READING = {"GET"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_HOST = re.compile(r"(\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[0-9a-z.-]+))(:[0-9]{1,5})?")
_MOST_SAID = 200  # characters of what came, in an answer

Next = Callable[[Request], Awaitable[Response]]


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _names_loopback(given: str) -> bool:
    """Whether a Host names the loopback. It is read here as it came: for one that it cannot read, Starlette's address has the server's own name, which is the loopback's."""
    found = _HOST.fullmatch(given.lower())
    return found is not None and is_loopback(found["v6"] or found["name"])


def guarded(response: Response) -> Response:
    """The answer, with the headers of all our answers."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


class Guard:
    """Stands before every answer.

    Args:
        token: what a visitor must know; None: nobody is asked, and only names of the loopback are answered to.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token

    async def __call__(self, request: Request, further: Next) -> Response:
        """The answer, or a refusal."""
        return guarded(self._refusal(request) or await further(request))

    def _refusal(self, request: Request) -> Response | None:
        if request.method not in READING:
            return _say(405, "expected GET: these pages only show", {"Allow": "GET"})
        if self._token is None:
            given = request.headers.getlist("Host")
            if len(given) != 1 or not _names_loopback(given[0]):
                host = " and ".join(given)[:_MOST_SAID]
                return _say(421, f"expected a name of this machine's loopback, got '{host}'; open http://127.0.0.1")
            return None
        if self._knows(request.cookies.get(COOKIE)) or self._knows(_bearer(request)):
            return None
        if self._knows(request.query_params.get("token")):
            return self._welcome(request)
        return _say(
            401, "expected the token: open the address that `mergewright serve` printed", {"WWW-Authenticate": "Bearer"}
        )

    def _knows(self, word: str | None) -> bool:
        assert self._token is not None
        return word is not None and hmac.compare_digest(word.encode(), self._token.encode())

    def _welcome(self, request: Request) -> Response:
        """The token goes into a cookie, and out of the address: addresses are kept, copied and shown."""
        assert self._token is not None
        rest = urlencode([(k, v) for k, v in request.query_params.multi_items() if k != "token"])
        # a path of one slash alone: "//elsewhere" would lead to another machine, and browsers take a backslash for a slash
        where = URL(path="/" + request.url.path.lstrip("/\\"), query=rest)
        response = RedirectResponse(str(where), status_code=303)
        response.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
        return response


def _bearer(request: Request) -> str | None:
    kind, _, word = request.headers.get("Authorization", "").partition(" ")
    return word if kind.lower() == "bearer" else None


def _say(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers)
