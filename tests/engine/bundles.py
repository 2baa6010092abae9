"""A real bundle for tests, and ways to change it: the one that ships."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.statistics import anytime_interval, wilson_share
from engine import discovered

SHIPPED = "2cacd0fdbed4"
Place = tuple[str | int, ...]


def shipped_tree() -> dict[str, Any]:
    """The shipped bundle, as JSON."""
    return json.loads((discovered.folder() / f"{SHIPPED}.json").read_text())  # type: ignore[no-any-return]


def written(tree: object, path: Path) -> Path:
    """`tree` as a file."""
    path.write_text(json.dumps(tree))
    return path


def leaves(tree: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every value of a tree that holds no others, with its place."""
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(value, (*place, key))
    else:
        yield place, tree


def at(tree: Any, place: Place) -> Any:
    """The value at a place."""
    for key in place:
        tree = tree[key]
    return tree


def changed(tree: Any, place: Place, value: Any) -> Any:
    """A copy with another value at a place."""
    copied = copy.deepcopy(tree)
    at(copied, place[:-1])[place[-1]] = value
    return copied


def without(tree: Any, place: Place) -> Any:
    """A copy without what is at a place."""
    copied = copy.deepcopy(tree)
    del at(copied, place[:-1])[place[-1]]
    return copied


def with_share(score: dict[str, Any], share: float, effective: float) -> dict[str, Any]:
    """A score with another share in all readings, its problems counting as `effective` ones, and the interval of these two."""
    ends = (anytime_interval if "-" in score["bits"] else wilson_share)(share, effective)
    readings = {name: share for name in ("share", "strict", "lenient") if name in score}
    return score | readings | {"effective_n": effective, "interval": [ends.low, ends.high]}
