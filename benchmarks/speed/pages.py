"""How fast pages of a large archive are answered. `python -m benchmarks.speed.pages [--programs 50000]`

The archive is that of `benchmarks.speed.archive`; the server is `mergewright serve`, asked over its socket. The first visit of each page, and the median of five
after it, in milliseconds: what a server computes once, such as the intervals of the final, is in the first visit of the first page that shows it. `{best}` is the program
first on dev.

Target: a page in 300 ms.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

from benchmarks.speed.archive import fill
from engine import rundir
from engine.config import CampaignConfig

TARGET_MS = 300.0
PAGES = {
    "runs": "/",
    "program, a finalist": "/runs/large/programs/{best}",
    "overview": "/runs/large",
    "live": "/runs/large/live",
    "leaderboard": "/runs/large/programs",
    "leaderboard, page 500": "/runs/large/programs?page=500",
    "leaderboard, filtered": "/runs/large/programs?verdict=ok&operation=topk&text=sign&where=scale>0.5",
    "program": "/runs/large/programs/n{other}",
    "map": "/runs/large/map",
    "compare": "/runs/large/compare?first={best}&second=n123",
    "JSON: programs": "/api/runs/large/programs",
    "JSON: program": "/api/runs/large/programs/n{other}",
}


def asked(address: str) -> float:
    """Milliseconds until the whole answer is there."""
    began = time.perf_counter()
    with urlopen(address) as answer:
        answer.read()
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "large"
        rundir.new_folder(CampaignConfig(), folder, "now")
        best, *_ = fill(folder, arguments.programs)
        command = [sys.executable, "-m", "engine.cli", "serve", str(folder), "--port", "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout
            home = re.findall(r"http://[^/\s]+", server.stdout.readline())[0]
            for name, path in PAGES.items():
                address = home + path.format(best=best, other=min(1_999, arguments.programs))
                first = asked(address)
                milliseconds = statistics.median(asked(address) for _ in range(arguments.repeats))
                verdict = "" if milliseconds <= TARGET_MS else f"  MISSED, target {TARGET_MS:g} ms"
                print(f"{name}: {milliseconds:.0f} ms (first {first:.0f}){verdict}", flush=True)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
