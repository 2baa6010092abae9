"""What `merges` exports is a promise; a change of it is a change of this list."""

from __future__ import annotations

import subprocess
import sys

import pytest

import merges

SURFACE = [
    "CONTRACT",
    "EXAMPLE",
    "Checkpoint",
    "BusyTargetError",
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


def test_exports_are_the_promised_ones_and_exist():
    assert sorted(merges.__all__) == sorted(SURFACE)
    for name in SURFACE:
        assert getattr(merges, name) is not None


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'merges' has no attribute 'nothing'"):
        merges.nothing  # noqa: B018


def test_contract_and_library_do_not_wait_for_torch():
    code = (
        "import sys, merges; from merges import library; merges.CONTRACT; merges.program_id('x'); "
        "library.source('ties'); merges.select(['a'], 'all'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
