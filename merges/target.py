"""The output folder: all of it or none of it.

Work happens in a hidden sibling, `.<name>.<what is merged>.partial`, and one rename at the end makes the target. A full disk, a refused
program or Ctrl-C remove the sibling; only a kill leaves it, the target is untouched even then, and the same merge goes on in it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from merges.errors import BusyTargetError, HostError, TargetError

__all__ = ["check_absent", "staged"]

SLACK_BYTES = 1024 * 1024
"""Room for the files beside the weights and for the file system's own needs."""


def _written(folder: Path) -> int:
    """Bytes of disk that an earlier run has taken already."""
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir()) if folder.is_dir() else 0


def check_absent(target: Path) -> None:
    """See that nothing is in the way of the target.

    Raises:
        TargetError: there is a file, folder or link of that name.
    """
    if os.path.lexists(target):
        raise TargetError(f"{target}: expected no such file or folder yet, got one; remove it or choose another name")


@contextmanager
def staged(target: Path, weight_bytes: int, digest: str) -> Iterator[Path]:
    """Give a folder beside the target that becomes the target when the block ends well, and vanishes when it does not.

    Args:
        target: the folder to be; its parents are made.
        weight_bytes: what will be written, checked against the free disk before anything is.
        digest: what tells this merge from others to the same target.

    Raises:
        TargetError: the place cannot be written to or is too small.
        HostError: an OSError inside the block: the disk filled up after all, a file failed.
    """
    folder = target.parent / f".{target.name}.{digest[:12]}.partial"
    need = weight_bytes + SLACK_BYTES - _written(folder)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
        if free < need:
            raise TargetError(
                f"{target}: expected {need:,} bytes of free disk, got {free:,}; free some space or choose another disk"
            )
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise TargetError(f"{target}: expected a place to write, got {error.strerror}; choose another") from error
    ours = True
    try:
        yield folder
        check_absent(target)
        folder.rename(target)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free some space and run again" if full else "check the disk and run again"
        raise HostError(
            f"{target}: expected to write {weight_bytes:,} bytes of weights, got {error.strerror or error}; {advice}"
        ) from error
    except BusyTargetError:
        ours = False
        raise
    finally:
        if ours:
            shutil.rmtree(folder, ignore_errors=True)
