"""`python -m engine.pocket`: the whole pocket world from nothing; models on one core, the generator on the other, then measured."""

from __future__ import annotations

import os
import subprocess
import sys

PARTS = {"world": "data/pocket", "generator": "data/pocket/generator"}
MEASURE = ("-m", "engine.pocket.measure_generator", "--generator", PARTS["generator"])


def main() -> int:
    """Run both builds side by side, each on one thread: together they take as long as the slower one. Then measure the generator.

    A generator that was built is measured even where the world was not worth searching: its page must not tell of older weights.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = {
        part: subprocess.Popen([sys.executable, "-m", f"engine.pocket.{part}", "--out", target], env=environment)
        for part, target in PARTS.items()
    }
    ended = {part: process.wait() for part, process in running.items()}
    if ended["generator"] == 0:
        ended["measure_generator"] = subprocess.run([sys.executable, *MEASURE], env=environment, check=False).returncode
    return int(any(ended.values()))  # a part that was killed ends with a negative number


if __name__ == "__main__":
    sys.exit(main())
