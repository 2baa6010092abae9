"""The one place that reads from the model hub (`publishing.py` writes to it): safetensors, JSON and tokenizer files, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, get_session, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError

from merges.errors import CheckpointError

__all__ = ["HUB_WAIT_SECONDS", "Listing", "bounded_wait", "download", "listed"]

HUB_WAIT_SECONDS = 15.0
"""How long the hub may be silent; a download that goes on may take as long as it needs."""

ALLOWED = ("*.safetensors", "*.json", "*.jinja", "tokenizer*", "*.model", "merges.txt", "vocab.txt")
IGNORED = ("*/*", "consolidated*", "*.bin", "*.py")
"""Subfolders hold other formats, and `consolidated` files the same weights a second time."""


def download(hub_id: str) -> tuple[Path, str]:
    """Fetch a snapshot into the hub's own cache, or find it there.

    Returns:
        The folder and the commit it is of.

    Raises:
        CheckpointError: unknown to the hub, forbidden, or the hub cannot be reached and the cache has no copy.
    """
    repository, _, given = hub_id.partition("@")
    revision = given or None
    # The hub library's errors come from httpx or httpx2, by version, and none of them is ours: so `Exception`.
    try:
        with bounded_wait(HUB_WAIT_SECONDS):
            commit = HfApi().repo_info(repository, revision=revision, timeout=HUB_WAIT_SECONDS).sha
            folder = _snapshot(repository, commit, offline=False)
    except Exception as error:
        try:
            folder = _snapshot(repository, revision, offline=True)
        except Exception as nothing_cached:
            raise CheckpointError(_explained(hub_id, error)) from nothing_cached
    path = Path(folder)
    return path, path.name


@dataclass(frozen=True)
class Listing:
    """What the hub says of a model, without fetching it.

    Attributes:
        commit: that its name or revision means now.
        weight_bytes: of the safetensors files that `download` would fetch; 0 where there are none.
        configured: it has a config.json.
    """

    commit: str
    weight_bytes: int
    configured: bool


def listed(hub_id: str) -> Listing:
    """Look a model up.

    Raises:
        CheckpointError: unknown to the hub, forbidden, or the hub cannot be reached.
    """
    repository, _, given = hub_id.partition("@")
    try:  # as in `download`: the library's errors have no root of ours
        with bounded_wait(HUB_WAIT_SECONDS):
            found = HfApi().model_info(
                repository, revision=given or None, files_metadata=True, timeout=HUB_WAIT_SECONDS
            )
    except Exception as error:
        raise CheckpointError(_explained(hub_id, error)) from error
    files = {file.rfilename: file.size or 0 for file in found.siblings or ()}
    weights = [name for name in files if name.endswith(".safetensors") and "/" not in name]
    kept = [name for name in weights if not name.startswith("consolidated")]
    return Listing(str(found.sha), sum(files[name] for name in kept), "config.json" in files)


def _snapshot(repository: str, revision: str | None, *, offline: bool) -> str:
    return snapshot_download(
        repository,
        revision=revision,
        allow_patterns=list(ALLOWED),
        ignore_patterns=list(IGNORED),
        etag_timeout=HUB_WAIT_SECONDS,
        local_files_only=offline,
    )


@contextmanager
def bounded_wait(seconds: float) -> Iterator[None]:
    """Give the hub's calls, most of which have none, a limit on silence: a stalled proxy must not hang us for ever."""
    session = get_session()
    before = session.timeout
    session.timeout = seconds
    try:
        yield
    finally:
        session.timeout = before


def _explained(hub_id: str, error: Exception) -> str:
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{hub_id}: expected a model folder or hub id, got no such folder and no such public model; "
            "check the name, or log in with `hf auth login` if it is private"
        )
    return (
        f"{hub_id}: expected a model folder or a hub that answers, got no such folder, no copy in the hub's cache, and "
        f"{type(error).__name__} ({error}); check the path or the network"
    )
