"""What a merge will do, from headers alone and before any work: what is merged and what copied, where every byte of the output will
lie, how much memory and disk that takes, and everything that stands in the way, all of it at once."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from blake3 import blake3

from merges.blocks import BLOCK_ELEMENTS
from merges.checkpoints import Checkpoint
from merges.contract import program_id
from merges.errors import MergeUserError, OptionError, SelectionError, ShapeError
from merges.layout import MAX_SHARD_BYTES, Entry, Shard, plan_shards
from merges.selection import select
from merges.streamed import Form, form_of
from merges.task_vectors import mergeable, misfits

__all__ = ["BATCH_BYTES", "DEFAULT_MEMORY_BYTES", "Plan", "make_plan"]

BATCH_BYTES = 64 * 1024 * 1024
"""Small tensors share one step up to this much memory; a larger tensor has its own."""

_UNIT_BYTES = 8
"""Per value, expert and working array of the rows that a streamed form needs together, where they are larger than its blocks."""

DEFAULT_MEMORY_BYTES = 1024 * 1024 * 1024
"""For tensors held at once, where the user gives no bound; one that needs more is then done alone."""


@dataclass(frozen=True)
class Plan:
    """A merge, ready to be done.

    Attributes:
        source, program, parameters, run_seed: what is run, and its id.
        base, experts: the inputs, opened.
        patterns: which parameters are merged, as given.
        merged: their names; all others are copied.
        shards: the layout of the output.
        form: how a library merge is done without a sandbox; None for any other program.
        memory_bytes: bound for tensors held at once.
        block: elements per block of a streamed form.
        problems: what stands in the way, the most telling first; nothing is if it is empty.
    """

    source: str
    program: str
    parameters: Mapping[str, float]
    run_seed: int
    base: Checkpoint
    experts: Mapping[str, Checkpoint]
    patterns: tuple[str, ...]
    merged: frozenset[str]
    shards: tuple[Shard, ...]
    form: Form | None
    memory_bytes: int
    block: int
    problems: tuple[MergeUserError, ...]

    @property
    def weight_bytes(self) -> int:
        """Size of all weight files of the output."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def ignored(self) -> dict[str, tuple[str, ...]]:
        """Expert -> tensors it has beyond the base's, which the merge cannot hold."""
        known = set(self.base.names)
        extra = {
            name: tuple(tensor for tensor in expert.names if tensor not in known)
            for name, expert in self.experts.items()
        }
        return {name: tensors for name, tensors in extra.items() if tensors}

    def need(self, entry: Entry) -> int:
        """Bytes held for one tensor: what its step cannot do without, beside blocks of fixed size."""
        if entry.name not in self.merged:
            return 0
        elements = math.prod(entry.shape)
        if self.form is not None:
            unit = self.form.unit(entry.shape)
            return unit * _UNIT_BYTES * (len(self.experts) + 4) if unit > self.block else 0
        return (
            elements * 4 * 2 * (len(self.experts) + 2)
        )  # float32 inputs here and in the sandbox, and the result in both

    def held(self, batch: Sequence[Entry]) -> int:
        """Bytes held for one step: of all its tensors in a sandbox, of one after the other in streamed form."""
        needs = map(self.need, batch)
        return max(needs) if self.form is not None else sum(needs)

    def batches(self, entries: Sequence[Entry]) -> Iterator[list[Entry]]:
        """The tensors in the order in which the base's files have them, small ones together."""
        place = {name: number for number, name in enumerate(self.base.names)}
        room = min(BATCH_BYTES, self.memory_bytes)
        batch: list[Entry] = []
        used = 0
        for entry in sorted(entries, key=lambda entry: place[entry.name]):
            need = max(self.need(entry), entry.bytes)
            if batch and used + need > room:
                yield batch
                batch, used = [], 0
            batch.append(entry)
            used += need
        if batch:
            yield batch

    def digest(self) -> str:
        """BLAKE3 (hex) of all that decides the output's bytes, the inputs' files by size and time of change."""
        models = [self.base, *self.experts.values()]
        files = [
            [str(path), os.stat(path).st_size, os.stat(path).st_mtime_ns] for model in models for path in model.paths
        ]
        layout = [[shard.file, [entry.name for entry in shard.entries]] for shard in self.shards]
        settings = [self.source, dict(self.parameters), self.run_seed, sorted(self.merged), list(self.experts)]
        return str(blake3(json.dumps([settings, files, layout]).encode()).hexdigest())


def make_plan(
    source: str,
    parameters: Mapping[str, float],
    base: Checkpoint,
    experts: Mapping[str, Checkpoint],
    *,
    selection: str | Sequence[str] = "all",
    run_seed: int = 0,
    max_memory_bytes: int | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    block: int = BLOCK_ELEMENTS,
) -> Plan:
    """Plan a merge. Reads no weights, but for a tied head that is stored twice.

    Raises:
        OptionError: there are no experts.
        SelectionError: the selection picks no floating-point tensor.
    """
    if not experts:
        raise OptionError("experts: expected at least one, got none; name the models to merge")
    patterns = (selection,) if isinstance(selection, str) else tuple(selection)
    twin = base.tied_duplicate()
    names = [name for name in base.names if name != twin]
    merged = mergeable(base, select(names, patterns))
    if not merged:
        raise SelectionError(
            f"selection {','.join(patterns)!r}: expected floating-point tensors, got integers only; correct the pattern"
        )
    program = program_id(source)
    shards = plan_shards((Entry(name, base.shapes[name], base.dtypes[name]) for name in names), max_shard_bytes)
    plan = Plan(source, program, parameters, run_seed, base, experts, patterns, frozenset(merged), shards, form_of(program, len(experts)),
                max_memory_bytes or DEFAULT_MEMORY_BYTES, block, ())  # fmt: skip
    problems: list[MergeUserError] = [ShapeError(text) for text in misfits(base, experts, merged)]
    if max_memory_bytes is not None:
        problems += _too_large(plan, max_memory_bytes)
    return replace(plan, problems=tuple(problems))


def _too_large(plan: Plan, limit: int) -> list[MergeUserError]:
    needs = [(plan.need(entry), entry.name) for shard in plan.shards for entry in shard.entries]
    largest, name = max(needs)
    if largest <= limit:
        return []
    return [
        OptionError(
            f"max memory: expected at least {largest:,} bytes for tensor {name!r}, got {limit:,}; "
            "raise the limit or leave the tensor out of the selection"
        )
    ]
