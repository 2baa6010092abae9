"""How a command ends: one line on standard error and an exit code."""

from __future__ import annotations

import sys


def report_error(message: str, *, code: int) -> int:
    """Print `message` as one line on standard error; returns `code`."""
    print(f"mergewright: {' '.join(message.split())}", file=sys.stderr)
    return code
