"""Where a merged model comes from, written beside it: `provenance.json` for machines, `README.md` for people.

There is no clock and no duration in either: the same inputs give the same bytes. The hashes tell accidents, not
forgers: nothing here is signed.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import safetensors
import torch
from blake3 import blake3
from pydantic import TypeAdapter, ValidationError

from merges.checkpoints import Checkpoint, Identity
from merges.contract import RECIPE, program_id
from merges.errors import CheckpointError, one_line
from merges.tensor_bytes import tensor_bytes

__all__ = ["CARD_FILE", "PROVENANCE_FILE", "Provenance", "TensorRecord", "model_card", "verify_folder", "versions"]

PROVENANCE_FILE = "provenance.json"
CARD_FILE = "README.md"
FORMAT: Literal[1] = 1

_VERIFIED_AT_A_TIME = 1 << 22
"""Values."""


@dataclass(frozen=True)
class TensorRecord:
    """One output tensor: BLAKE3 (hex) of its data, and whether it was merged or copied from the base."""

    blake3: str
    merged: bool
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Provenance:
    """Everything needed to make the same model again, and to check that a folder still holds it.

    Attributes:
        format: version of this record.
        program_id, source: the program; of a recipe `mergekit:METHOD` and its text.
        parameters: every hyper-parameter with the value used, defaults included.
        run_seed: seed of the random numbers, see `tensor_seed`.
        selection: which parameters were merged, as given.
        base, experts: identities of the inputs; experts in the order the program saw them.
        ignored: expert -> tensors it has and the merge cannot hold, as those that the base does not have.
        isolation: level of the sandbox and what it lacked; None for a library merge, done here in streamed form.
        versions: of Python and of the packages whose arithmetic and format went in.
        tensors: output tensor -> record.
        files: the other files taken from the base -> BLAKE3 (hex).
        input_hashes: file of an input -> BLAKE3 (hex) of all of it, where that was asked for.
        notes: what else was found before the work, a line each.
    """

    format: Literal[1]
    program_id: str
    source: str
    parameters: Mapping[str, float | int]
    run_seed: int
    selection: tuple[str, ...]
    base: Identity
    experts: Mapping[str, Identity]
    ignored: Mapping[str, tuple[str, ...]]
    isolation: tuple[str, tuple[str, ...]] | None
    versions: Mapping[str, str]
    tensors: Mapping[str, TensorRecord]
    files: Mapping[str, str]
    input_hashes: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The text of `PROVENANCE_FILE`."""
        return _ADAPTER.dump_json(self, indent=2).decode() + "\n"

    @classmethod
    def read(cls, folder: Path) -> Provenance:
        """Read the record of a merged model.

        Raises:
            CheckpointError: not a folder, no record, or not one of ours.
        """
        path = folder / PROVENANCE_FILE
        try:
            return _ADAPTER.validate_json(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise CheckpointError(
                f"{folder}: expected a folder with {PROVENANCE_FILE}, got none; give a folder that `apply` wrote"
            ) from error
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise CheckpointError(
                f"{path}: expected a record of format {FORMAT}, got {first['msg']} at {where}; apply the merge again"
            ) from error
        except OSError as error:
            raise CheckpointError(f"{path}: expected a readable record, got {error}; check the disk") from error


_ADAPTER: TypeAdapter[Provenance] = TypeAdapter(Provenance)


def versions() -> dict[str, str]:
    """Versions of what computes and writes a merge."""
    try:
        own = version("mergewright")
    except PackageNotFoundError:  # a checkout that is not installed
        own = "source"
    return {
        "mergewright": own,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "safetensors": str(safetensors.__version__),
    }


def verify_folder(folder: str | Path) -> list[str]:
    """Recompute every hash of a merged model.

    Returns:
        One line for each problem; an empty list means that the folder holds what its provenance says.

    Raises:
        CheckpointError: the folder has no provenance to compare with.
    """
    path = Path(folder)
    record = Provenance.read(path)
    problems = []
    if not record.program_id.startswith(RECIPE) and program_id(record.source) != record.program_id:
        problems.append(f"program: expected id {record.program_id}, got {program_id(record.source)} from its source")
    for name, expected in record.files.items():
        file = path / Path(name).name
        got = blake3(file.read_bytes()).hexdigest() if file.is_file() else "no such file"
        if got != expected:
            problems.append(f"file {name!r}: expected BLAKE3 {expected}, got {got}")
    try:
        checkpoint = Checkpoint.open(path)
        problems += [p for name, tensor in record.tensors.items() if (p := _differs(checkpoint, name, tensor))]
    except CheckpointError as error:
        return [*problems, str(error)]
    extra = sorted(set(checkpoint.names) - set(record.tensors))
    return [one_line(problem) for problem in problems + [f"tensor {name!r}: not in the provenance" for name in extra]]


def _differs(checkpoint: Checkpoint, name: str, expected: TensorRecord) -> str | None:
    if name not in checkpoint.shapes:
        return f"tensor {name!r}: expected as in the provenance, got none"
    dtype, shape = str(checkpoint.dtypes[name]), checkpoint.shapes[name]
    if (dtype, shape) != (expected.dtype, tuple(expected.shape)):
        return f"tensor {name!r}: expected {expected.dtype} {tuple(expected.shape)}, got {dtype} {shape}"
    hasher, elements = blake3(), math.prod(shape)
    for start in range(0, elements, _VERIFIED_AT_A_TIME):
        part = checkpoint.read_part(name, start, min(start + _VERIFIED_AT_A_TIME, elements))
        hasher.update(tensor_bytes(part))
    got = hasher.hexdigest()
    return None if got == expected.blake3 else f"tensor {name!r}: expected BLAKE3 {expected.blake3}, got {got}"


def model_card(record: Provenance) -> str:
    """The text of `CARD_FILE`: front matter, a provenance table, the program."""
    inputs = (record.base, *record.experts.values())
    models = [model for identity in inputs for model in (identity, identity.on) if model is not None]
    # The hub refuses a card whose `base_model` has a revision.
    hub = dict.fromkeys(identity.given.partition("@")[0] for identity in models if identity.commit)
    front = ["---", "library_name: transformers", "tags:", "- merge", "- mergewright"]
    if hub:
        front += ["base_model:", *(f'- "{given}"' for given in hub)]
    merged = sum(tensor.merged for tensor in record.tensors.values())
    rows = [
        ("method" if record.program_id.startswith(RECIPE) else "program", f"`{record.program_id}`"),
        ("hyper-parameters", ", ".join(f"{key} = {value}" for key, value in record.parameters.items()) or "none"),
        ("base", _described(record.base)),
        *((f"expert {name}", _described(identity)) for name, identity in record.experts.items()),
        ("merged parameters", f"{', '.join(record.selection)}: {merged} of {len(record.tensors)} tensors"),
        ("run seed", str(record.run_seed)),
        *(("note", note) for note in record.notes),
        ("sandbox", _isolation(record.isolation)),
        ("made with", ", ".join(f"{key} {value}" for key, value in record.versions.items())),
    ]
    table = ["| provenance | |", "|---|---|", *(f"| {_cell(key)} | {_cell(value)} |" for key, value in rows)]
    recipe, fence = record.program_id.startswith(RECIPE), "```"
    while fence in record.source:
        fence += "`"
    return "\n".join(
        [
            *front,
            "---",
            "",
            "# Merged model",
            "",
            "Made by Mergewright from the mergekit recipe below, tensor by tensor."
            if recipe
            else "Made by Mergewright: the program below, run tensor by tensor on the experts' task vectors\n(expert − base).",
            f"`{PROVENANCE_FILE}` holds a BLAKE3 hash of every tensor;",
            "`mergewright verify` recomputes them.",
            "",
            *table,
            "",
            fence + ("yaml" if recipe else "python"),
            record.source.rstrip(),
            fence,
            "",
        ]
    )


def _isolation(isolation: tuple[str, tuple[str, ...]] | None) -> str:
    if isolation is None:
        return "none needed: a library merge in streamed form"
    level, missing = isolation
    return f"{level} without {', '.join(missing)}" if missing else level


def _described(identity: Identity) -> str:
    commit = f" at {identity.commit}" if identity.commit else ""
    on = f"; on {_described(identity.on)}" if identity.on else ""
    return f"{identity.given}{commit}, {identity.bytes:,} bytes, headers {identity.headers[:16]}{on}"


def _cell(text: str) -> str:
    return one_line(text).replace("|", "\\|")
