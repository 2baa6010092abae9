"""The layout of a merged model on disk, fixed before the first tensor is computed.

Headers are written by us, not by the safetensors library, because its writer wants every tensor in memory at once. The
layout is the library's own: header length (u64, little endian), JSON header padded with spaces to 8 bytes, then the
tensors without gaps, larger element types first, then by name.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch

__all__ = ["INDEX_FILE", "MAX_SHARD_BYTES", "Entry", "Shard", "index_json", "plan_shards"]

MAX_SHARD_BYTES = 5 * 1000**3
"""As transformers splits; a single larger tensor still gets a shard of its own."""

INDEX_FILE = "model.safetensors.index.json"
_ALIGNMENT = 8
_quoted = json.JSONEncoder(ensure_ascii=False).encode
_CODES: Mapping[torch.dtype, str] = {
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_RANKS = {dtype: rank for rank, dtype in enumerate(_CODES)}  # the library's order, which keeps every tensor aligned


@dataclass(frozen=True)
class Entry:
    """One tensor of the output."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @cached_property
    def bytes(self) -> int:
        """Size of the tensor's data."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Shard:
    """One file of the output: its name and its tensors in the order of their data."""

    file: str
    entries: tuple[Entry, ...]

    @cached_property
    def header(self) -> bytes:
        """The first bytes of the file: length and JSON."""
        rows, offset = ['"__metadata__":{"format":"pt"}'], 0
        for entry in self.entries:
            end = offset + entry.bytes
            shape = ",".join(map(str, entry.shape))
            rows.append(
                f'{_quoted(entry.name)}:{{"dtype":"{_CODES[entry.dtype]}","shape":[{shape}],"data_offsets":[{offset},{end}]}}'
            )
            offset = end
        text = f"{{{','.join(rows)}}}".encode()  # 20,000 tensors: five times as fast as from objects
        text += b" " * (-len(text) % _ALIGNMENT)
        return struct.pack("<Q", len(text)) + text

    @cached_property
    def bytes(self) -> int:
        """Size of the whole file."""
        return len(self.header) + sum(entry.bytes for entry in self.entries)


def plan_shards(entries: Iterable[Entry], max_shard_bytes: int = MAX_SHARD_BYTES) -> tuple[Shard, ...]:
    """Distribute tensors over files, in the order given: one `model.safetensors`, or numbered shards."""
    groups: list[list[Entry]] = [[]]
    room = max_shard_bytes
    for entry in entries:
        if groups[-1] and entry.bytes > room:
            groups.append([])
            room = max_shard_bytes
        groups[-1].append(entry)
        room -= entry.bytes
    count = len(groups)
    names = (
        [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)] if count > 1 else ["model.safetensors"]
    )
    ordered = (sorted(group, key=lambda entry: (_RANKS[entry.dtype], entry.name)) for group in groups)
    return tuple(Shard(name, tuple(group)) for name, group in zip(names, ordered, strict=True))


def index_json(shards: Iterable[Shard]) -> str:
    """The text of `INDEX_FILE` for sharded output."""
    pairs = [(entry, shard.file) for shard in shards for entry in shard.entries]
    total = sum(entry.bytes for entry, _ in pairs)
    weight_map = {entry.name: file for entry, file in sorted(pairs, key=lambda pair: pair[0].name)}
    return json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2) + "\n"
