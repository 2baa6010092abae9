"""Runs untrusted merge programs: a gate that says why not, and a confined process per program. See
`sandbox/README.md`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sandbox.errors import (
    DeviceError,
    IsolationError,
    JobError,
    KilledError,
    ParameterError,
    SandboxError,
    SandboxUserError,
    ZygoteError,
)
from sandbox.gate import check, parse, signature_of
from sandbox.reasons import Reason
from sandbox.records import ExecutionResult, Isolation, JobSlot, Limits, Signature, TensorJob, Verdict
from sandbox.rules import RULES

if TYPE_CHECKING:
    from sandbox.host import Sandbox
    from sandbox.space import JobSpace
    from sandbox.transfer import PackedJobs

__all__ = [
    "RULES",
    "DeviceError",
    "ExecutionResult",
    "Isolation",
    "IsolationError",
    "JobError",
    "JobSlot",
    "JobSpace",
    "KilledError",
    "Limits",
    "PackedJobs",
    "ParameterError",
    "Reason",
    "Sandbox",
    "SandboxError",
    "SandboxUserError",
    "Signature",
    "TensorJob",
    "Verdict",
    "ZygoteError",
    "check",
    "parse",
    "signature_of",
]


_WITH_TORCH = {"JobSpace": "space", "PackedJobs": "transfer", "Sandbox": "host"}


def __getattr__(name: str) -> Any:
    """What needs torch, which is slow to import, is loaded on first use: the gate alone does without."""
    if name in _WITH_TORCH:
        return getattr(import_module(f"sandbox.{_WITH_TORCH[name]}"), name)
    raise AttributeError(f"module 'sandbox' has no attribute '{name}'")
