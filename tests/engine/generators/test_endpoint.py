"""A chat model behind a server: answers, nonsense, rate limits, and a server that goes away. The server is real, on this machine."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from typing import Any

import pytest

from engine.config import CampaignConfig, GeneratorSection
from engine.config_file import build_config
from engine.errors import ConfigError, HostError, exit_code
from engine.generators import EndpointGenerator, open_generator
from engine.records import Sampling, Task, TaskKind
from tests.engine.chat_server import Answer, failing, said
from tests.engine.conftest import WEIGHTED_SUM, candidate

KEY = "sk-secret-of-the-test"


class Kept:
    """Answers kept in memory."""

    def __init__(self) -> None:
        self.replies: dict[str, Mapping[str, Any]] = {}

    def reply(self, key: str) -> Mapping[str, Any] | None:
        return self.replies.get(key)

    def keep_reply(self, key: str, reply: Mapping[str, Any]) -> None:
        self.replies[key] = reply


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERGEWRIGHT_TEST_KEY", KEY)


def opened(url: str, kept: Kept | None = None, **changes: Any) -> EndpointGenerator:
    values = {"retries": 2, "timeout_seconds": 5, "parallel": 2, "price_read": 1.0, "price_written": 10.0, **changes}
    section = GeneratorSection(
        kind="endpoint", base_url=url, model="m", **{"api_key_env": "MERGEWRIGHT_TEST_KEY", **values}
    )
    generator = open_generator(CampaignConfig(generator=section), "", kept or Kept())
    assert isinstance(generator, EndpointGenerator)
    return generator


def places(count: int) -> list[Sampling]:
    return [Sampling(0.8, 0.9, 100 + row, 0, row) for row in range(count)]


def write(generator: EndpointGenerator, count: int = 2, task: Task | None = None) -> list[str]:
    return [draft.source for draft in generator.write(places(count), [task or Task()] * count)]


def test_what_the_server_writes_around_a_program_is_left_out_and_the_sampling_is_asked_for(serve) -> None:
    server = serve(lambda *_: said(f"Sure! Here it is:\n```python\n{WEIGHTED_SUM}```\nHope it helps."))
    assert write(opened(server.url)) == [WEIGHTED_SUM.strip() + "\n"] * 2
    asked = sorted(server.requests, key=lambda request: request["seed"])
    assert [(r["model"], r["temperature"], r["top_p"], r["seed"]) for r in asked] == [
        ("m", 0.8, 0.9, 100),
        ("m", 0.8, 0.9, 101),
    ]
    assert "merge_models" in asked[0]["messages"][0]["content"]
    assert server.keys == {f"Bearer {KEY}"}


def test_parents_and_their_scores_are_shown(serve) -> None:
    server = serve(lambda *_: said(WEIGHTED_SUM))
    (draft,) = opened(server.url).write(places(1), [Task(TaskKind.VARIANT, (candidate(7, 0.25),))])
    assert "accuracy 25.0 %" in draft.prompt == server.requests[0]["messages"][0]["content"]
    assert draft.parents == (candidate(7, 0.25).program.id,)


JSON = {"Content-Type": "application/json"}
NO_PROGRAM = {
    "empty": said(""),
    "null": said(None),
    "number": said(17),
    "refusal": said("I cannot help with that."),
    "no choices": said("x", choices=[]),
    "no message": said("x", usage=None, choices=[{"index": 0, "finish_reason": "stop", "message": None}]),
    "a choice of text": said("x", choices=["y"]),
    "half a surrogate": said("I cannot \ud800 say."),
    "more tokens than a cost can count": said("x", usage={"prompt_tokens": 10**400, "completion_tokens": 10**30}),
    "fewer tokens than none": said("x", usage={"prompt_tokens": -1, "completion_tokens": None}),
}
NO_COMPLETION = {
    "null choices": said("x", choices=None),
    "choices by name": said("x", choices={"a": 1}),
    "a number of choices": said("x", choices=17),
    "nothing": (200, b"", JSON),
    "a page": (200, b"<html>welcome</html>", {"Content-Type": "text/html"}),
    "{}": (200, b"{}", JSON),
    "a list": (200, b"[1, 2]", JSON),
    "a list in lists": (200, 5000 * b"[" + 5000 * b"]", JSON),
    "a list that never ends": (200, 100_000 * b"[", JSON),
    "cut off": (200, said(WEIGHTED_SUM)[1][:-40], JSON),
    "no UTF-8": (200, b'{"choices": "\xff\xfe"}', JSON),
    "an error that calls itself fine": (200, b'{"error": {"message": "no credit"}}', JSON),
}


@pytest.mark.parametrize("answer", [*NO_PROGRAM.values(), *NO_COMPLETION.values()], ids=[*NO_PROGRAM, *NO_COMPLETION])
def test_nonsense_is_a_draft_without_a_program(serve, answer: Answer) -> None:
    server = serve(lambda request, _: answer if request["seed"] == 101 else said(WEIGHTED_SUM))
    kept = Kept()
    assert write(opened(server.url, kept), 2) == [WEIGHTED_SUM.strip() + "\n", ""]
    assert len(kept.replies) == (2 if answer in NO_PROGRAM.values() else 1)  # what is no answer is asked for again
    for reply in kept.replies.values():
        reply["text"].encode()  # it goes into the archive
        assert 0.0 <= reply["cost"] < 1.0


@pytest.mark.parametrize("answer", NO_COMPLETION.values(), ids=list(NO_COMPLETION))
def test_a_server_without_a_single_completion_is_one_line_and_none_of_it_an_answer(serve, answer: Answer) -> None:
    mended: list[bool] = []
    server, kept = serve(lambda *_: said(WEIGHTED_SUM) if mended else answer), Kept()
    with pytest.raises(HostError, match=r"got none in 2 replies, the first: .+; resume when it sends some") as caught:
        write(opened(server.url, kept))
    assert "\n" not in str(caught.value)
    assert not kept.replies
    mended.append(True)
    assert write(opened(server.url, kept)) == [WEIGHTED_SUM.strip() + "\n"] * 2


def test_tokens_and_cost_are_counted(serve) -> None:
    kept = Kept()
    write(opened(serve(lambda *_: said(WEIGHTED_SUM)).url, kept), 3)
    assert [r["cost"] for r in kept.replies.values()] == pytest.approx([100e-6 + 500e-6] * 3)
    assert sum(r["completion_tokens"] for r in kept.replies.values()) == 150


@pytest.mark.parametrize("first", [failing(429, **{"retry-after-ms": "1"}), failing(503, **{"retry-after-ms": "1"})])
def test_a_rate_limit_or_a_hiccup_is_waited_for(serve, first: Answer) -> None:
    server = serve(lambda _, number: first if number < 2 else said(WEIGHTED_SUM))
    assert write(opened(server.url), 1) == [WEIGHTED_SUM.strip() + "\n"]
    assert len(server.requests) == 3


def test_a_server_that_stays_broken_ends_in_one_line_and_nothing_is_paid_twice(serve) -> None:
    broken = {"now": True}

    def answer(request: dict[str, Any], number: int) -> Answer:
        if request["seed"] == 102 and broken["now"]:
            return failing(500, **{"retry-after-ms": "1"})
        return said(WEIGHTED_SUM)

    server, kept = serve(answer), Kept()
    with pytest.raises(HostError, match=r"got status 500 \(generator\.retries 2\): .*; resume later") as caught:
        write(opened(server.url, kept, parallel=1), 4)
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)
    assert exit_code(caught.value) == 1
    broken["now"] = False
    before = [request["seed"] for request in server.requests]
    assert len(write(opened(server.url, kept, parallel=1), 4)) == 4
    after = [request["seed"] for request in server.requests[len(before) :]]
    assert sorted({*before, *after}) == [100, 101, 102, 103]
    assert not set(after) & (set(before) - {102})  # what was answered is not asked again


def test_an_answer_is_not_paid_again_where_the_server_has_moved(serve) -> None:
    here, there, kept = serve(lambda *_: said(WEIGHTED_SUM)), serve(lambda *_: said("another")), Kept()
    first = write(opened(here.url, kept))
    assert write(opened(there.url, kept)) == first
    assert not there.requests


def test_a_server_that_is_gone_is_one_line(serve) -> None:
    server = serve(lambda *_: said(""))
    url = server.url
    server.close()
    with pytest.raises(HostError, match=r"got none \(generator\.retries 0\): .*; resume when the server is back"):
        write(opened(url, retries=0), 1)


def test_a_server_that_asks_for_more_than_two_minutes_is_not_waited_for(serve) -> None:
    server = serve(lambda *_: failing(429, **{"retry-after": "3600"}))
    with pytest.raises(HostError, match=r"got status 429 .*; resume later"):
        write(opened(server.url), 1)
    assert len(server.requests) == 1


@pytest.mark.parametrize("before", range(0, 200, 10))  # wherever the line is cut
def test_a_key_that_the_server_repeats_is_in_no_message(serve, before: int) -> None:
    body = json.dumps({"error": {"message": f"{before * 'x'}the key {KEY} is not known"}}).encode()
    server = serve(lambda *_: (401, body, JSON))
    with pytest.raises(ConfigError, match="the key … is not known" if before < 100 else "x") as caught:
        write(opened(server.url), 1)
    assert KEY[:6] not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 413, 422])
def test_what_asking_again_does_not_mend_is_the_users_to_correct(serve, status: int) -> None:
    server = serve(lambda *_: failing(status))
    with pytest.raises(
        ConfigError,
        match=rf"got status {status}: .*; correct the key, or the URL \(resume with --set generator\.base_url=URL\), or start a new run with",
    ):
        write(opened(server.url), 1)
    assert len(server.requests) == 1


def test_without_a_url_or_a_key_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"generator\.base_url: expected the URL"):
        opened("")
    monkeypatch.delenv("MERGEWRIGHT_TEST_KEY")
    with pytest.raises(ConfigError, match=r"got none; export it"):
        opened("http://localhost:1/v1")


@pytest.mark.parametrize("key", ["sk-abc…", "sk-abc\n", "sk abc", "sk-\udce9"], ids=ascii)
def test_a_key_that_no_request_can_carry_is_one_line_without_it(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("MERGEWRIGHT_TEST_KEY", key)
    with pytest.raises(
        ConfigError, match=r"expected a key of printable ASCII .* MERGEWRIGHT_TEST_KEY, got one"
    ) as caught:
        opened("http://localhost:1/v1")
    told = "".join(traceback.format_exception(caught.value))
    assert key.strip() not in told
    assert len(str(caught.value).splitlines()) == 1


def test_what_the_environment_adds_to_a_request_is_no_answer_either(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-abc…")
    server, kept = serve(lambda *_: said(WEIGHTED_SUM)), Kept()
    with pytest.raises(ConfigError, match=r"expected a request that can be sent, got: .*OPENAI_ORG_ID") as caught:
        write(opened(server.url, kept))
    assert "\n" not in str(caught.value)
    assert not kept.replies


def test_an_address_or_a_proxy_that_the_client_cannot_use_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigError, match=r"generator\.base_url 'http://999\.1\.1\.1/v1': expected an address .*; correct"
    ):
        opened("http://999.1.1.1/v1")
    monkeypatch.setenv("http_proxy", "localhost:800O")
    with pytest.raises(ConfigError, match=r"expected an address .*proxies that the environment names"):
        opened("http://localhost:1/v1")


def test_a_server_without_keys_needs_none(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MERGEWRIGHT_TEST_KEY")
    server = serve(lambda *_: said(WEIGHTED_SUM))
    assert write(opened(server.url, api_key_env=""), 1) == [WEIGHTED_SUM.strip() + "\n"]


def test_it_is_not_trained() -> None:
    assert not build_config({"generator": {"kind": "endpoint"}, "learn": {"method": "dpo"}}).learns
