"""Merge programs and the checkpoints they work on: contract, library, checkpoints, applying a program."""

from merges.apply import apply_program
from merges.checkpoints import Checkpoint, Identity, depth_of
from merges.contract import CONTRACT, EXAMPLE, Signature, canonical, program_id, signature_of
from merges.errors import (
    CheckpointError,
    HostError,
    MergeError,
    MergeUserError,
    OptionError,
    ProgramError,
    SelectionError,
    ShapeError,
    TargetError,
    UnknownProgramError,
)
from merges.probes import behaviour_hash, probe_jobs
from merges.provenance import Provenance, TensorRecord, verify_folder
from merges.selection import select
from merges.task_vectors import check_compatible, mergeable, reseeded, task_jobs, tensor_seed

__all__ = [
    "CONTRACT",
    "EXAMPLE",
    "Checkpoint",
    "CheckpointError",
    "HostError",
    "Identity",
    "MergeError",
    "MergeUserError",
    "OptionError",
    "ProgramError",
    "Provenance",
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
