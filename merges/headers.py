"""The header of a safetensors file, read as what it is: somebody else's text about bytes that we are going to trust.

Layout (https://huggingface.co/docs/safetensors): length of the header (u64, little endian), a JSON object {name: {dtype, shape, data_offsets}},
then the tensors' bytes. Every byte is accounted for: what lies outside a tensor, belongs to two, or is missing makes the file corrupt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from operator import itemgetter, sub
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch

from merges.errors import CheckpointError

__all__ = ["DTYPES", "Header", "Span", "read_header"]

MAX_HEADER_BYTES = 100_000_000
"""As the safetensors library allows; 20,000 tensors need 3 MB."""

MAX_DIMENSIONS = 64
"""As torch allows."""

_LENGTH_BYTES = 8

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "BOOL": torch.bool,
}


Rows = tuple[list[str], list[str], list[tuple[int, ...]], list[int], list[int]]
"""Names, dtypes' codes, shapes, first and last offsets in the file, in the order of the bytes."""

_NUMBER = r"(?:0|[1-9][0-9]{0,17})"
_ENTRY = re.compile(
    rf'"([^"\\\x00-\x1f]*)":{{"dtype":"([A-Z0-9_]+)","shape":\[((?:{_NUMBER}(?:,{_NUMBER})*)?)\],"data_offsets":\[({_NUMBER}),({_NUMBER})\]}}'
)
_METADATA = "__metadata__"


class Span(NamedTuple):
    """Where a tensor lies: `start` and `end` are byte offsets in the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def elements(self) -> int:
        """How many values it has."""
        return prod(self.shape)


@dataclass(frozen=True)
class Header:
    """One file.

    Attributes:
        shapes, dtypes, ranges: tensor name -> shape, dtype, first and last offset, in the order of the bytes.
        metadata: the file's free texts.
        bytes: size of the file.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, torch.dtype]
    ranges: Mapping[str, tuple[int, int]]
    metadata: Mapping[str, str]
    bytes: int

    @cached_property
    def spans(self) -> Mapping[str, Span]:
        """Tensor name -> where it lies, in the order of the bytes."""
        return {name: self.span(name) for name in self.shapes}

    def span(self, name: str) -> Span:
        """Where one tensor lies; KeyError: nowhere in this file."""
        return Span(self.dtypes[name], self.shapes[name], *self.ranges[name])


class _Corrupt(Exception):
    """What is wrong, in words that follow "got"."""


def read_header(path: Path) -> Header:
    """Read and check a file's header; of its data only the size is looked at.

    Raises:
        CheckpointError: not a whole safetensors file, or one with a dtype that nothing here computes with.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if size < _LENGTH_BYTES or length > min(size - _LENGTH_BYTES, MAX_HEADER_BYTES):
                raise _Corrupt(f"{size} bytes with a header of {length}")
            text = file.read(length)
        start = _LENGTH_BYTES + length
        metadata, rows = _as_written(text, start, size) or _as_json(text, start, size)
    except _Corrupt as error:
        raise CheckpointError(
            f"{path}: expected a whole safetensors file, got a corrupt one ({error}); download it again"
        ) from error
    except OSError as error:
        what = error.strerror or error
        raise CheckpointError(f"{path}: expected a readable safetensors file, got {what}; check the path") from error
    names, codes, shapes, begins, ends = rows
    for name, code in zip(names, codes, strict=True) if set(codes) - DTYPES.keys() else ():
        if code not in DTYPES:
            raise CheckpointError(f"{path}: tensor {name!r}: expected a known dtype, got {code}; convert it first")
    dtypes = dict(zip(names, map(DTYPES.__getitem__, codes), strict=True))
    ranges = dict(zip(names, zip(begins, ends, strict=True), strict=True))
    return Header(dict(zip(names, shapes, strict=True)), dtypes, ranges, metadata, size)


def _as_written(text: bytes, start: int, size: int) -> tuple[dict[str, str], Rows] | None:
    """A header in the form and order in which libraries write it, taken apart by one expression and checked column by column: many times faster
    than JSON with an object for each tensor.

    None for any other text, which may be sound all the same. What is taken here `_as_json` takes too, and reads the same.
    """
    try:
        parts = _ENTRY.split(text.decode())
    except UnicodeDecodeError:
        return None
    between, names, codes, written, starts, stops = (parts[column::6] for column in range(6))
    before, after = between[0], between.pop()
    if set(between[1:]) - {","} or after.rstrip(" ") != "}" or len({*names, _METADATA}) <= len(names):
        return None
    metadata = {} if before == "{" else _metadata_before(before)
    known = {shape: tuple(map(int, shape.split(","))) if shape else () for shape in set(written)}
    if metadata is None or not all(map(_is_possible, known.values())):
        return None
    begins, ends = [start + int(text) for text in starts], [start + int(text) for text in stops]
    kinds = list(zip(codes, written, strict=True))
    sizes = {kind: _bytes(kind[0], known[kind[1]]) for kind in set(kinds)}
    whole = (
        begins == [start, *ends[:-1]]
        and ends[-1:] == [size]
        and list(map(sub, ends, begins)) == [sizes[kind] for kind in kinds]
    )
    return (metadata, (names, codes, [known[shape] for shape in written], begins, ends)) if whole else None


def _metadata_before(text: str) -> dict[str, str] | None:
    """What stands before the first tensor, if that is an object of texts and a comma."""
    if not text.startswith(f'{{"{_METADATA}":{{') or not text.endswith("},"):
        return None
    try:
        metadata, rows = _as_json(f"{text[:-1]}}}".encode(), 0, 0)
    except _Corrupt:  # or only in part, with a tensor of another form: the whole will tell
        return None
    return None if rows[0] else metadata


def _as_json(text: bytes, start: int, size: int) -> tuple[dict[str, str], Rows]:
    """The same of any JSON."""
    table = _parsed(text)
    metadata = _metadata(table.pop(_METADATA, {}))
    entries = sorted((_entry(name, value, start) for name, value in table.items()), key=itemgetter(3, 4))
    for name, code, shape, begin, end in entries:
        if begin != start:
            raise _Corrupt(f"tensor {name!r} at byte {begin} where {start} is due")
        if code in DTYPES and _bytes(code, shape) != end - begin:
            raise _Corrupt(f"tensor {name!r} of shape {list(shape)} and dtype {code} in {end - begin} bytes")
        start = end
    if start != size:
        raise _Corrupt(f"{size} bytes where the header tells of {start}")
    return metadata, cast(Rows, tuple(map(list, zip(*entries, strict=True))) if entries else ([], [], [], [], []))


def _bytes(code: str, shape: Sequence[int]) -> int:
    """Of a tensor; -1 for a dtype that is not known."""
    return prod(shape) * DTYPES[code].itemsize if code in DTYPES else -1


def _parsed(text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            raise _Corrupt("a name twice")
        return table

    try:
        table = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _Corrupt(f"header: {error}") from error
    if not isinstance(table, dict):
        raise _Corrupt(f"a header that is no object but {type(table).__name__}")
    return table


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _Corrupt("metadata that are no texts")
    return value


def _entry(name: str, value: Any, start: int) -> tuple[str, str, tuple[int, ...], int, int]:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise _Corrupt(f"tensor {name!r} without dtype, shape or offsets")
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(code, str):
        raise _Corrupt(f"tensor {name!r} with a dtype that is no text")
    if not _counts(shape) or not _is_possible(shape):
        raise _Corrupt(f"tensor {name!r} with an impossible shape")
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _Corrupt(f"tensor {name!r} with impossible offsets")
    return name, code, tuple(shape), start + offsets[0], start + offsets[1]


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < 2**63 for number in value)


def _is_possible(shape: Sequence[int]) -> bool:
    return len(shape) <= MAX_DIMENSIONS and prod(max(1, side) for side in shape) < 2**63
