"""A safetensors file, open for reading at any offset from any thread. Nothing is mapped: a file that is changed meanwhile cannot change a
tensor in hand, and pages of the file do not count as our memory."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

import torch
from torch import Tensor

from merges.errors import CheckpointError
from merges.headers import Header, Span, read_header
from merges.tensor_bytes import tensor_bytes

__all__ = ["WeightFile"]


class WeightFile:
    """One file with its checked header.

    Attributes:
        path: where it is.
        header: see `Header`.

    Raises:
        CheckpointError: as `read_header`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Header = read_header(path)
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from error
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, span: Span, start: int = 0, stop: int | None = None, into: Tensor | None = None) -> Tensor:
        """Elements `start` to `stop` of a tensor, in row-major order.

        Args:
            span: where the tensor lies in this file.
            start, stop: numbers of elements, 0 <= start <= stop <= span.elements; None: to the end.
            into: a contiguous 1-D tensor of the span's dtype with room for them, which is filled and returned (cut to size); None: a new one.

        Returns:
            1-D, on the CPU, in the stored dtype.

        Raises:
            CheckpointError: the file has become shorter, or cannot be read.
        """
        count = (span.elements if stop is None else stop) - start
        tensor = torch.empty(count, dtype=span.dtype) if into is None else into
        if tensor.numel() != count:
            tensor = tensor[:count]
        assert tensor.dtype is span.dtype, (tensor.dtype, span.dtype)
        self._fill(tensor_bytes(tensor), span.start + start * span.dtype.itemsize)
        return tensor

    def expect(self, span: Span) -> None:
        """Tell the system that this tensor will be read soon."""
        os.posix_fadvise(self._descriptor, span.start, span.end - span.start, os.POSIX_FADV_WILLNEED)

    def _fill(self, view: memoryview, offset: int) -> None:
        while view:
            try:
                done = os.preadv(self._descriptor, [view], offset)
            except OSError as error:
                raise self._unreadable(error.strerror or str(error)) from error
            if done == 0:
                raise self._unreadable(f"one that ends at byte {offset}")
            view, offset = view[done:], offset + done

    def _unreadable(self, got: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path}: expected a file of {self.header.bytes:,} bytes, got {got}; check the disk and run again"
        )
