"""Runs a campaign in this process and kills it with SIGKILL at a named moment: `dying_run.py FOLDER MOMENT COUNT`.

Moments: `trial`, `propose`, `assess`, `final` (after so many rows of that kind were written), `before-row` (in the middle of an
assessment, its score paid but not yet stored), `begun` and `made` (before and after the archive's tables are there), `block` (after so many blocks of problems were answered by any model), `trained` (the new generator lies in its place, the archive does not know it yet).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from engine import campaign, rundir
from engine.progress import Progress
from engine.store import Store

METHODS = {
    "begun": "_create",
    "made": "_create",
    "trial": "add_trial",
    "propose": "propose",
    "assess": "assess",
    "final": "add_final",
    "before-row": "assess",
    "trained": "add_update",
    "block": "learn_verdicts",
}
BEFORE = ("begun", "before-row", "trained")


def main() -> None:
    folder, moment, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    method = METHODS[moment]
    original = getattr(Store, method)
    calls = 0

    def dying(self: Store, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count and moment in BEFORE:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(self, *args, **kwargs)
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(Store, method, dying)
    campaign.run_campaign(folder, Progress(rundir.read_config(folder)))


if __name__ == "__main__":
    main()
