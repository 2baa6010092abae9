"""The weight files of a merged model while they are written: pre-sized, each tensor at its offset, from any thread, in any order.

A journal beside them has a line for every tensor that is whole, so that a killed run goes on where it was: what the journal names is hashed
again and done anew where the bytes differ (after a power cut they may).
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from blake3 import blake3

from merges.errors import BusyTargetError
from merges.layout import Entry, Shard

__all__ = ["JOURNAL_FILE", "OutputFiles", "TensorWriter"]

JOURNAL_FILE = ".journal"
_CHUNK_BYTES = 8 * 1024 * 1024


class TensorWriter:
    """Takes one tensor's bytes in order, writes them where they belong and hashes them on the way."""

    def __init__(self, descriptor: int, offset: int, end: int) -> None:
        self._descriptor, self._offset, self._end = descriptor, offset, end
        self._hash = blake3()

    def write(self, data: memoryview) -> None:
        """The next bytes."""
        self._hash.update(data)
        while data:
            done = os.pwrite(self._descriptor, data, self._offset)
            data, self._offset = data[done:], self._offset + done

    def close(self) -> str:
        """BLAKE3 (hex) of the whole tensor."""
        assert self._offset == self._end, (self._offset, self._end)
        return str(self._hash.hexdigest())


class OutputFiles:
    """All weight files of one output folder, open for writing.

    Args:
        folder: where they are made, or go on.
        shards: the layout.
        digest: what tells this merge from any other; a journal with another one is of no use.

    Raises:
        BusyTargetError: another process writes to this folder.
        OSError: the folder cannot be written to, or the disk is full.
    """

    def __init__(self, folder: Path, shards: Iterable[Shard], digest: str) -> None:
        self._places: dict[str, tuple[int, int, Entry]] = {}
        self._descriptors: list[int] = []
        self._lock = threading.Lock()
        self._journal = os.open(folder / JOURNAL_FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._descriptors.append(self._journal)
        try:
            self._claim(folder)
            known = self._journaled(digest)
            for shard in shards:
                self._open(folder / shard.file, shard)
            self.done = {name: found for name, found in known.items() if self._hash_of(name) == found}
            if not known:
                os.ftruncate(self._journal, 0)
                self._note({"merge": digest})
        except BaseException:
            self.close()
            raise

    def _claim(self, folder: Path) -> None:
        try:
            fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyTargetError(
                f"{folder}: expected to be alone, got another process that makes the same merge; wait for it"
            ) from error

    def _journaled(self, digest: str) -> dict[str, str]:
        """Tensor -> hash, of those that an earlier run of the same merge finished; the last line may be torn."""
        text = os.pread(self._journal, os.fstat(self._journal).st_size, 0).decode("utf-8", "replace")
        entries = []
        for line in text.splitlines():
            try:
                entries.append(json.loads(line))
            except ValueError:
                break
        if not entries or entries[0] != {"merge": digest}:
            return {}
        return {entry["tensor"]: entry["blake3"] for entry in entries[1:]}

    def _open(self, path: Path, shard: Shard) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._descriptors.append(descriptor)
        header = shard.header
        os.ftruncate(descriptor, shard.bytes)
        os.pwrite(descriptor, header, 0)
        offset = len(header)
        for entry in shard.entries:
            self._places[entry.name] = descriptor, offset, entry
            offset += entry.bytes

    def _hash_of(self, name: str) -> str:
        if name not in self._places:
            return ""
        descriptor, offset, entry = self._places[name]
        found, end = blake3(), offset + entry.bytes
        while offset < end:
            data = os.pread(descriptor, min(_CHUNK_BYTES, end - offset), offset)
            found.update(data)
            offset += len(data)
        return str(found.hexdigest())

    def writer(self, name: str) -> TensorWriter:
        """For one tensor; one thread at a time may use it."""
        descriptor, offset, entry = self._places[name]
        return TensorWriter(descriptor, offset, offset + entry.bytes)

    def finish(self, name: str, found: str) -> None:
        """Note that a tensor is whole. From any thread."""
        with self._lock:
            self._note({"tensor": name, "blake3": found})
            self.done[name] = found

    def _note(self, entry: dict[str, str]) -> None:
        os.write(self._journal, (json.dumps(entry) + "\n").encode())

    def close(self) -> None:
        """Close every file; what is written stays."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __enter__(self) -> OutputFiles:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
