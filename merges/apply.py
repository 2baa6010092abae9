"""Apply a program to checkpoints: a folder that transformers loads, with the record of where it came from.

The work goes tensor by tensor, so memory stays bounded by a few tensors however large the model is. Not covered yet:
resuming, several workers, LoRA inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from blake3 import blake3
from torch import Tensor

from merges.checkpoints import Checkpoint
from merges.contract import program_id, signature_of
from merges.errors import OptionError, ProgramError, SelectionError
from merges.layout import INDEX_FILE, Entry, Shard, index_json, plan_shards
from merges.provenance import (
    CARD_FILE,
    FORMAT,
    PROVENANCE_FILE,
    Provenance,
    TensorRecord,
    model_card,
    versions,
)
from merges.selection import select
from merges.target import check_absent, staged
from merges.task_vectors import check_compatible, mergeable, task_jobs
from merges.tensor_bytes import tensor_bytes
from sandbox import ExecutionResult, Sandbox, TensorJob, check

__all__ = ["COPIED_FILES", "apply_program"]

Progress = Callable[[int, int], None]
"""Called with (tensors done, tensors in all) after every step."""

COPIED_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "preprocessor_config.json",
    "processor_config.json",
)
"""What is taken from the base as it is. An allow-list: code files of a base never travel."""

BATCH_BYTES = 64 * 1024 * 1024
"""Small tensors share one run of the program up to this much memory; a larger tensor runs alone."""


@dataclass(frozen=True)
class _Plan:
    source: str
    program: str
    parameters: Mapping[str, float]
    base: Checkpoint
    experts: Mapping[str, Checkpoint]
    merged: frozenset[str]
    shards: tuple[Shard, ...]
    run_seed: int
    batch_bytes: int


def apply_program(
    source: str,
    *,
    base: str | Path | Checkpoint,
    experts: Mapping[str, str | Path | Checkpoint],
    out: str | Path,
    sandbox: Sandbox,
    selection: str | Sequence[str] = "all",
    parameters: Mapping[str, float] | None = None,
    run_seed: int = 0,
    max_memory_bytes: int | None = None,
    progress: Progress | None = None,
) -> Provenance:
    """Merge experts into a new model folder.

    Args:
        source: program text under the contract.
        base: the seed model, a folder, hub id or opened checkpoint. Output dtype, layout and tokenizer are the base's.
        experts: name -> model, in the order the program shall see them.
        out: the folder to make; it must not exist.
        sandbox: where the program runs, and on which device.
        selection: which parameters are merged, see `select`; all others are copied from the base bit for bit.
        parameters: hyper-parameters that differ from the program's defaults.
        run_seed: seed of all random numbers; the same seed and inputs give the same bytes.
        max_memory_bytes: bound for tensors held at once (the interpreter and libraries come on top); None: no bound
            but the largest tensor's need.
        progress: see `Progress`.

    Returns:
        The record that is also written to the folder.

    Raises:
        MergeUserError: an input, the target or an option cannot be used; nothing was written.
        ProgramError: the program was refused or failed; nothing is left behind.
        HostError: the disk filled up or a file failed during the work; nothing is left behind.
    """
    target = Path(out)
    effective = _checked_parameters(source, parameters or {})
    check_absent(target)
    opened_base = _opened(base)
    opened_experts = {name: _opened(expert) for name, expert in experts.items()}
    patterns = (selection,) if isinstance(selection, str) else tuple(selection)
    plan = _planned(source, effective, opened_base, opened_experts, patterns, run_seed, max_memory_bytes)
    with staged(target, sum(shard.bytes for shard in plan.shards)) as folder:
        files = _copy_files(opened_base.path, folder)
        tensors = _write_shards(plan, folder, sandbox, progress)
        record = _record(plan, patterns, sandbox, tensors, files)
        (folder / PROVENANCE_FILE).write_text(record.to_json(), encoding="utf-8")
        (folder / CARD_FILE).write_text(model_card(record), encoding="utf-8")
    return record


def _checked_parameters(source: str, given: Mapping[str, float]) -> dict[str, float]:
    verdict = check(source)
    if not verdict.ok:
        raise _program_error(program_id(source), verdict.reason, verdict.detail, verdict.line)
    declared = dict(signature_of(source).parameters)
    for name, value in given.items():
        if name not in declared:
            known = ", ".join(declared) or "none at all"
            raise OptionError(f"hyper-parameter {name!r}: expected one of {known}, got an unknown name; correct it")
        if not math.isfinite(value):
            raise OptionError(f"hyper-parameter {name!r}: expected a finite number, got {value}; correct it")
    return {**declared, **given}


def _opened(model: str | Path | Checkpoint) -> Checkpoint:
    return model if isinstance(model, Checkpoint) else Checkpoint.open(model)


def _planned(
    source: str,
    parameters: Mapping[str, float],
    base: Checkpoint,
    experts: Mapping[str, Checkpoint],
    patterns: tuple[str, ...],
    run_seed: int,
    max_memory_bytes: int | None,
) -> _Plan:
    if not experts:
        raise OptionError("experts: expected at least one, got none; name the models to merge")
    twin = base.tied_duplicate()
    names = [name for name in base.names if name != twin]
    merged = mergeable(base, select(names, patterns))
    if not merged:
        raise SelectionError(
            f"selection {','.join(patterns)!r}: expected floating-point tensors, got integers only; correct the pattern"
        )
    check_compatible(base, experts, merged)
    largest = max((_need(base, len(experts), name), name) for name in merged)
    if max_memory_bytes is not None and largest[0] > max_memory_bytes:
        raise OptionError(
            f"max memory: expected at least {largest[0]:,} bytes for tensor {largest[1]!r}, got {max_memory_bytes:,}; "
            "raise the limit or leave the tensor out of the selection"
        )
    shards = plan_shards(Entry(name, base.shapes[name], base.dtypes[name]) for name in names)
    budget = BATCH_BYTES if max_memory_bytes is None else min(BATCH_BYTES, max_memory_bytes)
    program = program_id(source)
    return _Plan(source, program, parameters, base, experts, frozenset(merged), shards, run_seed, budget)


def _need(base: Checkpoint, experts: int, name: str) -> int:
    """Bytes for one tensor: float32 inputs here and in the sandbox, and the result in both."""
    return math.prod(base.shapes[name]) * 4 * 2 * (experts + 2)


def _copy_files(origin: Path, folder: Path) -> dict[str, str]:
    hashes = {}
    for name in COPIED_FILES:
        if (origin / name).is_file():
            content = (origin / name).read_bytes()
            (folder / name).write_bytes(content)
            hashes[name] = blake3(content).hexdigest()
    return hashes


def _write_shards(plan: _Plan, folder: Path, sandbox: Sandbox, progress: Progress | None) -> dict[str, TensorRecord]:
    records: dict[str, TensorRecord] = {}
    total = sum(len(shard.entries) for shard in plan.shards)
    for shard in plan.shards:
        with (folder / shard.file).open("wb") as file:
            file.write(shard.header)
            for batch in _batches(plan, shard.entries):
                for entry, tensor in zip(batch, _outputs(plan, batch, sandbox), strict=True):
                    records[entry.name] = _write(file, entry, tensor, entry.name in plan.merged)
                if progress is not None:
                    progress(len(records), total)
    if len(plan.shards) > 1:
        (folder / INDEX_FILE).write_text(index_json(plan.shards), encoding="utf-8")
    return records


def _write(file: BinaryIO, entry: Entry, tensor: Tensor, merged: bool) -> TensorRecord:
    data = tensor_bytes(tensor)
    assert (len(data), tensor.dtype) == (entry.bytes, entry.dtype), entry
    file.write(data)
    return TensorRecord(blake3(data).hexdigest(), merged, str(entry.dtype), entry.shape)


def _batches(plan: _Plan, entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    used = 0
    for entry in entries:
        need = _need(plan.base, len(plan.experts), entry.name) if entry.name in plan.merged else entry.bytes
        if batch and used + need > plan.batch_bytes:
            yield batch
            batch, used = [], 0
        batch.append(entry)
        used += need
    if batch:
        yield batch


def _outputs(plan: _Plan, batch: Sequence[Entry], sandbox: Sandbox) -> list[Tensor]:
    names = [entry.name for entry in batch if entry.name in plan.merged]
    merged: dict[str, Tensor] = {}
    if names:
        jobs = task_jobs(plan.base, plan.experts, names, run_seed=plan.run_seed, program_id=plan.program)
        result = sandbox.execute(plan.source, jobs, plan.parameters)
        merged = _merged(plan, jobs, result)
    return [merged[entry.name] if entry.name in merged else plan.base.read(entry.name) for entry in batch]


def _merged(plan: _Plan, jobs: Sequence[TensorJob], result: ExecutionResult) -> dict[str, Tensor]:
    if not result.ok or result.outputs is None:
        raise _program_error(plan.program, result.reason, result.detail, result.line)
    merged = {}
    for job in jobs:
        dtype = plan.base.dtypes[job.name]
        seed = plan.base.read(job.name) if dtype is torch.float64 else job.base
        assert seed is not None
        tensor = (seed + result.outputs[job.name]).to(dtype)
        if not torch.isfinite(tensor.to(torch.float32)).all():
            detail = f"tensor {job.name!r} overflows {dtype} once it is added to the base"
            raise _program_error(plan.program, "nonfinite", detail, None)
        merged[job.name] = tensor
    return merged


def _program_error(program: str, reason: str | None, detail: str | None, line: int | None) -> ProgramError:
    where = f" in line {line}" if line is not None else ""
    said = f" ({detail})" if detail else ""
    return ProgramError(
        f"program {program}: expected a merged tensor for every parameter, got {reason}{where}{said}; "
        "mend the program or choose another",
        reason=str(reason),
        detail=detail,
        line=line,
    )


def _record(
    plan: _Plan,
    patterns: tuple[str, ...],
    sandbox: Sandbox,
    tensors: Mapping[str, TensorRecord],
    files: Mapping[str, str],
) -> Provenance:
    known = set(plan.base.names)
    return Provenance(
        format=FORMAT,
        program_id=plan.program,
        source=plan.source,
        parameters=plan.parameters,
        run_seed=plan.run_seed,
        selection=patterns,
        base=plan.base.identity,
        experts={name: expert.identity for name, expert in plan.experts.items()},
        ignored={
            name: extra
            for name, expert in plan.experts.items()
            if (extra := tuple(tensor for tensor in expert.names if tensor not in known))
        },
        isolation=(sandbox.isolation.level, sandbox.isolation.missing),
        versions=versions(),
        tensors=tensors,
        files=files,
    )
