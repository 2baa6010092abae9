"""The work of `apply`: several threads, each with one tensor at a time, from the inputs' bytes to the output's.

Tensors that are not merged are copied without decoding. A library merge runs in its streamed form, block by block, or on an accelerator in a lane of
the thread's own; any other program in a sandbox of the thread's own, small tensors several at a time. What is read next is announced to the
system, so reading from a disk goes on while there is arithmetic. Bytes depend on nothing of this but the kind of device: not on threads,
blocks, batches or the order in which tensors come to be done.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor

from merges.blocks import Blocks, Scratch
from merges.checkpoints import depth_of
from merges.compiled import Array
from merges.contract import program_error, signature_of
from merges.devices import Lane, Method, device_bytes, free_bytes, method_of
from merges.errors import HostError
from merges.layout import Entry
from merges.output import OutputFiles
from merges.plan import Plan, Step
from merges.task_vectors import tensor_seed
from merges.tensor_bytes import tensor_bytes
from sandbox import JobSlot, JobSpace, Sandbox

__all__ = ["Progress", "merge_tensors"]

Progress = Callable[[int, int], None]
"""Called with (tensors done, tensors in all) after every step, in the caller's thread."""

_COPY_BYTES = 4 * 1024 * 1024
_SPACES = 3
"""What share of the memory for tensors, divided by the threads, is kept from one sandboxed batch to the next."""

_AHEAD = 4
"""Batches whose inputs are announced before their turn comes."""


class _Budget:
    """Bytes of tensors that all threads together may hold. Who needs more than there is at all gets it when nobody else has any."""

    def __init__(self, total: int) -> None:
        self._total, self._used = total, 0
        self._changed = threading.Condition()

    def take(self, wanted: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + wanted <= self._total)
            self._used += wanted

    def give_back(self, taken: int) -> None:
        with self._changed:
            self._used -= taken
            self._changed.notify_all()


@dataclass(frozen=True)
class _Work:
    """What all threads share."""

    plan: Plan
    output: OutputFiles
    batches: Iterator[Sequence[Entry]]
    budget: _Budget
    device: torch.device | None
    device_budget: _Budget
    lock: threading.Lock = field(default_factory=threading.Lock)
    reports: queue.SimpleQueue[int | BaseException | None] = field(default_factory=queue.SimpleQueue)
    stop: threading.Event = field(default_factory=threading.Event)


def merge_tensors(
    plan: Plan,
    output: OutputFiles,
    sandbox: Sandbox | None,
    workers: int,
    progress: Progress | None,
    device: torch.device | None = None,
) -> None:
    """Fill the output's files.

    Args:
        plan: what goes where.
        output: its open files; tensors that are done there are left alone.
        sandbox: where a program without streamed form runs; further threads get others like it.
        workers: threads, >= 1.
        progress: see `Progress`; what it raises stops the work.
        device: where library merges compute; None: in streamed form.

    Raises:
        CheckpointError: an input could not be read, or has NaN or infinity.
        ProgramError: the program failed.
        OSError: the disk is full, a file failed.
    """
    todo = [entry for shard in plan.shards for entry in shard.entries if entry.name not in output.done]
    room = free_bytes(device) if device is not None else None
    work = _Work(
        plan, output, _announced(plan, plan.batches(todo)), _Budget(plan.memory_bytes), device, _Budget(room or 0)
    )
    total = sum(len(shard.entries) for shard in plan.shards)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ExitStack() as stack:
            boxes: list[Sandbox | None] = [sandbox] * workers
            if plan.sandboxed and sandbox is not None:
                boxes[1:] = [stack.enter_context(sandbox.another()) for _ in range(workers - 1)]
            keep = plan.memory_bytes // (_SPACES * workers)
            threads = [threading.Thread(target=_Worker(work, box, keep).run) for box in boxes]
            for thread in threads:
                thread.start()
            try:
                _follow(work, workers, total - len(todo), total, progress)
            finally:
                work.stop.set()
                for thread in threads:
                    thread.join()
    finally:
        torch.set_num_threads(before)


def _follow(work: _Work, workers: int, done: int, total: int, progress: Progress | None) -> None:
    """Tell of progress, first of what an earlier run did, until every thread has ended; raise what one of them met."""
    if progress is not None and done:
        progress(done, total)
    while workers:
        report = work.reports.get()
        if isinstance(report, BaseException):
            raise report
        if report is None:
            workers -= 1
            continue
        done += report
        if progress is not None:
            progress(done, total)


def _announced(plan: Plan, batches: Iterator[Sequence[Entry]]) -> Iterator[Sequence[Entry]]:
    """The same batches, some of which the system knows of beforehand."""
    ahead: list[Sequence[Entry]] = []
    for batch in batches:
        for entry in batch:
            for model in plan.origins(entry.name):
                model.expect(entry.name)
        ahead.append(batch)
        if len(ahead) > _AHEAD:
            yield ahead.pop(0)
    yield from ahead


class _Worker:
    """One thread, with buffers of its own."""

    def __init__(self, work: _Work, sandbox: Sandbox | None, keep_bytes: int) -> None:
        self._work, self._plan, self._sandbox = work, work.plan, sandbox
        self._scratch, self._space = Scratch(), JobSpace(keep_bytes)
        self._lane: Lane | None = None

    def run(self) -> None:
        """Take batches until there are none, or somebody stops."""
        work = self._work
        try:
            while not work.stop.is_set():
                with work.lock:
                    batch = next(work.batches, None)
                if batch is None:
                    break
                need = self._plan.held(batch)
                work.budget.take(need)
                try:
                    self._batch(batch)
                finally:
                    work.budget.give_back(need)
                work.reports.put(len(batch))
        except BaseException as error:
            work.reports.put(error)
        finally:
            self._space.close()
            work.reports.put(None)

    def _batch(self, batch: Sequence[Entry]) -> None:
        sandboxed = []
        for entry in batch:
            step = self._plan.steps.get(entry.name)
            if step is None:
                self._copy(entry)
            elif step.form is None:
                sandboxed.append(entry)
            else:
                self._write(entry, self._merged(entry, step))
        if sandboxed:
            self._run(sandboxed)

    def _copy(self, entry: Entry) -> None:
        writer, size = self._work.output.writer(entry.name), math.prod(entry.shape)
        (origin,) = self._plan.origins(entry.name)
        step = max(1, _COPY_BYTES // entry.dtype.itemsize)
        for start in range(0, size, step):
            stop = min(start + step, size)
            raw = self._scratch.take("copied", stop - start, entry.dtype)
            writer.write(tensor_bytes(origin.read_part(entry.name, start, stop, raw)))
        self._work.output.finish(entry.name, writer.close())

    def _merged(self, entry: Entry, step: Step) -> Iterator[Tensor | None]:
        """A library merge's blocks; of hyper-parameters that are of no use it says what its program would."""
        assert step.form is not None
        method = (
            method_of(step.form.name, step.parameters, len(step.experts)) if self._work.device is not None else None
        )
        try:
            if method is not None:
                yield from self._on_device(entry, step, method)
            else:
                blocks = Blocks(entry.name, step.base, step.experts, self._scratch, self._plan.block, self._seed(entry))
                yield from step.form.onto_base(blocks, entry.dtype, **step.parameters)
        except ValueError as error:
            raise program_error(self._plan.program, "exception", f"ValueError: {error}", None) from error

    def _on_device(self, entry: Entry, step: Step, method: Method) -> Iterator[Tensor | None]:
        assert self._work.device is not None
        self._lane = self._lane or Lane(self._work.device)
        need = device_bytes(math.prod(entry.shape), len(step.experts))
        self._work.device_budget.take(need)
        try:
            yield from self._lane.merged(method, entry.name, step.base, step.experts, self._seed(entry), entry.dtype)
        except torch.OutOfMemoryError as error:
            raise HostError(
                f"device '{self._work.device}': expected memory for tensor {entry.name!r}, got none ({error}); end other work there, or use device 'cpu'"
            ) from error
        finally:
            self._work.device_budget.give_back(need)

    def _run(self, entries: Sequence[Entry]) -> None:
        """Run the program over some tensors at once."""
        plan, sandbox = self._plan, self._sandbox
        assert sandbox is not None, "a program without streamed form needs one"
        with_base = "base" in signature_of(plan.source).wants
        depths = plan.base.n_layers
        slots = [
            JobSlot(
                entry.name, depth_of(entry.name, depths), entry.shape, tuple(plan.experts), with_base, self._seed(entry)
            )
            for entry in entries
        ]
        blocks = {
            entry.name: Blocks(entry.name, plan.base, plan.experts, self._scratch, plan.block) for entry in entries
        }
        with self._space.lay_out(slots) as jobs:
            for name, found in blocks.items():
                vectors = [self._space.array(name, expert) for expert in plan.experts]
                _lay(found, vectors, self._space.array(name, None) if with_base else None)
            result = sandbox.execute(plan.source, jobs, plan.parameters)
        if not result.ok or result.outputs is None:
            raise program_error(plan.program, result.reason, result.detail, result.line)
        for entry in entries:
            merged, found = result.outputs[entry.name].reshape(-1).numpy(), blocks[entry.name]
            parts = [merged[start:stop] for start, stop in found.spans()]
            self._write(entry, found.onto_base(parts, entry.dtype))

    def _seed(self, entry: Entry) -> int:
        return tensor_seed(self._plan.run_seed, self._plan.program, entry.name)

    def _write(self, entry: Entry, merged: Iterator[Tensor | None]) -> None:
        """Write the blocks of a merged tensor; None stands for one that overflows."""
        writer = self._work.output.writer(entry.name)
        for block in merged:
            if self._work.stop.is_set():
                return
            if block is None:
                detail = f"tensor {entry.name!r} overflows {entry.dtype} once it is added to the base"
                raise program_error(self._plan.program, "nonfinite", detail, None)
            writer.write(tensor_bytes(block))
        self._work.output.finish(entry.name, writer.close())


def _lay(blocks: Blocks, vectors: Sequence[Array], base: Array | None) -> None:
    """Read one tensor's task vectors into these places, and the base's values if there is one for them."""
    for start, stop in blocks.spans():
        blocks.vectors(start, stop, [vector[start:stop] for vector in vectors])
        if base is not None:
            base[start:stop] = blocks.base(start, stop)
