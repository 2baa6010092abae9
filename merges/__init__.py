"""Merge programs and the checkpoints they work on: contract, library, checkpoints, applying a program.

Names are loaded on first use: listing programs or reading the contract does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from merges.errors import (
    BusyTargetError,
    CheckpointError,
    DestinationError,
    HostError,
    MergeError,
    MergeUserError,
    OptionError,
    ProgramError,
    PublishError,
    SelectionError,
    ShapeError,
    TargetError,
    UnknownProgramError,
)

if TYPE_CHECKING:
    from merges.apply import apply_program
    from merges.checkpoints import Checkpoint, Identity, depth_of
    from merges.contract import CONTRACT, EXAMPLE, Signature, canonical, program_id, signature_of
    from merges.probes import behaviour_hash, probe_jobs
    from merges.provenance import Provenance, TensorRecord, verify_folder
    from merges.selection import select
    from merges.task_vectors import check_compatible, mergeable, reseeded, task_jobs, tensor_seed

__all__ = [
    "CONTRACT",
    "EXAMPLE",
    "BusyTargetError",
    "Checkpoint",
    "CheckpointError",
    "DestinationError",
    "HostError",
    "Identity",
    "MergeError",
    "MergeUserError",
    "OptionError",
    "ProgramError",
    "Provenance",
    "PublishError",
    "SelectionError",
    "ShapeError",
    "Signature",
    "TargetError",
    "TensorRecord",
    "UnknownProgramError",
    "apply_program",
    "behaviour_hash",
    "canonical",
    "check_compatible",
    "depth_of",
    "mergeable",
    "probe_jobs",
    "program_id",
    "reseeded",
    "select",
    "signature_of",
    "task_jobs",
    "tensor_seed",
    "verify_folder",
]

_HOMES = {
    "apply": ("apply_program",),
    "checkpoints": ("Checkpoint", "Identity", "depth_of"),
    "contract": ("CONTRACT", "EXAMPLE", "Signature", "canonical", "program_id", "signature_of"),
    "probes": ("behaviour_hash", "probe_jobs"),
    "provenance": ("Provenance", "TensorRecord", "verify_folder"),
    "selection": ("select",),
    "task_vectors": ("check_compatible", "mergeable", "reseeded", "task_jobs", "tensor_seed"),
}


def __getattr__(name: str) -> Any:
    """Find a public name in the module that defines it."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"merges.{module}"), name)
    raise AttributeError(f"module 'merges' has no attribute {name!r}")
