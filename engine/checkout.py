"""Which state of the code runs here."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHANGED = "+changes"
PATIENCE_SECONDS = 10.0


def commit(root: Path = ROOT) -> str | None:
    """The commit that a checkout is of, with "+changes" behind it where a file that it knows differs from it.

    Args:
        root: of the checkout; the default is that of this code.

    Returns:
        None where it is no checkout, as an installed wheel, or where git is not there or does not read it.
    """
    repository = root / ".git"  # and none further up, which would be of somebody else's work
    if not repository.exists():
        return None
    where = [f"--git-dir={repository}", f"--work-tree={root}", "--no-optional-locks"]
    command = ["git", *where, "describe", "--always", "--abbrev=40", "--exclude=*", f"--dirty={CHANGED}"]
    try:
        told = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() or None
