"""What `apply --dry-run` says of a plan: what is merged and what copied, what it needs, and everything that stands in the way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merges.contract import RECIPE
from merges.errors import DestinationError
from merges.layout import Entry
from merges.plan import Plan
from merges.target import SLACK_BYTES
from merges.weights import View

if TYPE_CHECKING:
    from merges.publishing import Destination

__all__ = ["described", "facts"]

_SHOWN = 20
"""Problems that are printed; `--json` has them all."""


def facts(
    plan: Plan, out: str | Path, workers: int = 1, push: Destination | DestinationError | None = None
) -> dict[str, Any]:
    """The plan in numbers, for machines, if so many threads do it, and where it would be pushed to. Sizes are in bytes."""
    entries = [entry for shard in plan.shards for entry in shard.entries]
    target = Path(out)
    free = shutil.disk_usage(_existing(target)).free
    problems = [str(problem) for problem in plan.problems]
    if os.path.lexists(target):
        problems.append(f"{target}: expected no such file or folder yet, got one; remove it or choose another name")
    if free < plan.weight_bytes + SLACK_BYTES:
        problems.append(f"{target}: expected {plan.weight_bytes + SLACK_BYTES:,} bytes of free disk, got {free:,}; free some space or choose another disk")  # fmt: skip
    if isinstance(push, DestinationError):
        problems.append(str(push))
        push = None
    return {
        "program": plan.program,
        "computed": "sandbox" if plan.sandboxed else "streamed",
        "parameters": dict(plan.parameters),
        "merged": sorted(plan.steps),
        "copied": sorted(entry.name for entry in entries if entry.name not in plan.steps),
        "ignored": {name: list(tensors) for name, tensors in plan.ignored.items()},
        "files": [shard.file for shard in plan.shards],
        "output_bytes": plan.weight_bytes,
        "free_bytes": free,
        "memory_bytes": _held(plan, entries, workers),
        "push": asdict(push) if push else None,
        "notes": list(plan.notes),
        "problems": problems,
    }


def _copied_from(plan: Plan) -> list[str]:
    """The models that a recipe's copied tensors are from, as the recipe names them."""
    names = {id(plan.base): str(plan.base.identity)} | {id(model): name for name, model in plan.experts.items()}
    found: dict[str, None] = {}
    for model in {id(model): model for model in plan.copied.values()}.values():
        while id(model) not in names and isinstance(model, View):
            model = model.origin
        found[names.get(id(model), str(model.path))] = None
    return sorted(found)


def _held(plan: Plan, entries: Sequence[Entry], workers: int) -> int:
    """Bytes of tensors held at once at the most: by as many steps as there are threads, but no more than the bound, unless one step alone needs more."""
    steps = sorted(map(plan.held, plan.batches(entries)), reverse=True)
    return max(max(steps, default=0), min(plan.memory_bytes, sum(steps[:workers])))


def described(
    plan: Plan, out: str | Path, workers: int = 1, push: Destination | DestinationError | None = None
) -> list[str]:
    """The same for people, line by line."""
    found = facts(plan, out, workers, push)
    way = "in the sandbox" if plan.sandboxed else "in streamed form"
    what = f"method {plan.program.removeprefix(RECIPE)}" if plan.is_recipe else f"program {plan.program}"
    origins = ", ".join(_copied_from(plan)) if plan.is_recipe else "the base"
    lines = [
        f"{what}, {way}: {len(found['merged'])} tensors merged, {len(found['copied'])} copied"
        + (f" from {origins}" if origins else ""),
        f"output: {found['output_bytes']:,} bytes in {len(found['files'])} file(s); {found['free_bytes']:,} bytes of disk are free",
        f"memory: up to {found['memory_bytes']:,} bytes for tensors at once, beside the interpreter",
    ]
    whose, lacking = ("", "the output cannot hold") if plan.is_recipe else ("expert ", "the base does not have")
    lines += [
        f"{whose}{name}: {len(tensors)} tensors that {lacking} are left out, first {tensors[0]}"
        for name, tensors in found["ignored"].items()
    ]
    lines += [f"note: {note}" for note in plan.notes]
    if found["push"]:
        state = "there and empty" if found["push"]["head"] else "to be made"
        seen = "private" if found["push"]["private"] else "public"
        lines.append(f"push: to {found['push']['url']}, {seen}, {state}, as {found['push']['account']}")
    problems = found["problems"]
    lines += [f"problem: {problem}" for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        lines.append(f"and {len(problems) - _SHOWN} more (--json lists them)")
    return lines


def _existing(path: Path) -> Path:
    """The nearest folder above the target that is there."""
    return next((parent for parent in path.absolute().parents if parent.is_dir()), Path("/"))
