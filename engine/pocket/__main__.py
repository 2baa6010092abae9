"""`python -m engine.pocket`: the whole pocket world from nothing; models on one core, the generator on the other, then measured."""

from __future__ import annotations

import os
import subprocess
import sys


def main() -> int:
    """Run both builds side by side, each on one thread: together they take as long as the slower one. Then measure the generator."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    parts = [
        [sys.executable, "-m", f"engine.pocket.{part}", "--out", target]
        for part, target in (("world", "data/pocket"), ("generator", "data/pocket/generator"))
    ]
    running = [subprocess.Popen(part, env=environment) for part in parts]
    failed = max(process.wait() for process in running)
    if failed:
        return failed
    measure = [sys.executable, "-m", "engine.pocket.measure_generator", "--generator", "data/pocket/generator"]
    return subprocess.run(measure, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
