"""The work of `apply`: several threads, each with one tensor at a time, from the inputs' bytes to the output's.

Tensors that are not merged are copied without decoding. A library merge runs in its streamed form, block by block; any other program in a
sandbox of the thread's own, small tensors several at a time. What is read next is announced to the system, so reading from a disk goes on
while there is arithmetic. Bytes depend on nothing of this: not on threads, blocks, batches or the order in which tensors come to be done.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from merges.blocks import Blocks, Scratch
from merges.contract import program_error
from merges.layout import Entry
from merges.output import OutputFiles
from merges.plan import Plan
from merges.streamed import Form
from merges.task_vectors import task_jobs, tensor_seed
from merges.tensor_bytes import tensor_bytes
from sandbox import ExecutionResult, Sandbox

__all__ = ["Progress", "merge_tensors"]

Progress = Callable[[int, int], None]
"""Called with (tensors done, tensors in all) after every step, in the caller's thread."""

_COPY_BYTES = 4 * 1024 * 1024
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
    lock: threading.Lock
    reports: queue.SimpleQueue[int | BaseException | None]
    stop: threading.Event


def merge_tensors(
    plan: Plan, output: OutputFiles, sandbox: Sandbox | None, workers: int, progress: Progress | None
) -> None:
    """Fill the output's files.

    Args:
        plan: what goes where.
        output: its open files; tensors that are done there are left alone.
        sandbox: where a program without streamed form runs; further threads get others like it.
        workers: threads, >= 1.
        progress: see `Progress`; what it raises stops the work.

    Raises:
        CheckpointError: an input could not be read, or has NaN or infinity.
        ProgramError: the program failed.
        OSError: the disk is full, a file failed.
    """
    todo = [entry for shard in plan.shards for entry in shard.entries if entry.name not in output.done]
    work = _Work(plan, output, _announced(plan, plan.batches(todo)), _Budget(plan.memory_bytes), threading.Lock(), queue.SimpleQueue(), threading.Event())  # fmt: skip
    total = sum(len(shard.entries) for shard in plan.shards)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ExitStack() as stack:
            boxes: list[Sandbox | None] = [sandbox]
            if plan.sandboxed and sandbox is not None:
                boxes += [stack.enter_context(sandbox.another()) for _ in range(workers - 1)]
            threads = [threading.Thread(target=_thread, args=(work, boxes[min(i, len(boxes) - 1)])) for i in range(workers)]  # fmt: skip
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
    """Tell of progress until every thread has ended; raise what one of them met."""
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


def _thread(work: _Work, sandbox: Sandbox | None) -> None:
    """One thread."""
    scratch = Scratch()
    try:
        while not work.stop.is_set():
            with work.lock:
                batch = next(work.batches, None)
            if batch is None:
                break
            need = work.plan.held(batch)
            work.budget.take(need)
            try:
                _batch(work, batch, sandbox, scratch)
            finally:
                work.budget.give_back(need)
            work.reports.put(len(batch))
    except BaseException as error:
        work.reports.put(error)
    finally:
        work.reports.put(None)


def _batch(work: _Work, batch: Sequence[Entry], sandbox: Sandbox | None, scratch: Scratch) -> None:
    plan, sandboxed = work.plan, []
    for entry in batch:
        step = plan.steps.get(entry.name)
        if step is None:
            _copy(work, entry, scratch)
        elif step.form is None:
            sandboxed.append(entry)
        else:
            seed = tensor_seed(plan.run_seed, plan.program, entry.name)
            blocks = Blocks(entry.name, step.base, step.experts, scratch, plan.block, seed)
            _write(work, entry, _of_program(plan.program, step.form, blocks, entry.dtype, step.parameters))
    if sandboxed:
        assert sandbox is not None, "a program without streamed form needs one"
        _run(work, sandboxed, sandbox, scratch)


def _copy(work: _Work, entry: Entry, scratch: Scratch) -> None:
    writer, size = work.output.writer(entry.name), math.prod(entry.shape)
    (origin,) = work.plan.origins(entry.name)
    step = max(1, _COPY_BYTES // entry.dtype.itemsize)
    for start in range(0, size, step):
        stop = min(start + step, size)
        raw = scratch.take("copied", stop - start, entry.dtype)
        writer.write(tensor_bytes(origin.read_part(entry.name, start, stop, raw)))
    work.output.finish(entry.name, writer.close())


def _run(work: _Work, entries: Sequence[Entry], sandbox: Sandbox, scratch: Scratch) -> None:
    """Run the program over some tensors at once."""
    plan = work.plan
    names = [entry.name for entry in entries]
    jobs = task_jobs(plan.base, plan.experts, names, run_seed=plan.run_seed, program_id=plan.program)
    result: ExecutionResult = sandbox.execute(plan.source, jobs, plan.parameters)
    if not result.ok or result.outputs is None:
        raise program_error(plan.program, result.reason, result.detail, result.line)
    for entry in entries:
        merged = result.outputs[entry.name].reshape(-1).numpy()
        blocks = Blocks(entry.name, plan.base, {}, scratch, plan.block)
        _write(work, entry, blocks.onto_base((merged[start:stop] for start, stop in blocks.spans()), entry.dtype))


def _write(work: _Work, entry: Entry, merged: Iterator[Tensor | None]) -> None:
    """Write the blocks of a merged tensor; None stands for one that overflows."""
    writer = work.output.writer(entry.name)
    for block in merged:
        if work.stop.is_set():
            return
        if block is None:
            detail = f"tensor {entry.name!r} overflows {entry.dtype} once it is added to the base"
            raise program_error(work.plan.program, "nonfinite", detail, None)
        writer.write(tensor_bytes(block))
    work.output.finish(entry.name, writer.close())


def _of_program(
    program: str, form: Form, blocks: Blocks, dtype: torch.dtype, parameters: Mapping[str, Any]
) -> Iterator[Tensor | None]:
    """What a streamed form merges; of hyper-parameters that are of no use it says what its program would."""
    try:
        yield from form.onto_base(blocks, dtype, **parameters)
    except ValueError as error:
        raise program_error(program, "exception", f"ValueError: {error}", None) from error
