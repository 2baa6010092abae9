"""The files we lay out ourselves are the files the safetensors library writes."""

from __future__ import annotations

import json
from math import prod

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from merges.layout import _CODES, Entry, index_json, plan_shards
from merges.tensor_bytes import tensor_bytes

DTYPES = st.sampled_from(list(_CODES))
ENTRIES = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda name: name != "__metadata__"),
    st.tuples(st.lists(st.integers(0, 5), max_size=3).map(tuple), DTYPES),
    min_size=1,
    max_size=6,
)


@given(ENTRIES)
def test_file_is_byte_for_byte_the_librarys(specification):
    tensors = {
        name: torch.arange(prod(shape)).reshape(shape).to(dtype) for name, (shape, dtype) in specification.items()
    }
    (shard,) = plan_shards(Entry(name, tuple(t.shape), t.dtype) for name, t in tensors.items())
    ours = shard.header + b"".join(tensor_bytes(tensors[entry.name]) for entry in shard.entries)
    theirs = save(tensors, metadata={"format": "pt"})
    assert len(ours) == shard.bytes
    assert json.loads(ours[8 : len(shard.header)]) == json.loads(theirs[8 : 8 + int.from_bytes(theirs[:8], "little")])
    assert ours[len(shard.header) :] == theirs[8 + int.from_bytes(theirs[:8], "little") :]


@given(st.lists(st.integers(0, 300), min_size=1, max_size=30), st.integers(1, 500))
def test_shards_hold_every_tensor_once_within_the_limit(sizes, limit):
    entries = [Entry(f"t{i}", (size,), torch.uint8) for i, size in enumerate(sizes)]
    shards = plan_shards(entries, limit)
    assert sorted(e.name for s in shards for e in s.entries) == sorted(e.name for e in entries)
    assert all(sum(e.bytes for e in s.entries) <= limit or len(s.entries) == 1 for s in shards)
    index = json.loads(index_json(shards))
    assert index["metadata"]["total_size"] == sum(sizes)
    assert set(index["weight_map"].values()) == {shard.file for shard in shards}


def test_one_shard_has_the_plain_name_and_several_are_numbered():
    entries = [Entry(f"t{i}", (10,), torch.uint8) for i in range(3)]
    assert [shard.file for shard in plan_shards(entries)] == ["model.safetensors"]
    assert [shard.file for shard in plan_shards(entries, 20)] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
