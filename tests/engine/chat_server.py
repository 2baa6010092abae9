"""A chat model's server for tests: real, on this machine, and it answers as a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, bytes, Mapping[str, str]]


def said(text: Any, **more: Any) -> Answer:
    """A well-formed answer."""
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150},
        **more,
    }
    return 200, json.dumps(body).encode(), {"Content-Type": "application/json"}


def failing(status: int, **headers: str) -> Answer:
    body = json.dumps({"error": {"message": f"status {status} it is"}}).encode()
    return status, body, {"Content-Type": "application/json", **headers}


class Server:
    """Answers requests by a function of the request and of how many there were before; None: it goes away, and this one is not answered.

    Attributes:
        requests: all of them, in order, the one that was not answered included.
        keys: what they had for a key.
        url: as `generator.base_url` has it.
    """

    def __init__(self, answer: Callable[[dict[str, Any], int], Answer | None]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(outer.requests)
                    outer.requests.append(request)
                    outer.keys.add(self.headers["Authorization"])
                told = answer(request, number)
                if told is None:
                    outer.close()
                    return
                status, body, headers = told
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Not into the test's output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        """Go away, if it is there."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
