"""Run a command as a user without rights, from root: `python -m tests.sandbox.as_user COMMAND...`

The interpreter, or the checkout, may lie below a folder that only root may enter (trap: the paths cannot be read by another uid). So, in
a mount namespace of its own, such a folder is replaced by an open one that holds these paths and nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from sandbox.confinement.linux import unshare

UID = 65_534
_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS


def closed_ancestor(path: Path) -> Path | None:
    """The topmost folder above `path` (or itself) that others may not enter."""
    for folder in [*reversed(path.parents), path]:
        if not folder.stat().st_mode & 0o001:
            return folder
    return None


def open_up(paths: list[Path]) -> None:
    """Make `paths` reachable for everybody, in this process's mounts only."""
    unshare(_NEW_MOUNTS)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for path in paths:
        closed = closed_ancestor(path)
        if closed is None:
            continue
        inside = os.open(path, os.O_PATH)  # a way to it that stays when the folder above is covered
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(closed)], check=True)
        path.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["mount", "--no-canonicalize", "--bind", f"/proc/self/fd/{inside}", str(path)],
            check=True,
            pass_fds=[inside],
        )
        os.close(inside)


def main(command: list[str]) -> int:
    """Open the paths, run the command without any right; its exit status."""
    root = Path(__file__).resolve().parents[2]
    open_up([Path(sys.base_prefix).resolve(), root])
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="home-") as home:
        os.chown(home, UID, UID)
        environment = {
            **kept,
            "HOME": home,
            "TMPDIR": home,
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": home,
        }
        done = subprocess.run(command, user=UID, group=UID, extra_groups=[], cwd=root, env=environment, check=False)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
