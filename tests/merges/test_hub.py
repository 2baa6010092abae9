"""The hub behind one function: what it is asked for, and that every failure is one line."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from huggingface_hub import get_session
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

from merges import folders, hub
from merges.checkpoints import Checkpoint
from merges.errors import CheckpointError


@pytest.mark.parametrize("text", ["owner/name", "HuggingFaceTB/SmolLM2-135M-Instruct", "a/b.c@main", "a/b@refs/pr/1"])
def test_hub_ids_are_recognised(text):
    assert folders.looks_like_hub_id(text)


@pytest.mark.parametrize(
    "text", ["name", "a/b/c", "./a/b", "../a", "/a/b", "a/", "~/a", "a b/c", "a/b\n", "-a/b", "a/b@"]
)
def test_paths_are_not_taken_for_hub_ids(text):
    assert not folders.looks_like_hub_id(text)


@pytest.fixture
def fake_hub(monkeypatch):
    """fake_hub(listing=..., snapshot=...): replace both calls to the hub; an exception given is raised."""

    def install(*, listing, snapshot):
        asked = []

        def answer(what, settings):
            asked.append(settings)
            outcome = what(settings) if callable(what) else what
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        class Api:
            def repo_info(self, repository, **settings):
                return SimpleNamespace(sha=answer(listing, settings))

        monkeypatch.setattr(hub, "HfApi", Api)
        monkeypatch.setattr(
            hub, "snapshot_download", lambda name, **settings: answer(snapshot, {**settings, "name": name})
        )
        return asked

    return install


def test_snapshot_is_asked_for_safetensors_and_never_for_pickles_or_code(fake_hub, llamas):
    asked = fake_hub(listing="c0ffee", snapshot=str(llamas["base"]))
    checkpoint = Checkpoint.open("owner/name@v1")
    listed, fetched = asked
    assert listed == {"revision": "v1", "timeout": hub.HUB_WAIT_SECONDS}
    assert (fetched["name"], fetched["revision"], fetched["local_files_only"]) == ("owner/name", "c0ffee", False)
    assert not any(pattern in ("*", "*.bin", "*.py") for pattern in fetched["allow_patterns"])
    assert {"*.py", "*.bin", "*/*"} <= set(fetched["ignore_patterns"])
    assert (checkpoint.identity.given, checkpoint.identity.commit) == ("owner/name@v1", "base")


def test_cached_copy_serves_when_the_hub_does_not_answer(fake_hub, llamas):
    asked = fake_hub(listing=OSError("no net"), snapshot=str(llamas["base"]))
    assert Checkpoint.open("owner/name").names
    assert asked[-1]["local_files_only"]


@pytest.mark.parametrize(
    ("failure", "match"),
    [
        (
            OSError("no\nnet"),
            r"^owner/name: .* no copy in the hub's cache, and OSError \(no net\); check the path or the ne",
        ),
        (ValueError("odd"), r"ValueError \(odd\); check the path or the network$"),
        (
            RepositoryNotFoundError("404", response=MagicMock()),
            r"^owner/name: .* no such public model; check the name, or log in with `hf auth login` if it is private$",
        ),
    ],
)
def test_failure_is_one_line(fake_hub, failure, match):
    fake_hub(listing=failure, snapshot=LocalEntryNotFoundError("not cached"))
    with pytest.raises(CheckpointError, match=match):
        Checkpoint.open("owner/name")


def test_ctrl_c_during_a_download_is_not_swallowed(fake_hub):
    fake_hub(listing="c0ffee", snapshot=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        Checkpoint.open("owner/name")


def test_hub_that_accepts_and_never_answers_is_given_up(monkeypatch):
    before = get_session().timeout
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts; nobody ever reads
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub, "HUB_WAIT_SECONDS", 0.2)
        with pytest.raises(CheckpointError, match=r"ReadTimeout|ConnectTimeout"):
            Checkpoint.open("owner/no-such-model-anywhere")
    assert get_session().timeout == before


def test_folder_wins_over_a_hub_id_of_the_same_name(monkeypatch, llamas):
    monkeypatch.chdir(llamas["base"].parent.parent)
    assert Checkpoint.open(f"{llamas['base'].parent.name}/base").identity.commit is None


def test_a_model_is_looked_up_without_being_fetched(monkeypatch):
    files = {
        "config.json": 1,
        "model-1.safetensors": 40,
        "consolidated.safetensors": 80,
        "onnx/m.safetensors": 9,
        "b.bin": 7,
    }
    siblings = [SimpleNamespace(rfilename=name, size=size) for name, size in files.items()]
    api = MagicMock()
    api.return_value.model_info.return_value = SimpleNamespace(sha="c0ffee", siblings=siblings)
    monkeypatch.setattr(hub, "HfApi", api)
    assert hub.listed("owner/name@v1") == hub.Listing("c0ffee", 40, True)
    api.return_value.model_info.assert_called_once_with(
        "owner/name", revision="v1", files_metadata=True, timeout=hub.HUB_WAIT_SECONDS
    )
    api.return_value.model_info.side_effect = OSError("no net")
    with pytest.raises(CheckpointError, match=r"owner/name: expected a model folder or a hub that answers.*no net"):
        hub.listed("owner/name")
