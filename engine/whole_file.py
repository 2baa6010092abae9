"""Files and folders that are there whole or not at all, whatever becomes of the process or of the power."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all; when this returns, it is on the disk under its name. Where it fails, nothing is left beside it.

    Raises:
        OSError: as from the file system.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):  # what failed first is what is told
            part.unlink()
        raise
    _sync(path.parent)


def move_whole(made: Path, target: Path) -> None:
    """Give a folder its name once everything in it is on the disk; when this returns, the name is there too.

    Args:
        made: on the file system of `target`; files and folders in it are of our own making.
        target: nothing, or an empty folder.

    Raises:
        OSError: as from the file system.
    """
    for path in (*made.rglob("*"), made):
        _sync(path)
    os.replace(made, target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a file system that knows no such thing for folders
            raise
    finally:
        os.close(descriptor)
