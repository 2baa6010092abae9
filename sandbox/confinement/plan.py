"""What a layer needs to know when it confines a child."""

from __future__ import annotations

from dataclasses import dataclass


class LayerAbsent(Exception):
    """This machine does not give the layer; the text says why."""


@dataclass(frozen=True)
class Plan:
    """Attributes:
    parent: process id of the zygote as the child sees it, for the parent-death race.
    address_space: bytes for RLIMIT_AS, everything already mapped included; None where it cannot be limited (with a GPU the
        driver reserves terabytes).
    cpu_seconds: whole seconds for RLIMIT_CPU.
    gpu: the process has a CUDA context, so system calls that the driver needs stay open.
    kept: descriptors to be left open, the driver's.
    """

    parent: int
    address_space: int | None
    cpu_seconds: int
    gpu: bool = False
    kept: tuple[int, ...] = ()
