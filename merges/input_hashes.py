"""Full hashes of a merge's inputs, remembered: a file that has neither changed in size nor in time of change is not read twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from merges.errors import CheckpointError

__all__ = ["default_cache", "file_hashes", "file_state", "hash_of"]

_CHUNK_BYTES = 8 * 1024 * 1024
_MOST_ENTRIES = 10_000


def default_cache() -> Path | None:
    """Where hashes are remembered: below XDG_CACHE_HOME, or ~/.cache; None for a user without a home."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return folder / "mergewright" / "hashes.json"


def file_hashes(paths: Iterable[Path], cache: Path | None) -> dict[str, str]:
    """BLAKE3 (hex) of whole files.

    Args:
        paths: the files.
        cache: a JSON file that is read, and written anew where a file had to be; one that cannot be used does no harm. None: nothing is remembered.

    Returns:
        Path as text -> hash.

    Raises:
        CheckpointError: a file cannot be read.
    """
    known, changed = _remembered(cache) if cache else {}, False
    found: dict[str, str] = {}
    for path in paths:
        mark, key = list(file_state(path)), str(path.resolve())
        entry = known.get(key)
        if not (isinstance(entry, list) and entry[:3] == mark and len(entry) == 4 and isinstance(entry[3], str)):
            entry, changed = [*mark, hash_of(path)], True
            known[key] = entry
        found[str(path)] = str(entry[3])
    if changed and cache:
        _remember(cache, known)
    return found


def file_state(path: Path) -> tuple[int, int, int]:
    """What changes when a file does: its size in bytes, the time of its last change in ns, its inode.

    Raises:
        CheckpointError: there is no such file any more.
    """
    try:
        state = os.stat(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    return state.st_size, state.st_mtime_ns, state.st_ino


def hash_of(path: Path) -> str:
    """BLAKE3 (hex) of one file.

    Raises:
        CheckpointError: it cannot be read.
    """
    hasher = blake3(max_threads=blake3.AUTO)
    try:
        with path.open("rb", buffering=0) as file:
            while data := file.read(_CHUNK_BYTES):
                hasher.update(data)
    except OSError as error:
        raise _unreadable(path, error) from error
    return str(hasher.hexdigest())


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{path}: expected a readable file, got {error.strerror or error}; check the disk")


def _remembered(cache: Path) -> dict[str, object]:
    try:
        found = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(cache: Path, known: dict[str, object]) -> None:
    """Write all or nothing; the newest entries, if there are many."""
    kept = dict(list(known.items())[-_MOST_ENTRIES:])
    draft = cache.with_name(f".{cache.name}.{os.getpid()}")
    with suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(kept), encoding="utf-8")
        draft.replace(cache)
