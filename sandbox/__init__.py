"""Runs untrusted merge programs: a gate that says why not, and a confined process per program. See
`sandbox/README.md`."""

from __future__ import annotations

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
from sandbox.records import ExecutionResult, Isolation, Limits, Signature, TensorJob, Verdict
from sandbox.rules import RULES

if TYPE_CHECKING:
    from sandbox.host import Sandbox
    from sandbox.transfer import PackedJobs

__all__ = [
    "RULES",
    "DeviceError",
    "ExecutionResult",
    "Isolation",
    "IsolationError",
    "JobError",
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


def __getattr__(name: str) -> Any:
    """`Sandbox` and `PackedJobs` need torch, which is slow to import; the gate alone does not, so they are loaded on
    first use."""
    if name == "Sandbox":
        from sandbox.host import Sandbox

        return Sandbox
    if name == "PackedJobs":
        from sandbox.transfer import PackedJobs

        return PackedJobs
    raise AttributeError(f"module 'sandbox' has no attribute '{name}'")
