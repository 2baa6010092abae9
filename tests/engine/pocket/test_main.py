"""`python -m engine.pocket`: which parts run, and that no part can fail unseen."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from engine.pocket import __main__ as command


@pytest.mark.parametrize(
    ("world", "generator", "measure", "code"),
    [
        (0, 0, 0, 0),
        (1, 0, 0, 1),
        (0, 0, 1, 1),
        (-9, 0, 0, 1),  # killed: the largest of the numbers would be 0
        (0, -9, None, 1),
        (0, 1, None, 1),
    ],
)
def test_a_part_that_fails_fails_the_build_and_a_generator_that_was_built_is_measured(
    monkeypatch: pytest.MonkeyPatch, world: int, generator: int, measure: int | None, code: int
) -> None:
    ends = {"engine.pocket.world": world, "engine.pocket.generator": generator}
    measured: list[Any] = []

    def run(line: list[str], **_: object) -> SimpleNamespace:
        measured.append(line[2])
        return SimpleNamespace(returncode=measure)

    monkeypatch.setattr(subprocess, "Popen", lambda line, env: SimpleNamespace(wait=lambda: ends.pop(line[2])))
    monkeypatch.setattr(subprocess, "run", run)
    assert command.main() == code
    assert ends == {}
    assert measured == ([] if measure is None else ["engine.pocket.measure_generator"])
