"""Who may ask: the loopback by its own names, everybody else by a token; and nobody may change anything."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from engine.pages.app import create_app
from engine.pages.guard import COOKIE, is_loopback
from engine.pages.runs import Runs
from tests.engine.pages.conftest import BASE

TOKEN = "a-token-of-some-length"


def visitor(runs: Runs, token: str | None, base: str = BASE) -> TestClient:
    return TestClient(create_app(runs, token=token), base_url=base, follow_redirects=False)


@pytest.mark.parametrize("base", ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:80", "http://127.9.9.9"])
def test_names_of_the_loopback_are_answered(runs: Runs, base: str) -> None:
    assert visitor(runs, None, base).get("/").status_code == 200


@pytest.mark.parametrize(
    "base", ["http://evil.example", "http://127.0.0.1.evil.example", "http://192.168.0.7", "http://localhost.evil"]
)
def test_another_name_is_refused_whatever_it_resolves_to(runs: Runs, base: str) -> None:
    answer = visitor(runs, None, base).get("/api/runs")
    assert answer.status_code == 421
    assert "expected a name of this machine's loopback" in answer.text


@pytest.mark.parametrize(
    "host",
    ['evil"x', "evil.example:99999", "evil.example:", "evil..x", "évil.x".encode(), "[::1", "a@127.0.0.1", "127.0.0.1/", ""],
)  # fmt: skip
def test_a_name_that_cannot_be_read_is_refused(runs: Runs, host: str | bytes) -> None:
    assert visitor(runs, None).get("/api/runs", headers={"Host": host}).status_code == 421


def test_two_names_are_refused(runs: Runs) -> None:
    names = [("Host", "127.0.0.1"), ("Host", "evil.example")]
    assert visitor(runs, None).get("/api/runs", headers=names).status_code == 421


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_but_reading(runs: Runs, method: str) -> None:
    answer = visitor(runs, None).request(method, "/runs/small")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")


def test_every_answer_forbids_what_a_page_does_not_need(runs: Runs) -> None:
    for address in ("/", "/nothing", "/static/style.css", "/api/runs", "/static/nothing"):
        headers = visitor(runs, None).get(address).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none'"), address
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in headers


def test_a_token_opens_once_by_address_and_then_by_cookie(runs: Runs) -> None:
    everyone = visitor(runs, TOKEN, "http://10.0.0.5:8080")
    for address in ("/", "/api/runs", "/static/style.css", "/runs/small?token=wrong", "/?token="):
        assert everyone.get(address).status_code == 401, address
    assert TOKEN not in everyone.get("/").text
    welcome = everyone.get(f"/runs/small/programs?verdict=ok&token={TOKEN}")
    assert welcome.status_code == 303
    assert welcome.headers["Location"] == "/runs/small/programs?verdict=ok", "the token is gone from the address"
    cookie = welcome.headers["Set-Cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert everyone.get("/").status_code == 200
    assert everyone.cookies[COOKIE] == TOKEN


def test_a_token_may_come_as_a_bearers(runs: Runs) -> None:
    everyone = visitor(runs, TOKEN, "http://10.0.0.5:8080")
    assert everyone.get("/api/runs", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert everyone.get("/api/runs", headers={"Authorization": "Bearer é".encode()}).status_code == 401


def test_a_welcome_leads_to_no_other_machine(runs: Runs) -> None:
    for address in (
        f"//evil.example/?token={TOKEN}",
        f"/%2fevil.example?token={TOKEN}",
        f"/\\evil.example?token={TOKEN}",
    ):
        led = visitor(runs, TOKEN).get(BASE + address)
        assert led.status_code == 303
        where = led.headers["Location"]
        assert where.startswith("/")
        assert not where.startswith(("//", "/\\")), where


def test_what_is_the_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "::1", "localhost", "127.3.2.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "")))
