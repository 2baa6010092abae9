"""What the pages of shipped models have in common: every file with its size and hash."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from blake3 import blake3


def files_table(files: Mapping[str, Path]) -> list[str]:
    """Markdown lines: each file by the name that the page gives it, its bytes and BLAKE3 (hex)."""
    rows = [
        f"| `{name}` | {path.stat().st_size} | `{blake3(path.read_bytes()).hexdigest()}` |"
        for name, path in files.items()
    ]
    return ["", "## Files", "| file | bytes | BLAKE3 |", "|---|---|---|", *rows]
