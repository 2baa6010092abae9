"""What a layer needs to know when it confines a child."""

from __future__ import annotations

from dataclasses import dataclass


class LayerAbsent(Exception):
    """This machine does not give the layer; the text says why."""


@dataclass(frozen=True)
class Plan:
    """Attributes:
    parent: process id of the zygote as the child sees it, for the parent-death race.
    address_space: bytes for RLIMIT_AS, everything already mapped included.
    cpu_seconds: whole seconds for RLIMIT_CPU.
    """

    parent: int
    address_space: int
    cpu_seconds: int
