"""What a merge will do, from headers alone and before any work: what is merged and what copied, where every byte of the output will
lie, how much memory and disk that takes, and everything that stands in the way, all of it at once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from blake3 import blake3

from merges.blocks import BLOCK_ELEMENTS
from merges.buffers import differ, is_recomputed, noted
from merges.contract import RECIPE, program_id
from merges.errors import MergeUserError, OptionError, SelectionError, ShapeError
from merges.input_hashes import file_state
from merges.layout import MAX_SHARD_BYTES, Entry, Shard, plan_shards
from merges.provenance import versions
from merges.selection import select
from merges.streamed import Form, form_of
from merges.task_vectors import mergeable, misfits
from merges.vocabulary import VocabularyPlan
from merges.weights import View, Weights

__all__ = [
    "BATCH_BYTES",
    "DEFAULT_MEMORY_BYTES",
    "Plan",
    "Step",
    "TokenizerPlan",
    "available_memory",
    "make_plan",
    "too_large",
]

BATCH_BYTES = 64 * 1024 * 1024
"""Small tensors share one step up to this much memory; a larger tensor has its own."""

_UNIT_BYTES = 8
"""Per value, expert and working array of the rows that a streamed form needs together, where they are larger than its blocks."""

_PRODUCT_BYTES = 3 * 8
"""Per row and pair of experts, where a form keeps inner products of rows: as they are summed, whole, and as weights."""

DEFAULT_MEMORY_BYTES = 1024 * 1024 * 1024
"""For tensors held at once, where the user gives no bound; one that needs more is then done alone."""


@dataclass(frozen=True)
class Step:
    """How one tensor is merged.

    Attributes:
        base: what the task vectors are over, and what their merge is added to.
        experts: name -> model.
        form: how it is done without a sandbox; None: by the plan's program, in one.
        parameters: hyper-parameters.
    """

    base: Weights
    experts: Mapping[str, Weights]
    form: Form | None
    parameters: Mapping[str, Any]

    @cached_property
    def views(self) -> tuple[View, ...]:
        """Those of the models that are no plain files, and may keep something while they are read."""
        return tuple(model for model in (self.base, *self.experts.values()) if isinstance(model, View))


@dataclass(frozen=True)
class TokenizerPlan:
    """What the output's tokenizer is, where it is not just the base's.

    Attributes:
        vocabulary: its tokens, and whose rows they have; None: the base's own.
        folders: model -> folder.
        template: its chat template; None: as it comes.
    """

    vocabulary: VocabularyPlan | None
    folders: Mapping[str, Path]
    template: str | None


@dataclass(frozen=True)
class Plan:
    """A merge, ready to be done.

    Attributes:
        source, program, parameters, run_seed: what is run, and its id.
        base, experts: the inputs, opened. The base gives the tokenizer and the other files too.
        patterns: which parameters are merged, as given.
        steps: name -> how it is merged; all other tensors are copied.
        copied: name -> the model that it is copied from, where that is not the base.
        shards: the layout of the output.
        config: what the output's config.json says, where it is not the base's.
        tokenizer: see `TokenizerPlan`.
        memory_bytes: bound for tensors held at once.
        block: elements per block of a streamed form.
        problems: what stands in the way, the most telling first; nothing is if it is empty.
        ignored: model -> tensors that it has and the output cannot hold.
        notes: what else a reader should know, a line each.
    """

    source: str
    program: str
    parameters: Mapping[str, float]
    run_seed: int
    base: Weights
    experts: Mapping[str, Weights]
    patterns: tuple[str, ...]
    steps: Mapping[str, Step]
    shards: tuple[Shard, ...]
    memory_bytes: int
    block: int
    problems: tuple[MergeUserError, ...]
    copied: Mapping[str, Weights] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    tokenizer: TokenizerPlan | None = None
    ignored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    _needs: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_recipe(self) -> bool:
        """Whether it is a recipe's, not a program's."""
        return self.program.startswith(RECIPE)

    @property
    def sandboxed(self) -> bool:
        """Whether some tensor needs the program, and so a sandbox."""
        return any(step.form is None for step in self.steps.values())

    @property
    def weight_bytes(self) -> int:
        """Size of all weight files of the output."""
        return sum(shard.bytes for shard in self.shards)

    def need(self, entry: Entry) -> int:
        """Bytes held for one tensor: what its step cannot do without, beside blocks of fixed size."""
        found = self._needs.get(entry.name)
        if found is None:
            found = self._needs[entry.name] = self._need(entry)
        return found

    def _need(self, entry: Entry) -> int:
        step = self.steps.get(entry.name)
        if step is None:
            return self.copied.get(entry.name, self.base).held(entry.name)
        count = len(step.experts)
        if step.form is None:
            return (
                math.prod(entry.shape) * 4 * 2 * (count + 2)
            )  # float32 inputs here and in the sandbox, and the result in both
        unit, rows = step.form.unit(entry.shape), step.form.rows(entry.shape, step.parameters)
        blocks = unit * _UNIT_BYTES * (count + 4) if unit > self.block else 0
        return blocks + rows * count * count * _PRODUCT_BYTES + sum(view.held(entry.name) for view in step.views)  # fmt: skip

    def held(self, batch: Sequence[Entry]) -> int:
        """Bytes held for one step: of all its tensors in a sandbox, of one after the other in streamed form."""
        streamed = [self.need(entry) for entry in batch if self._is_streamed(entry.name)]
        return max(streamed, default=0) + sum(self.need(entry) for entry in batch if not self._is_streamed(entry.name))

    def _is_streamed(self, name: str) -> bool:
        step = self.steps.get(name)
        return step is None or step.form is not None

    def origins(self, name: str) -> list[Weights]:
        """The models that a tensor of the output is made from."""
        step = self.steps.get(name)
        return [self.copied.get(name, self.base)] if step is None else [step.base, *step.experts.values()]

    def batches(self, entries: Sequence[Entry]) -> Iterator[list[Entry]]:
        """The tensors in the order in which the base's files have them, small ones together."""
        place = {name: number for number, name in enumerate(self.base.names)}
        room = min(BATCH_BYTES, self.memory_bytes)
        batch: list[Entry] = []
        used = 0
        for entry in sorted(entries, key=lambda entry: place.get(entry.name, len(place))):
            need = max(self.need(entry), entry.bytes)
            if batch and used + need > room:
                yield batch
                batch, used = [], 0
            batch.append(entry)
            used += need
        if batch:
            yield batch

    def digest(self) -> str:
        """BLAKE3 (hex) of all that decides the output's bytes, the inputs' files by size and time of change.

        Raises:
            CheckpointError: a file is no longer there.
        """
        models = [self.base, *self.experts.values()]
        files = [[str(path), *file_state(path)[:2]] for model in models for path in model.paths]
        layout = [[shard.file, [[entry.name, str(entry.dtype)] for entry in shard.entries]] for shard in self.shards]
        settings = [self.source, dict(self.parameters), self.run_seed, sorted(self.steps), list(self.experts)]
        if self.tokenizer is not None and self.tokenizer.vocabulary is not None:
            settings.append(self.tokenizer.vocabulary.digest())
        return str(blake3(json.dumps([settings, files, layout, versions()]).encode()).hexdigest())


def make_plan(
    source: str,
    parameters: Mapping[str, float],
    base: Weights,
    experts: Mapping[str, Weights],
    *,
    selection: str | Sequence[str] = "all",
    run_seed: int = 0,
    max_memory_bytes: int | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    block: int = BLOCK_ELEMENTS,
    available_bytes: int | None = None,
) -> Plan:
    """Plan a merge. Reads no weights, but for a tied head that is stored twice and small tensors of whole numbers.

    Args:
        source, parameters: the program, and all its hyper-parameters.
        base, experts, selection, run_seed, max_memory_bytes: as in `apply_program`.
        max_shard_bytes: largest file of the output, but for a single tensor that is larger.
        block: elements per block of a streamed form.
        available_bytes: memory that the machine has left; None: not looked at.

    Raises:
        OptionError: there are no experts.
        SelectionError: the selection picks no floating-point tensor.
    """
    if not experts:
        raise OptionError("experts: expected at least one, got none; name the models to merge")
    patterns = (selection,) if isinstance(selection, str) else tuple(selection)
    twin = base.tied_duplicate()
    names = [name for name in base.names if name != twin]
    models = [base, *experts.values()]
    tables = [name for name in names if is_recomputed(name) and any(model.resolve(name) is None for model in models)]
    counts = [name for name in names if not base.dtypes[name].is_floating_point and differ(name, models)]
    copied = set(tables)
    merged = tuple(name for name in mergeable(base, select(names, patterns)) if name not in copied)
    if not merged:
        raise SelectionError(
            f"selection {','.join(patterns)!r}: expected floating-point tensors, got integers only; correct the pattern"
        )
    program = program_id(source)
    shards = plan_shards((Entry(name, base.shapes[name], base.dtypes[name]) for name in names), max_shard_bytes)
    step = Step(base, experts, form_of(program, len(experts)), parameters)
    plan = Plan(source, program, parameters, run_seed, base, experts, patterns, dict.fromkeys(merged, step), shards,
                max_memory_bytes or DEFAULT_MEMORY_BYTES, block, (), ignored=_ignored(base, experts),
                notes=noted(tables, counts, "the base"))  # fmt: skip
    problems: list[MergeUserError] = [ShapeError(text) for text in misfits(base, experts, merged)]
    if max_memory_bytes is not None:
        problems += too_large(plan, max_memory_bytes)
    elif available_bytes is not None:
        problems += too_large(
            plan, available_bytes, "memory of this machine", "close other programs, take a larger machine"
        )
    return replace(plan, problems=tuple(problems))


def _ignored(base: Weights, experts: Mapping[str, Weights]) -> dict[str, tuple[str, ...]]:
    """Expert -> tensors it has beyond the base's."""
    known = base.shapes
    extra = {name: tuple(tensor for tensor in expert.names if tensor not in known) for name, expert in experts.items()}
    return {name: tensors for name, tensors in extra.items() if tensors}


def too_large(
    plan: Plan, limit: int, what: str = "max memory", advice: str = "raise the limit"
) -> list[MergeUserError]:
    """The problem of the tensor that needs most memory, if that is more than the limit."""
    needs = [(plan.need(entry), entry.name) for shard in plan.shards for entry in shard.entries]
    largest, name = max(needs, default=(0, ""))
    if largest <= limit:
        return []
    return [
        OptionError(
            f"{what}: expected at least {largest:,} bytes for tensor {name!r}, got {limit:,}; "
            f"{advice} or leave the tensor out of the selection"
        )
    ]


def available_memory() -> int | None:
    """Bytes that programs may still ask for on this machine, where Linux tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
