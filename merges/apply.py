"""Apply a program to checkpoints: a folder that transformers loads, with the record of where it came from.

Planned from headers (`plan.py`), done by several threads tensor by tensor (`merging.py`), written in place (`output.py`), so memory stays
bounded however large the model is, and a killed run goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from blake3 import blake3

from merges.adapters import Adapted, is_adapter
from merges.chat_templates import write_template
from merges.checkpoints import Checkpoint
from merges.contract import checked_parameters
from merges.cores import usable_cores
from merges.devices import cuda, device_name, fitted
from merges.input_hashes import default_cache, file_hashes
from merges.layout import INDEX_FILE, index_json
from merges.mergekit import plan_recipe
from merges.merging import Progress, merge_tensors
from merges.output import JOURNAL_FILE, OutputFiles
from merges.plan import Plan, available_memory, make_plan
from merges.provenance import (
    CARD_FILE,
    FORMAT,
    PROVENANCE_FILE,
    Provenance,
    TensorRecord,
    model_card,
    versions,
)
from merges.recipes import ModelName, Recipe
from merges.target import check_absent, staged
from merges.tokenizer_output import TOKENIZER_FILES, write_tokenizer
from merges.views import folder_of
from merges.weights import Weights
from sandbox import Sandbox

__all__ = ["COPIED_FILES", "apply_plan", "apply_program", "apply_recipe", "open_named", "plan_merge", "refuse"]

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


def apply_program(
    source: str,
    *,
    base: str | Path | Weights,
    experts: Mapping[str, str | Path | Weights],
    out: str | Path,
    sandbox: Sandbox,
    selection: str | Sequence[str] = "all",
    parameters: Mapping[str, float] | None = None,
    run_seed: int = 0,
    max_memory_bytes: int | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Provenance:
    """Merge experts into a new model folder.

    Args:
        source: program text under the contract.
        base: the seed model, a folder, hub id or opened model. Output dtype, layout and tokenizer are the base's.
        experts: name -> model, in the order the program shall see them.
        out: the folder to make; it must not exist.
        sandbox: where the program runs, and on which device.
        selection: which parameters are merged, see `select`; all others are copied from the base bit for bit.
        parameters: hyper-parameters that differ from the program's defaults.
        run_seed: seed of all random numbers; the same seed and inputs give the same bytes.
        max_memory_bytes: bound for tensors held at once (the interpreter and libraries come on top); None: no bound
            but the largest tensor's need.
        progress: see `Progress`.
        workers: threads; None: one a core.

    Returns:
        The record that is also written to the folder.

    Raises:
        MergeUserError: an input, the target or an option cannot be used; nothing was written.
        ProgramError: the program was refused or failed; nothing is left behind.
        HostError: the disk filled up or a file failed during the work; nothing is left behind.
    """
    target = Path(out)
    check_absent(target)
    plan = plan_merge(
        source,
        base=base,
        experts=experts,
        selection=selection,
        parameters=parameters,
        run_seed=run_seed,
        max_memory_bytes=max_memory_bytes,
    )
    device = cuda() if sandbox.device == "cuda" else None
    plan = fitted(plan, device) if device is not None else plan
    return apply_plan(plan, target, sandbox, workers=workers, progress=progress, device=device)


def apply_recipe(
    recipe: Recipe,
    *,
    out: str | Path,
    open_model: Callable[[ModelName], Weights] | None = None,
    run_seed: int = 0,
    max_memory_bytes: int | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    device: torch.device | None = None,
) -> Provenance:
    """Make what a mergekit recipe describes, without a sandbox: its methods are the library's.

    Args:
        recipe: see `read_recipe`.
        open_model: opens a model that it names; None: a folder or hub id, an adapter on it if there is one.
        out, run_seed, max_memory_bytes, progress, workers: as in `apply_program`.
        device: as in `apply_plan`.

    Raises:
        MergeUserError, HostError: as `apply_program`.
    """
    target = Path(out)
    check_absent(target)
    plan = plan_recipe(recipe, open_model or open_named, run_seed=run_seed, max_memory_bytes=max_memory_bytes)
    plan = fitted(plan, device) if device is not None else plan
    return apply_plan(plan, target, None, workers=workers, progress=progress, device=device)


def open_named(name: ModelName) -> Weights:
    """The model that a recipe names, with its adapter."""
    model = Checkpoint.open(name.path)
    return Adapted.open(name.lora, model) if name.lora else model


def apply_plan(
    plan: Plan,
    target: Path,
    sandbox: Sandbox | None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    hash_inputs: bool = False,
    device: torch.device | None = None,
) -> Provenance:
    """Do what a plan says.

    Args:
        sandbox: for the tensors that need it.
        device: where library merges compute, for which the plan is `fitted`; None: on the CPU, in streamed form.
        hash_inputs: read the inputs' files whole once more, and note their hashes (remembered for the next time).
        target, workers, progress: as `apply_program`.

    Raises:
        MergeUserError, ProgramError, HostError: as `apply_program`.
    """
    refuse(plan)
    inputs = dict.fromkeys(path for model in (plan.base, *plan.experts.values()) for path in model.paths)
    input_hashes = file_hashes(inputs, default_cache()) if hash_inputs else {}
    digest = plan.digest() if device is None else f"{plan.digest()} {device_name(device)}"
    with staged(target, plan.weight_bytes, digest) as folder:
        with OutputFiles(folder, plan.shards, digest) as output:
            merge_tensors(plan, output, sandbox, workers or usable_cores(), progress, device)
            hashes = dict(output.done)
        (folder / JOURNAL_FILE).unlink()
        if len(plan.shards) > 1:
            (folder / INDEX_FILE).write_text(index_json(plan.shards), encoding="utf-8")
        files = _copy_files(plan, folder)
        record = replace(_record(plan, sandbox, hashes, files), input_hashes=input_hashes)
        if device is not None:
            record = replace(record, versions={**record.versions, "device": device_name(device)})
        (folder / PROVENANCE_FILE).write_text(record.to_json(), encoding="utf-8")
        (folder / CARD_FILE).write_text(model_card(record), encoding="utf-8")
    return record


def plan_merge(
    source: str,
    *,
    base: str | Path | Weights,
    experts: Mapping[str, str | Path | Weights],
    selection: str | Sequence[str] = "all",
    parameters: Mapping[str, float] | None = None,
    run_seed: int = 0,
    max_memory_bytes: int | None = None,
) -> Plan:
    """What `apply_program` would do with these arguments. Reads headers only.

    Raises:
        MergeUserError, ProgramError: a model, the program or an option is of no use by itself; how they fit together is in
            the plan's problems.
    """
    effective = checked_parameters(source, parameters or {})
    opened_base = _opened(base)
    opened = {name: _opened(expert, opened_base) for name, expert in experts.items()}
    return make_plan(
        source,
        effective,
        opened_base,
        opened,
        selection=selection,
        run_seed=run_seed,
        max_memory_bytes=max_memory_bytes,
        available_bytes=available_memory(),
    )


def refuse(plan: Plan) -> None:
    """Raise the first of the plan's problems, and say how many more there are."""
    if plan.problems:
        more = f" (and {len(plan.problems) - 1} more: --dry-run lists them)" if len(plan.problems) > 1 else ""
        raise type(plan.problems[0])(str(plan.problems[0]) + more)


def _opened(model: str | Path | Weights, base: Weights | None = None) -> Weights:
    """A folder of adapters is one on the base."""
    if not isinstance(model, str | Path):
        return model
    return Adapted.open(model, base) if base is not None and is_adapter(model) else Checkpoint.open(model)


def _copy_files(plan: Plan, folder: Path) -> dict[str, str]:
    """Write the files beside the weights; name -> BLAKE3."""
    origin, tokenizer, written = folder_of(plan.base), plan.tokenizer, set()
    for name in COPIED_FILES:
        if name == "config.json" and plan.config is not None:
            (folder / name).write_text(json.dumps(plan.config, indent=2) + "\n", encoding="utf-8")
        elif (origin / name).is_file() and not (tokenizer and tokenizer.vocabulary and name in TOKENIZER_FILES):
            (folder / name).write_bytes((origin / name).read_bytes())
        else:
            continue
        written.add(name)
    if tokenizer is not None and tokenizer.vocabulary is not None:
        written |= set(write_tokenizer(tokenizer.vocabulary, tokenizer.folders, folder))
    if tokenizer is not None and tokenizer.template is not None:
        written |= set(write_template(tokenizer.template, folder))
    return {name: blake3((folder / name).read_bytes()).hexdigest() for name in sorted(written)}


def _record(plan: Plan, sandbox: Sandbox | None, hashes: Mapping[str, str], files: Mapping[str, str]) -> Provenance:
    entries = [entry for shard in plan.shards for entry in shard.entries]
    tensors = {
        entry.name: TensorRecord(hashes[entry.name], entry.name in plan.steps, str(entry.dtype), entry.shape)
        for entry in entries
    }
    return Provenance(
        format=FORMAT,
        program_id=plan.program,
        source=plan.source,
        parameters=plan.parameters,
        run_seed=plan.run_seed,
        selection=plan.patterns,
        base=plan.base.identity,
        experts={name: expert.identity for name, expert in plan.experts.items()},
        ignored=plan.ignored,
        notes=plan.notes,
        isolation=(sandbox.isolation.level, sandbox.isolation.missing) if plan.sandboxed and sandbox else None,
        versions=versions(),
        tensors=tensors,
        files=files,
    )
