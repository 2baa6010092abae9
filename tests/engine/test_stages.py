"""Stage accounting: seconds of every block, counts of those that ended well, from any thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.stages import STAGES, Stages


def test_seconds_and_counts_add_up_and_are_taken_once() -> None:
    now = iter([0.0, 2.0, 10.0, 13.0, 20.0, 21.0])
    stages = Stages(lambda: next(now))
    with stages.watch("generate", 40):
        pass
    with stages.watch("propose", 8):
        pass
    with stages.watch("generate", 10):
        pass
    assert stages.take() == {"propose": (3.0, 8), "generate": (3.0, 50)}
    assert list(STAGES).index("propose") < list(STAGES).index("generate")
    assert stages.take() == {}


def test_what_broke_took_time_but_does_not_count() -> None:
    now = iter([0.0, 5.0])
    stages = Stages(lambda: next(now))
    with pytest.raises(ValueError, match="no"), stages.watch("execute", 1):
        raise ValueError("no")
    assert stages.take() == {"execute": (5.0, 0)}


def test_threads_count_together() -> None:
    stages = Stages()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: stages.add("check", 1.0, 1), range(500)))
    assert stages.take() == {"check": (500.0, 500)}
