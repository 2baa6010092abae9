"""Library merges on an accelerator: the programs themselves, with whole tensors in the device's memory.

Every worker has a lane of its own: two buffers in page-locked memory, of which one is filled from a file while the other is on its way, a stream
for copies and a stream for arithmetic. While one lane computes, others read and write. On the CPU a stream is nothing and a buffer plain
memory; the rest is the same code, which is how tests run it without an accelerator.

The bits are those of the program on that kind of device: the same for any number of lanes and any size of buffers, but not the CPU's where a sum
is taken in another order.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from merges import library
from merges.blocks import not_finite
from merges.checkpoints import depth_of
from merges.contract import Signature, signature_of
from merges.errors import OptionError
from merges.plan import Plan
from merges.weights import Weights

_cuda: Any = torch.cuda  # whose classes have no types

__all__ = ["CHUNK_BYTES", "Lane", "Method", "cuda", "device_bytes", "device_name", "fitted", "free_bytes", "method_of"]

CHUNK_BYTES = 32 * 1024 * 1024
"""Size of each of a lane's two buffers."""

_FREE_SHARE = 0.8
"""Of the device's free memory; the rest is for what the allocator keeps in pieces."""

_COPIES = 3
"""Float32 copies of every model that the most demanding program holds at once."""

_MORE = 8
"""Further ones, whatever the number of models: the base, the result, masks, what a sort needs."""

Read = Callable[[int, int, Tensor], Tensor]
"""(start, stop, buffer) -> these elements, in the buffer or elsewhere in the CPU's memory."""


@dataclass(frozen=True)
class Method:
    """A library program that runs in this process; its text is ours, so it needs no sandbox.

    Attributes:
        name: in the library.
        parameters: its hyper-parameters.
    """

    name: str
    parameters: Mapping[str, float]

    def run(self, vectors: Mapping[str, Tensor], base: Tensor, device: torch.device, name: str, depth: float | None, seed: int) -> Tensor:  # fmt: skip
        """The merged task vector of one tensor, as the contract says."""
        program = _program(self.name)
        extras = {"base": base, "name": name, "depth": depth, "rng": torch.Generator().manual_seed(seed)}
        wanted = {key: extras[key] for key in program.signature.wants}
        return program.merge_models(dict(vectors), device, **wanted, **self.parameters)


@dataclass(frozen=True)
class _Program:
    signature: Signature
    merge_models: Callable[..., Tensor]


@functools.cache
def _program(name: str) -> _Program:
    source = library.source(name)
    namespace: dict[str, Any] = {"__name__": f"merges.library.{name}"}
    exec(compile(source, f"{name}.py", "exec"), namespace)
    return _Program(signature_of(source), namespace["merge_models"])


def method_of(name: str, parameters: Mapping[str, Any], experts: int) -> Method | None:
    """The program of this name with what a step says, or None where that is more than a program can be told (a density for each model)."""
    known = _program(name).signature.parameters
    given: dict[str, float] = {}
    for key, value in parameters.items():
        if key == "weights" and "w7" in known and len(value) <= 8:
            given |= {f"w{i}": float(weight) for i, weight in enumerate(value)}
        elif isinstance(value, Sequence) and len({*value}) == 1 and key in known:
            given[key] = float(value[0])
        elif isinstance(value, int | float) and key in known:
            given[key] = float(value)
        else:
            return None
    return Method(name, given) if experts else None


def cuda() -> torch.device:
    """The machine's first accelerator.

    Raises:
        OptionError: there is none that torch can use.
    """
    if not _cuda.is_available():
        got = "a torch built for CPUs" if torch.version.cuda is None else "none that torch can use (see nvidia-smi)"
        raise OptionError(
            f"device 'cuda': expected an NVIDIA accelerator and a torch for it, got {got}; use device 'cpu'"
        )
    return torch.device("cuda", 0)


def fitted(plan: Plan, device: torch.device) -> Plan:
    """The plan with what stands in the way on this device, and a note of what the CPU does nevertheless."""
    room, alone = free_bytes(device), 0
    needs: list[tuple[int, str]] = []
    for name, step in plan.steps.items():
        if step.form is None:
            continue
        if method_of(step.form.name, step.parameters, len(step.experts)) is None:
            alone += 1
        else:
            needs.append((device_bytes(math.prod(step.base.shapes[name]), len(step.experts)), name))
    largest, name = max(needs, default=(0, ""))
    problems, notes = plan.problems, plan.notes
    if room is not None and largest > room:
        problems += (
            OptionError(
                f"device '{device}': expected {largest:,} bytes of free memory for tensor {name!r}, got {room:,}; end other work there, or use device 'cpu'"
            ),
        )
    if alone:
        notes += (f"{alone} tensors are merged on the CPU, since the method's values differ from model to model",)
    return replace(plan, problems=problems, notes=notes)


def device_bytes(elements: int, experts: int) -> int:
    """Upper bound for the device's memory that one tensor takes while it is merged."""
    return elements * 4 * (_COPIES * experts + _MORE)


def device_name(device: torch.device) -> str:
    """What a reader calls it."""
    return str(_cuda.get_device_name(device)) if device.type == "cuda" else device.type


def free_bytes(device: torch.device) -> int | None:
    """Bytes of a device's memory that merges may take; None for the CPU."""
    return int(_cuda.mem_get_info(device)[0] * _FREE_SHARE) if device.type == "cuda" else None


class _Buffer:
    """A lane's buffer, and the copy that it is part of."""

    def __init__(self, device: torch.device, size: int) -> None:
        cuda = device.type == "cuda"
        self._bytes = torch.empty(size, dtype=torch.uint8, pin_memory=cuda)
        self._copied = _cuda.Event() if cuda else None

    def elements(self, dtype: torch.dtype, count: int) -> Tensor:
        """Its beginning, as so many elements."""
        return self._bytes[: count * dtype.itemsize].view(dtype)

    def copy(self, target: Tensor, source: Tensor, stream: Any) -> None:
        """Begin to copy from or to this buffer."""
        target.copy_(source, non_blocking=True)
        if self._copied is not None:
            self._copied.record(stream)

    def wait(self) -> None:
        """Until the copy is done."""
        if self._copied is not None:
            self._copied.synchronize()


class Lane:
    """One worker's way to a device and back.

    Args:
        device: where the arithmetic is done.
        chunk_bytes: size of each buffer.
    """

    def __init__(self, device: torch.device, chunk_bytes: int = CHUNK_BYTES) -> None:
        self.device, self._chunk = device, chunk_bytes
        self._buffers = [_Buffer(device, chunk_bytes) for _ in range(2)]
        cuda = device.type == "cuda"
        self._copies = _cuda.Stream(device) if cuda else None
        self._arithmetic = _cuda.Stream(device) if cuda else None

    def merged(self, method: Method, name: str, base: Weights, experts: Mapping[str, Weights], seed: int, dtype: torch.dtype) -> Iterator[Tensor | None]:  # fmt: skip
        """The merged model's tensor, rounded to `dtype`: parts in order, in the CPU's memory, each to be used before the next is asked for.

        Args:
            method: what merges the task vectors.
            name: the tensor.
            base, experts: models that have it in one shape.
            seed: of the program's random numbers.
            dtype: of the output.

        Yields:
            The parts; one None instead of them all where a value overflows `dtype`.

        Raises:
            CheckpointError: a file cannot be read, or a value is NaN or infinite.
        """
        shape = base.shapes[name]
        with self._computing():
            stored = self._stored(base, name)
            origin = stored.to(torch.float32).reshape(shape)
            vectors = {called: self._vector(expert, name, base, origin) for called, expert in experts.items()}
            finite = torch.stack([tensor.isfinite().all() for tensor in (origin, *vectors.values())]).tolist()
            if not all(finite):
                called, model = [("the base", base), *((repr(key), expert) for key, expert in experts.items())][finite.index(False)]  # fmt: skip
                raise not_finite(name, called, model)
            merged = method.run(vectors, origin, self.device, name, depth_of(name, base.n_layers), seed)
            exact = stored.to(dtype).reshape(shape) if dtype is torch.float64 else origin
            total = (exact + merged).to(dtype).reshape(-1)
            fits = bool(total.to(torch.float32 if dtype.itemsize < 4 else dtype).isfinite().all())
        if not fits:
            yield None
            return
        yield from self._download(total)

    def _stored(self, model: Weights, name: str) -> Tensor:
        stored = model.resolve(name) or name
        return self._upload(math.prod(model.shapes[stored]), model.dtypes[stored], lambda start, stop, into: model.read_part(name, start, stop, into))  # fmt: skip

    def _vector(self, expert: Weights, name: str, base: Weights, origin: Tensor) -> Tensor:
        if expert.change(name, 0, 0, base) is None:
            return self._stored(expert, name).to(torch.float32).reshape(origin.shape) - origin

        def change(start: int, stop: int, _: Tensor) -> Tensor:
            known = expert.change(name, start, stop, base)
            assert known is not None, "asked above"
            return known

        return self._upload(origin.numel(), torch.float32, change).reshape(origin.shape)

    def _upload(self, elements: int, dtype: torch.dtype, read: Read) -> Tensor:
        """A tensor on the device, ready for the arithmetic that is queued after this."""
        target = torch.empty(elements, dtype=dtype, device=self.device)
        if self._copies is not None and self._arithmetic is not None:
            self._copies.wait_stream(self._arithmetic)  # this memory may have been that of a tensor still in use
        for buffer, (start, stop) in zip(itertools.cycle(self._buffers), self._spans(elements, dtype), strict=False):
            buffer.wait()
            part = read(start, stop, buffer.elements(dtype, stop - start))
            with self._copying():
                buffer.copy(target[start:stop], part, self._copies)
        if self._copies is not None and self._arithmetic is not None:
            self._arithmetic.wait_stream(self._copies)
        return target

    def _download(self, values: Tensor) -> Iterator[Tensor]:
        """Parts of a tensor of the device; the next is under way while one is used."""
        if self._copies is not None and self._arithmetic is not None:
            self._copies.wait_stream(self._arithmetic)
        under_way: list[tuple[_Buffer, Tensor]] = []
        for buffer, (start, stop) in zip(itertools.cycle(self._buffers), self._spans(values.numel(), values.dtype), strict=False):  # fmt: skip
            part = buffer.elements(values.dtype, stop - start)
            with self._copying():
                buffer.copy(part, values[start:stop], self._copies)
            under_way.append((buffer, part))
            if len(under_way) == len(self._buffers):
                yield self._arrived(under_way)
        while under_way:
            yield self._arrived(under_way)

    def _arrived(self, under_way: list[tuple[_Buffer, Tensor]]) -> Tensor:
        buffer, part = under_way.pop(0)
        buffer.wait()
        return part

    def _spans(self, elements: int, dtype: torch.dtype) -> Iterator[tuple[int, int]]:
        step = max(1, self._chunk // dtype.itemsize)
        for start in range(0, elements, step):
            yield start, min(start + step, elements)

    def _computing(self) -> AbstractContextManager[Any]:
        return _cuda.stream(self._arithmetic) if self._arithmetic is not None else nullcontext()

    def _copying(self) -> AbstractContextManager[Any]:
        return _cuda.stream(self._copies) if self._copies is not None else nullcontext()
