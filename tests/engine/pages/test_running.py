"""`mergewright serve` and `report`, as a user starts them."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, build_opener, urlopen

import pytest

from engine.errors import HostError, UserError
from engine.pages.report import write_report
from engine.pages.running import serve
from engine.pages.runs import Run, Runs


def started(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "engine.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def serving(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of ours, and the address that it says."""
    process = started("serve", *arguments, "--port", "0")
    try:
        assert process.stdout
        line = process.stdout.readline()
        yield process, re.findall(r"http://\S+", line)[0]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_answers_and_ends_in_order(finished: Path, stop: signal.Signals) -> None:
    with serving(finished) as (process, address):
        with urlopen(f"{address}runs/small") as answer:
            assert b"Best so far" in answer.read()
        process.send_signal(stop)
        _, said = process.communicate(timeout=30)
        assert "Traceback" not in said
        assert (process.returncode, said) == (0, "")


def test_another_host_asks_for_the_token_that_it_printed(finished: Path) -> None:
    with serving(finished, "--host", "0.0.0.0") as (_, address):
        found = re.fullmatch(r"http://[^/]+:(\d+)/\?token=([\w-]{32})", address)
        assert found
        here = f"http://127.0.0.1:{found[1]}/"
        with pytest.raises(HTTPError, match="401"):
            urlopen(here)
        with build_opener(HTTPCookieProcessor()).open(f"{here}?token={found[2]}") as answer:
            assert (answer.status, answer.url) == (200, here), "and the token is gone from the address"


def mistake(*arguments: str | Path) -> str:
    """The one line that a mistake is answered with."""
    process = started(*arguments)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2, said
    assert said.count("\n") == 1, said
    return said


def test_mistakes_are_one_line(finished: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"--port {port}: expected a free port of ours, got Address already in use" in mistake(
            "serve", finished, "--port", str(port)
        )
    assert "expected an address of this machine" in mistake("serve", finished, "--host", "203.0.113.7", "--port", "0")
    assert "expected an address of this machine" in mistake("serve", finished, "--host", "no such host", "--port", "0")
    assert "run 'nobody': expected a folder with archive.db" in mistake("serve", "nobody")
    assert "token: expected 16 or more printable ASCII characters, got 5" in mistake(
        "serve", finished, "--token", "short", "--port", "0"
    )
    assert "run 'nobody': expected a folder with archive.db" in mistake(
        "report", "nobody", "--out", tmp_path / "r.html"
    )


def test_a_token_of_ones_own_is_taken_on_the_loopback_too(finished: Path) -> None:
    with serving(finished, "--token", "a-token-of-my-own") as (_, address):
        assert address.endswith("/?token=a-token-of-my-own")
        with pytest.raises(HTTPError, match="401"):
            urlopen(address.partition("?")[0])


def test_the_address_that_it_prints_opens_whatever_the_token(finished: Path) -> None:
    token = """ab&cd#ef+gh=ij%20 kl;mn"op'qr,st/uv?wx\\yz"""
    with serving(finished, "--token", token) as (_, address):
        here = address.partition("?")[0]
        with build_opener(HTTPCookieProcessor()).open(address) as answer:
            assert (answer.status, answer.url) == (200, here)


def test_a_port_below_1024_that_is_not_ours_is_said(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(UserError, match="--port 80: expected a free port of ours, got Permission denied"):
        serve(runs, host="127.0.0.1", port=80, token=None, say=print)


def test_a_report_is_one_file_with_everything_in_it(finished: Path, tmp_path: Path) -> None:
    process = started("report", finished, "--out", tmp_path / "r.html")
    said, wrong = process.communicate(timeout=60)
    assert (process.returncode, said, wrong) == (0, f"wrote {tmp_path / 'r.html'}\n", "")
    page = (tmp_path / "r.html").read_text()
    assert "<script" not in page
    assert not re.findall(r"""(?:href|src)=["'](?!#)""", page), "nothing outside itself"
    assert "url(" not in page
    assert "@import" not in page
    targets, ids = set(re.findall(r'href="#([^"]+)"', page)), set(re.findall(r' id="([^"]+)"', page))
    assert targets <= ids, "every link in it leads somewhere"
    assert len(ids) == len(re.findall(r' id="([^"]+)"', page))
    for title in (
        "The final",
        "Best so far",
        "Iterations",
        "Why programs fail",
        "Where the time goes",
        "Map",
        "Programs",
    ):
        assert f">{title}</h2>" in page
    assert page.count('class="source"') == 5, "every program that works and is new"


@pytest.mark.parametrize(
    ("name", "said"),
    [("no/r.html", "No such file or directory"), ("file/r.html", "Not a directory"), (".", "Is a directory")],
)
def test_a_place_that_takes_no_report_is_the_users_mistake_and_stays_as_it_was(
    run: Run, tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    with pytest.raises(UserError, match=f"expected a file in a folder that is there, got {said}"):
        write_report(run, tmp_path / "out" / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "file"]


def test_a_full_disk_is_no_mistake(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HostError, match="No space left on device"):
        write_report(run, tmp_path / "r.html")
    assert not list(tmp_path.iterdir())
