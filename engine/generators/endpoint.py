"""A chat model behind an OpenAI-compatible server: hosted, or vLLM, llama.cpp, Ollama on the next machine. It is not trained.

| what the server does | then |
|---|---|
| answers | the draft; tokens and cost are counted |
| answers without text, or with nonsense in its place | a draft without a program, which fails with its reason as any other |
| sends what is no chat completion | the same for one of a batch, but it is not kept; where a whole batch has none, HostError: it is another server, or none |
| rate limit (429), 408, 409, 5xx, time-out, lost connection | asked again `retries` times, with growing pauses, up to two minutes where the server asks for it |
| … and again, or asks for more than that | HostError; what was answered is kept, and a resumed run asks for the rest only |
| refuses the key, the model or the request (any other 4xx) | ConfigError at once |

Every chat completion is kept by (model, prompt, sampling) as soon as it is there: nothing is paid twice, wherever the server has moved. The key is read from an environment variable and is
in no file, message or archive.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from blake3 import blake3

from engine import prompts
from engine.config import GeneratorSection
from engine.errors import ConfigError, HostError
from engine.generators.language_model import parents
from engine.generators.protocol import Draft
from engine.records import Candidate, Sampling, Task

MENDED_BY_WAITING = (408, 409, 429)
"""Of the 4xx; asking again does not mend the others."""

MOST_TOKENS = 10**9
"""In one answer; a server that counts more counts nothing."""


class Replies(Protocol):
    """What a server has answered before; kept over processes."""

    def reply(self, key: str) -> Mapping[str, Any] | None:
        """The reply to a request, by its key."""

    def keep_reply(self, key: str, reply: Mapping[str, Any]) -> None:
        """A new one."""


class EndpointGenerator:
    """See `Generator`.

    Args:
        section: base URL, model, name of the key's environment variable, retries, prices.
        replies: where answers are kept.

    Raises:
        ConfigError: no URL, no key in the environment or one that no request can carry, an address or a proxy that the client cannot use, or the client
            library is not installed.
    """

    origin = "endpoint"
    told = False

    def __init__(self, section: GeneratorSection, replies: Replies) -> None:
        self._section, self._replies = section, replies
        if not section.base_url:
            raise ConfigError(
                "generator.base_url: expected the URL of an OpenAI-compatible server, got none; set it, as http://localhost:8000/v1"
            )
        key = os.environ.get(section.api_key_env) if section.api_key_env else "none"
        if not key:
            raise ConfigError(
                f"generator.api_key_env: expected a key in the environment variable {section.api_key_env}, got none; export it, or set it to '' for a server without keys"
            )
        if not all("!" <= character <= "~" for character in key):  # no header can carry another
            raise ConfigError(
                f"generator.api_key_env: expected a key of printable ASCII without spaces in the environment variable {section.api_key_env}, got one with other characters; copy it again and export it"
            )
        try:
            import openai
        except ImportError as error:
            raise ConfigError(
                "generator.kind 'endpoint': expected the package openai, got none; pip install 'mergewright[endpoint]'"
            ) from error
        self._openai: Any = openai
        self._secret = key if section.api_key_env else ""
        try:
            self._client = openai.OpenAI(
                base_url=section.base_url, api_key=key, max_retries=section.retries, timeout=section.timeout_seconds
            )
        except Exception as error:  # those of httpx or httpx2, by version, and none of them is ours
            raise ConfigError(
                f"generator.base_url '{section.base_url}': expected an address that the client can use, got: {self._said(error)}; correct it, or the proxies that the environment names"
            ) from None

    def write(self, places: Sequence[Sampling], tasks: Sequence[Task]) -> list[Draft]:
        """See `Generator.write`; `parallel` requests at a time.

        Raises:
            ConfigError: the server refuses the key, the model or the request.
            HostError: it did not answer, however often it was asked, or with nothing that is a chat completion.
        """
        asked = [prompts.chat_form(task) for task in tasks]
        with ThreadPoolExecutor(self._section.parallel) as pool:
            replies = list(pool.map(self._answer, asked, places))
        if not any("text" in reply for reply in replies):
            raise HostError(
                f"{self._where}: expected chat completions, got none in {len(replies)} replies, the first: {replies[0]['other']}; resume when it sends some, or with --set generator.base_url=URL where they are"
            )
        texts = [str(reply.get("text", "")) for reply in replies]
        return [
            Draft(prompt, text, prompts.extract_program(text), parents(task))
            for prompt, text, task in zip(asked, texts, tasks, strict=True)
        ]

    def _answer(self, prompt: str, place: Sampling) -> Mapping[str, Any]:
        """See `_ask`; what has a text is kept."""
        request = {
            "model": self._section.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": place.temperature,
            "top_p": place.top_p,
            "seed": place.seed,
            "max_tokens": self._section.max_new_tokens,
        }
        key = blake3(json.dumps(request, sort_keys=True).encode()).hexdigest()
        known = self._replies.reply(key)
        if known is None:
            known = self._ask(request)
            if "text" in known:
                self._replies.keep_reply(key, known)
        return known

    @property
    def _where(self) -> str:
        return f"generator.base_url '{self._section.base_url}'"

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A chat completion as it is kept (see `_read`), or the beginning of anything else, as "other"."""
        where = self._where
        try:
            received = self._client.chat.completions.with_raw_response.create(**request)
        except self._openai.APIStatusError as error:
            status, said = error.status_code, self._said(error.message)
            if 400 <= status < 500 and status not in MENDED_BY_WAITING:
                raise ConfigError(
                    f"{where}: expected an answer of '{self._section.model}', got status {status}: {said}; correct the key, or the URL (resume with --set generator.base_url=URL), or start a new run with another generator.model"
                ) from None
            raise HostError(
                f"{where}: expected an answer, got status {status} (generator.retries {self._section.retries}): {said}; resume later, or with --set generator.parallel=1 or more generator.retries"
            ) from None
        except self._openai.APIConnectionError as error:
            raise HostError(
                f"{where}: expected an answer, got none (generator.retries {self._section.retries}): {self._said(error)}; resume when the server is back, or with --set generator.base_url=URL where it is now"
            ) from None
        except ValueError as error:  # before anything is sent
            raise ConfigError(
                f"{where}: expected a request that can be sent, got: {self._said(error)}; correct generator.model, or what the environment adds (OPENAI_ORG_ID and its like)"
            ) from None
        try:
            reply = received.parse()
        except (self._openai.APIError, ValueError, RecursionError):  # no JSON, no text at all, or too deep
            reply = None
        if not isinstance(getattr(reply, "choices", None), list):
            return {"other": self._said(received.text) or "nothing"}
        return _read(reply, self._section)

    def _said(self, words: object) -> str:
        """A server's own words in one line, without the key, which some repeat."""
        line = " ".join(str(words).split())
        return (line.replace(self._secret, "…") if self._secret else line)[:200]

    def tell(self, assessed: Sequence[Candidate]) -> None:
        """See `Generator.tell`."""

    def adopt(self, folder: str) -> None:
        """See `Generator.adopt`."""

    def close(self) -> None:
        """See `Generator.close`."""
        self._client.close()


def _read(reply: Any, section: GeneratorSection) -> dict[str, Any]:
    """Text, tokens and cost of a chat completion, whatever a server has put into it."""
    message = getattr(reply.choices[0], "message", None) if reply.choices else None
    text = getattr(message, "content", None)
    usage = getattr(reply, "usage", None)
    tokens = {name: getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")}
    read, written = (count if isinstance(count, int) and 0 <= count <= MOST_TOKENS else 0 for count in tokens.values())
    return {
        "text": text.encode("utf-8", "replace").decode()
        if isinstance(text, str)
        else "",  # half a surrogate is no text
        "prompt_tokens": read,
        "completion_tokens": written,
        "cost": (read * section.price_read + written * section.price_written) / 1e6,
    }
