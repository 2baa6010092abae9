"""Exceptions of the sandbox: faults of the host or of its user. What a candidate program does wrong is never one of
these.

SandboxError
├── SandboxUserError       the caller gave something that cannot be used; one line: what, expected, got, what to do
│   ├── JobError           a tensor job is malformed
│   ├── ParameterError     a hyper-parameter that the program does not declare, or not a finite number
│   ├── DeviceError        the machine has no GPU that can be used
│   └── IsolationError     the machine gives less isolation than was asked for
├── ZygoteError            the sandbox's own process died or broke its protocol (a fault of the host)
└── KilledError            something outside killed a program's process twice, most likely for want of memory (likewise)
"""

from __future__ import annotations


class SandboxError(Exception):
    """Root of everything that this package raises."""


class SandboxUserError(SandboxError):
    """A mistake of the caller; `str()` is one line that says what to do."""


class JobError(SandboxUserError):
    """A tensor job is malformed."""


class ParameterError(SandboxUserError):
    """A hyper-parameter is not declared by the program, or is not a finite number."""


class DeviceError(SandboxUserError):
    """The machine has no GPU that can be used."""


class IsolationError(SandboxUserError):
    """The machine gives less isolation than was asked for."""


class ZygoteError(SandboxError):
    """The zygote could not be started, died, or broke its protocol."""


class KilledError(SandboxError):
    """A program's process was killed twice from outside; it says nothing about the program."""
