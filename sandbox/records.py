"""The wires between the sandbox and whoever calls it: frozen records, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from sandbox.reasons import Reason

if TYPE_CHECKING:  # the zygote's launcher and the gate read this module without paying for torch
    from torch import Tensor

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

Level = Literal["FULL", "REDUCED", "NONE"]


@dataclass(frozen=True)
class Limits:
    """What one candidate may use. All its tensor jobs together count as one candidate.

    Attributes:
        wall_seconds: by the parent's clock, from the request to the reaped child.
        cpu_seconds: processor time; the kernel counts whole seconds, so it is rounded up.
        memory_bytes: address space on top of the zygote's own and of the mapped inputs and outputs.
        gpu_memory_bytes: of the device, by the driver's own count, the context's some 500 MiB included; only with `device="cuda"`.
        source_bytes: length of the program text in UTF-8.
        detail_bytes: longest detail text that is kept, in UTF-8, after escaping.
        output_bytes: characters the program may print before it is stopped (what it prints is discarded).
    """

    wall_seconds: float = 20.0
    cpu_seconds: float = 20.0
    memory_bytes: int = 2 * GIB
    gpu_memory_bytes: int = 8 * GIB
    source_bytes: int = 64 * KIB
    detail_bytes: int = 2 * KIB
    output_bytes: int = 1 * MIB


@dataclass(frozen=True)
class Signature:
    """What a program declares beside `model_dict` and `device`.

    Attributes:
        wants: the optional inputs it names, out of `name`, `depth`, `base`, `rng`.
        parameters: its hyper-parameters (keyword-only arguments with number defaults) and their defaults.
    """

    wants: frozenset[str] = frozenset()
    parameters: Mapping[str, float | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """The gate's answer about a text, before anything runs. `rule` is a key of `sandbox.rules.RULES`."""

    ok: bool
    reason: Reason | None = None
    detail: str | None = None
    line: int | None = None
    rule: str | None = None


@dataclass(frozen=True, eq=False)
class TensorJob:
    """One parameter tensor to merge.

    Attributes:
        name: the parameter's name.
        depth: position of its layer, 0..1.
        vectors: model name -> task vector; float32, same shape, in the experts' order.
        base: the seed's tensor (same shape, float32), or None where there is none.
        seed: 64-bit seed of every random generator the program can reach.
    """

    name: str
    depth: float
    vectors: Mapping[str, Tensor]
    base: Tensor | None
    seed: int


@dataclass(frozen=True)
class JobSlot:
    """A tensor job without its tensors: what a `JobSpace` makes room for.

    Attributes:
        name, depth, seed: as in `TensorJob`.
        shape: of every tensor.
        models: names of the task vectors, in the experts' order.
        base: whether there is the seed's tensor too.
    """

    name: str
    depth: float
    shape: tuple[int, ...]
    models: tuple[str, ...]
    base: bool
    seed: int


@dataclass(frozen=True)
class Isolation:
    """How a program was confined.

    Attributes:
        level: FULL, REDUCED or NONE (`sandbox.confinement.layers`).
        missing: a line `name: why; what to do` for each layer of FULL that this machine did not give.
        layers: names of those that hold.
        extra: lines as in `missing`, for layers beyond FULL.
    """

    level: Level
    missing: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ExecutionResult:
    """What came of running one program over its jobs.

    Attributes:
        ok: every job gave a valid tensor.
        reason, detail, line: why not, and where in the program's source, as far as known.
            `detail` may hold text that the program chose: escaped and truncated, but untrusted.
        seconds: wall time by the parent's clock.
        peak_memory_bytes: highest resident set of the candidate's process (the shared zygote pages included); 0 if
        none ran. isolation: the level under which it ran.
        outputs: job name -> merged task vector (float32, the inputs' shape); None unless ok.
        rule: the gate's rule, where the reason is `policy`.
    """

    ok: bool
    reason: Reason | None
    detail: str | None
    line: int | None
    seconds: float
    peak_memory_bytes: int
    isolation: Isolation
    outputs: Mapping[str, Tensor] | None
    rule: str | None = None

    @cached_property
    def sha256(self) -> str | None:
        """SHA-256 (hex) over names, shapes and bytes of the outputs, independent of job order; None unless ok. Computed when first
        asked for: hashing takes longer than merging."""
        from sandbox.transfer import digest

        return None if self.outputs is None else digest(self.outputs)
