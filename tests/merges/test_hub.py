"""The hub behind one function: what it is asked for, and that every failure is one line."""

from __future__ import annotations

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from merges import hub
from merges.checkpoints import Checkpoint
from merges.errors import CheckpointError


@pytest.mark.parametrize("text", ["owner/name", "HuggingFaceTB/SmolLM2-135M-Instruct", "a/b.c@main", "a/b@refs/pr/1"])
def test_hub_ids_are_recognised(text):
    assert hub.looks_like_hub_id(text)


@pytest.mark.parametrize(
    "text", ["name", "a/b/c", "./a/b", "../a", "/a/b", "a/", "~/a", "a b/c", "a/b\n", "-a/b", "a/b@"]
)
def test_paths_are_not_taken_for_hub_ids(text):
    assert not hub.looks_like_hub_id(text)


def test_snapshot_is_asked_for_safetensors_and_never_for_pickles_or_code(monkeypatch, llamas):
    asked = {}

    def snapshot(repository, **settings):
        asked.update(settings, repository=repository)
        return str(llamas["base"])

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    checkpoint = Checkpoint.open("owner/name@v1")
    assert (asked["repository"], asked["revision"]) == ("owner/name", "v1")
    assert asked["etag_timeout"] == hub.HUB_WAIT_SECONDS
    assert not any(pattern in ("*", "*.bin", "*.py") for pattern in asked["allow_patterns"])
    assert {"*.py", "*.bin", "*/*"} <= set(asked["ignore_patterns"])
    assert (checkpoint.identity.given, checkpoint.identity.commit) == ("owner/name@v1", "base")


@pytest.mark.parametrize(
    ("failure", "match"),
    [
        (LocalEntryNotFoundError("no\nnet"), r"^owner/name: .* no answer from the hub and no copy in its cache; check"),
        (OSError("disk\nfull"), r"^owner/name: expected a download from the hub, got OSError \(disk full\); try again"),
        (ValueError("odd"), r"got ValueError \(odd\); try again, or give a folder$"),
    ],
)
def test_failure_is_one_line(monkeypatch, failure, match):
    def snapshot(repository, **settings):
        raise failure

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    with pytest.raises(CheckpointError, match=match):
        Checkpoint.open("owner/name")


def test_ctrl_c_during_a_download_is_not_swallowed(monkeypatch):
    def snapshot(repository, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    with pytest.raises(KeyboardInterrupt):
        Checkpoint.open("owner/name")


def test_folder_wins_over_a_hub_id_of_the_same_name(monkeypatch, llamas):
    monkeypatch.chdir(llamas["base"].parent.parent)
    assert Checkpoint.open(f"{llamas['base'].parent.name}/base").identity.commit is None
