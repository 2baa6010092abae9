"""The one place that talks to the model hub: a snapshot of safetensors, JSON and tokenizer files, nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

from merges.errors import CheckpointError

__all__ = ["download", "looks_like_hub_id"]

HUB_WAIT_SECONDS = 15.0
"""How long the hub may take to say which files there are; the download itself may take as long as it needs."""

ALLOWED = ("*.safetensors", "*.json", "*.jinja", "tokenizer*", "*.model", "merges.txt", "vocab.txt")
IGNORED = ("*/*", "consolidated*", "*.bin", "*.py")
"""Subfolders hold other formats, and `consolidated` files the same weights a second time."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(?:@[\w./-]{1,255})?")


def looks_like_hub_id(text: str) -> bool:
    """True for ``owner/name`` and ``owner/name@revision``."""
    return _HUB_ID.fullmatch(text) is not None


def download(hub_id: str) -> tuple[Path, str]:
    """Fetch a snapshot into the hub's own cache, or find it there.

    Returns:
        The folder and the commit it is of.

    Raises:
        CheckpointError: unknown to the hub, forbidden, or the hub cannot be reached and the cache has no copy.
    """
    repository, _, revision = hub_id.partition("@")
    try:
        folder = snapshot_download(
            repository,
            revision=revision or None,
            allow_patterns=list(ALLOWED),
            ignore_patterns=list(IGNORED),
            etag_timeout=HUB_WAIT_SECONDS,
        )
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{hub_id}: expected a model folder or hub id, got no such folder and no such public model; "
            "check the name, or log in with `hf auth login` if it is private"
        ) from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{hub_id}: expected a model folder or a reachable hub, got no such folder, no answer from the hub and no "
            "copy in its cache; check the path, or the network"
        ) from error
    except Exception as error:  # the hub library's network errors come from httpx or httpx2, by version; none is ours
        raise CheckpointError(
            f"{hub_id}: expected a download from the hub, got {type(error).__name__} ({error}); "
            "try again, or give a folder"
        ) from error
    path = Path(folder)
    return path, path.name
