"""A model hub on this machine: an HTTP server that speaks what huggingface_hub asks while a model is published, and keeps what arrives.

Covered: whoami-v2, model info, repos/create, auth-check, validate-yaml, preupload, LFS batch, PUT and verify, xet write tokens, commit.
Not covered: pull requests, branches, multipart uploads, downloads.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants

WRITER = "hf_AWriterIsKnownByThisWord"
READER = "hf_AReaderIsKnownByThisWord"
SIGNATURE = "X-Amz-Signature=5ec2e7"
"""Stands in the addresses that uploads go to; whoever has it may write there."""


@dataclass
class Repository:
    """A model repository: its files as committed, and the commit it is at."""

    private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b""})
    pointers: dict[str, str] = field(default_factory=dict)  # path -> SHA-256 of what went to the large-file store
    commits: list[dict[str, Any]] = field(default_factory=list)

    @property
    def head(self) -> str:
        return hashlib.sha1(repr((len(self.commits), sorted(self.files))).encode()).hexdigest()


@dataclass
class FakeHub:
    """The hub's state, for tests to arrange and to look at.

    Attributes:
        url: of the server.
        tokens: token -> role.
        fails: (method, pattern of the path) -> status and words of the answer.
        asked: every request as "METHOD path".
        headers: their Authorization headers; None where there was none.
        xet: folder of a chunk store that hf_xet writes to; None: no xet.
    """

    url: str = ""
    tokens: dict[str, str] = field(default_factory=lambda: {WRITER: "write", READER: "read"})
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    fails: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    headers: list[tuple[str, str | None]] = field(default_factory=list)
    xet: Path | None = None

    def forbidden(self, method: str, path: str) -> tuple[int, str] | None:
        for (wanted, pattern), failure in self.fails.items():
            if method == wanted and re.fullmatch(pattern, path):
                return failure
        return None


@contextmanager
def serving() -> Iterator[FakeHub]:
    """A hub that runs while the block does."""
    hub = FakeHub()
    handler = type("Bound", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def _serve(self, method: str) -> None:
        body = self._body()
        path = self.path.partition("?")[0]
        given = self.headers.get("Authorization")
        self.hub.asked.append(f"{method} {path}")
        self.hub.headers.append((path, given))
        if failure := self.hub.forbidden(method, path):
            return self._answer(failure[0], {"error": failure[1]})
        if path.startswith("/lfs/"):
            return self._store(path, body)
        role = self.hub.tokens.get((given or "").removeprefix("Bearer "))
        if role is None:
            return self._answer(401, {"error": "Invalid username or password."})
        for wanted, pattern, act in ROUTES:
            if method == wanted and (match := re.fullmatch(pattern, path)):
                return act(self, role, body, *match.groups())
        return self._answer(404, {"error": f"no {method} {path} here"})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, value: object, **headers: str) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def _missing(self) -> None:
        self._answer(404, {"error": "Repository not found"}, **{"X-Error-Code": "RepoNotFound"})

    def whoami(self, role: str, body: bytes) -> None:
        self._answer(200, {"name": "writer", "orgs": [], "auth": {"accessToken": {"role": role}}})

    def info(self, role: str, body: bytes, name: str) -> None:
        found = self.hub.repositories.get(name)
        if found is None:
            return self._missing()
        siblings = [{"rfilename": file} for file in {**found.files, **found.pointers}]
        return self._answer(
            200, {"id": name, "sha": found.head, "private": found.private, "siblings": siblings, "tags": []}
        )

    def create(self, role: str, body: bytes) -> None:
        wanted = json.loads(body)
        name = f"{wanted['organization']}/{wanted['name']}"
        if role != "write" or wanted["organization"] not in ("writer", "team"):
            return self._answer(403, {"error": f'You don\'t have the rights to create a model under "{name}"'})
        if name in self.hub.repositories:
            return self._answer(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
        self.hub.repositories[name] = Repository(wanted["visibility"] == "private")
        return self._answer(200, {"url": f"{self.hub.url}/{name}"})

    def auth_check(self, role: str, body: bytes, name: str) -> None:
        allowed = role == "write" and name.partition("/")[0] in ("writer", "team")
        self._answer(200 if allowed else 403, {} if allowed else {"error": "Forbidden: no write access"})

    def validate(self, role: str, body: bytes) -> None:
        front = json.loads(body)["content"].split("---")[1]
        bad = re.search(r'- ".*@.*"', front)
        self._answer(400 if bad else 200, {"errors": [{"message": f"bad base_model {bad[0]}"}] if bad else []})

    def preupload(self, role: str, body: bytes, name: str) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self._answer(200, {"files": files})

    def batch(self, role: str, body: bytes, name: str) -> None:
        objects = [
            {
                **wanted,
                "actions": {
                    "upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}?{SIGNATURE}"},
                    "verify": {"href": f"{self.hub.url}/verify"},
                },
            }
            for wanted in json.loads(body)["objects"]
        ]
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _store(self, path: str, body: bytes) -> None:
        signed = SIGNATURE in self.path and hashlib.sha256(body).hexdigest() == path.removeprefix("/lfs/")
        if signed:
            self.hub.large[path.removeprefix("/lfs/")] = body
        self._answer(200 if signed else 403, {})

    def verify(self, role: str, body: bytes) -> None:
        wanted = json.loads(body)
        held = len(self.hub.large.get(wanted["oid"], b"")) == wanted["size"]
        self._answer(200 if held else 422, {})

    def xet_token(self, role: str, body: bytes, name: str) -> None:
        expires = int(time.time()) + 3600
        self._answer(200, {"accessToken": "xet", "exp": expires, "casUrl": f"local://{self.hub.xet}"})

    def commit(self, role: str, body: bytes, name: str) -> None:
        found = self.hub.repositories[name]
        header, *changes = [json.loads(line) for line in body.splitlines()]
        if header["value"].get("parentCommit") not in (None, found.head):
            return self._answer(412, {"error": "A commit has happened since. Please refresh and try again."})
        for change in changes:
            value = change["value"]
            if change["key"] == "lfsFile":
                found.pointers[value["path"]] = value["oid"]
                if self.hub.xet is None:
                    found.files[value["path"]] = self.hub.large[value["oid"]]
            else:
                found.files[value["path"]] = base64.b64decode(value["content"])
        found.commits.append(header["value"])
        return self._answer(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{found.head}", "commitOid": found.head})


_NAME = r"([^/]+/[^/]+)"
ROUTES: tuple[tuple[str, str, Callable[..., None]], ...] = (
    ("GET", "/api/whoami-v2", _Handler.whoami),
    ("GET", f"/api/models/{_NAME}", _Handler.info),
    ("GET", f"/api/models/{_NAME}/auth-check/write", _Handler.auth_check),
    ("GET", f"/api/models/{_NAME}/xet-write-token/main", _Handler.xet_token),
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("POST", f"/api/models/{_NAME}/preupload/main", _Handler.preupload),
    ("POST", f"/{_NAME}.git/info/lfs/objects/batch", _Handler.batch),
    ("POST", "/verify", _Handler.verify),
    ("POST", f"/api/models/{_NAME}/commit/main", _Handler.commit),
)


@contextmanager
def in_place_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that the client finds, a token for it, uploads as plain files, and retries that do not wait."""
    monkeypatch.setenv("HF_TOKEN", WRITER)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda seconds: None))
    with serving() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        yield running
