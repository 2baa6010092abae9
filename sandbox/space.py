"""Memory for jobs that is used again: tensors are written straight where the child will read them, one batch of jobs after another.

Made for models of many large tensors, each of which is merged once. What is fresh memory costs a page fault for every thousand values, and
a tensor that is made elsewhere and copied costs that twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sandbox.errors import JobError
from sandbox.records import JobSlot
from sandbox.transfer import PackedJobs, lay_out, mapped, memfd

__all__ = ["JobSpace"]

_NO_NEW_WRITERS = 0x10  # F_SEAL_FUTURE_WRITE: the mapping that is there goes on, nobody else can make one
_ADD_SEALS = 1033  # F_ADD_SEALS


class JobSpace:
    """Room for one batch of jobs at a time.

    Args:
        keep_bytes: memory that is kept for the next batch; one that needs more gets its own.
    """

    def __init__(self, keep_bytes: int) -> None:
        self._keep = keep_bytes
        self._size = 0
        self._memory: Any = None
        self._release: weakref.finalize[..., Any] | None = None
        self._descriptor = -1
        self._layout: dict[str, dict[str, Any]] = {}

    def lay_out(self, slots: Sequence[JobSlot]) -> PackedJobs:
        """Make room for these jobs; what an array of the jobs before them shows is undefined from now on. Write every tensor (`array`), then run them.

        Raises:
            JobError: no job, a name used twice, a job without models.
        """
        if not slots or len({slot.name for slot in slots}) < len(slots) or not all(slot.models for slot in slots):
            raise JobError("expected jobs of different names with a model each, got none, or others; name each once")
        layout, size = lay_out(slots)
        if size > self._size or self._size > self._keep:
            self.close()
            self._open(max(size, self._keep))
        self._layout = {job["name"]: job for job in layout}
        return PackedJobs.over(layout, self._descriptor)

    def array(self, job: str, model: str | None) -> npt.NDArray[np.float32]:
        """The values of one model's task vector in a job that was laid out last, or of the base (None): 1-D float32, to be written to.

        Raises:
            KeyError: no such job or model.
        """
        place = self._layout[job]
        offset = place["base"] if model is None else dict(place["vectors"])[model]
        if offset is None:
            raise KeyError(f"job '{job}' has no base")
        count = int(np.prod(place["shape"], dtype=np.int64))
        if not count:
            return np.empty(0, np.float32)
        found: npt.NDArray[np.float32] = np.ndarray((count,), np.float32, self._memory, offset)
        return found

    def _open(self, size: int) -> None:
        self._descriptor = memfd("inputs", max(1, size))
        self._release = weakref.finalize(self, os.close, self._descriptor)
        self._memory = mapped(self._descriptor, max(1, size), mmap.MAP_SHARED)
        with contextlib.suppress(
            OSError
        ):  # Linux before 5.1; the child could not write anyway: it has no descriptor when it runs
            fcntl.fcntl(self._descriptor, _ADD_SEALS, _NO_NEW_WRITERS)
        self._size = size

    def close(self) -> None:
        """Give the memory back when no array is left over it. Another batch may still be laid out afterwards."""
        if self._release is not None:
            self._release()
        self._memory, self._size, self._descriptor, self._layout = None, 0, -1, {}
