"""Model folders, good and bad. Every bad one is a single line that says what to do."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from merges.checkpoints import Checkpoint, depth_of
from merges.errors import CheckpointError

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture
def folder(llamas, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(llamas["base"], copy)
    return copy


def refused(folder, match):
    with pytest.raises(CheckpointError, match=match) as info:
        Checkpoint.open(folder)
    assert "\n" not in str(info.value)
    return str(info.value)


def test_single_file_is_indexed_and_read(llamas):
    checkpoint = Checkpoint.open(llamas["base"])
    tensors = load_file(llamas["base"] / "model.safetensors")
    assert set(checkpoint.names) == set(tensors)
    assert checkpoint.n_layers == 2
    assert not checkpoint.tied
    assert checkpoint.config["model_type"] == "llama"
    for name, tensor in tensors.items():
        assert checkpoint.shapes[name] == tuple(tensor.shape)
        assert checkpoint.dtypes[name] is torch.bfloat16
        assert torch.equal(checkpoint.read(name), tensor)


def test_shards_give_the_same_tensors(llamas, sharded):
    one, many = Checkpoint.open(llamas["base"]), Checkpoint.open(str(sharded))
    assert set(one.names) == set(many.names)
    assert len(set(many.files.values())) == 3
    assert all(torch.equal(one.read(name), many.read(name)) for name in one.names)


def test_tensor_read_is_private(llamas):
    checkpoint = Checkpoint.open(llamas["base"])
    before = checkpoint.read(EMBED)
    checkpoint.read(EMBED).zero_()
    assert torch.equal(checkpoint.read(EMBED), before)


def test_identity_tells_models_apart_but_not_folders(llamas, folder):
    base, copy = Checkpoint.open(llamas["base"]).identity, Checkpoint.open(folder).identity
    assert (base.headers, base.bytes, base.commit) == (copy.headers, copy.bytes, None)
    assert base.given == str(llamas["base"])
    assert Checkpoint.open(llamas["tied"]).identity.headers != base.headers


def test_tied_head_reads_as_the_embedding(llamas):
    checkpoint = Checkpoint.open(llamas["tied"])
    assert checkpoint.tied
    assert HEAD not in checkpoint.names
    assert checkpoint.resolve(HEAD) == EMBED
    assert torch.equal(checkpoint.read(HEAD), checkpoint.read(EMBED))
    assert Checkpoint.open(llamas["base"]).resolve("no.such") is None


def test_tied_duplicate_is_found_only_where_the_bits_are_equal(llamas, edited):
    assert Checkpoint.open(llamas["tied"]).tied_duplicate() is None
    assert Checkpoint.open(llamas["base"]).tied_duplicate() is None
    twice = edited(llamas["tied"], lambda t: {**t, HEAD: t[EMBED].clone()}, name="twice")
    assert Checkpoint.open(twice).tied_duplicate() == HEAD
    apart = edited(llamas["tied"], lambda t: {**t, HEAD: t[EMBED] + 1}, name="apart")
    assert Checkpoint.open(apart).tied_duplicate() is None


@pytest.mark.parametrize(
    ("name", "layers", "depth"),
    [
        (EMBED, 4, 0.0),
        ("transformer.wte.weight", 4, 0.0),
        ("model.layers.0.mlp.up_proj.weight", 4, 0.0),
        ("model.layers.3.mlp.up_proj.weight", 4, 1.0),
        ("model.layers.1.self_attn.q_proj.weight", 3, 0.5),
        ("transformer.h.2.attn.c_attn.weight", 5, 0.5),
        ("model.layers.0.mlp.up_proj.weight", 1, 0.0),
        ("model.layers.9.mlp.up_proj.weight", 4, 1.0),
        ("model.norm.weight", 4, 1.0),
        (HEAD, 4, 1.0),
        (HEAD, 0, 1.0),
    ],
)
def test_depth_goes_from_the_embedding_to_the_head(name, layers, depth):
    assert depth_of(name, layers) == pytest.approx(depth)


def test_missing_folder_and_file_are_refused(tmp_path, folder):
    refused(tmp_path / "none", r"none: expected a model folder or hub id, got no such folder; check the path$")
    refused(folder / "model.safetensors", r"got a file; give the folder that holds it$")


@pytest.mark.parametrize("given", ["x" * 5000, "~nobody-of-that-name/model", "a\x00b"])
def test_impossible_paths_are_refused(given):
    refused(given, r"expected a (readable )?model folder.*; check the path$")


def test_quantised_weights_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    refused(folder, r"expected plain weights, got quantised ones \(gptq\), .*; dequantise the model first$")


def test_single_file_of_another_name_is_read(folder):
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    assert Checkpoint.open(folder).files[EMBED] == "weights.safetensors"


def test_tensor_that_is_not_there_is_refused(llamas):
    with pytest.raises(
        CheckpointError, match=r"^tensor 'no.such': expected in .*, got none; is it the same architecture"
    ):
        Checkpoint.open(llamas["base"]).read("no.such")


def test_folder_that_is_no_model_is_refused(tmp_path):
    refused(tmp_path, r"expected a model's config.json, got none; give a Hugging Face model folder$")
    (tmp_path / "config.json").write_text("{}")
    refused(tmp_path, r"expected \*.safetensors, got none; give a Hugging Face model folder$")


@pytest.mark.parametrize("text", ["", "{", "\xff", "[" * 100_000])
def test_broken_config_is_refused(folder, text):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    refused(folder, r"config.json: expected a model's config.json, got unreadable JSON .*; download it again$")


def test_config_that_is_too_large_or_no_file_is_refused(folder, monkeypatch):
    monkeypatch.setattr("merges.folders.MAX_JSON_BYTES", 10)
    refused(folder, r"expected a model's config.json of at most 10 bytes, got \d+; check the file$")
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")  # reading it would wait for ever
    refused(folder, r"expected a model's config.json, got no regular file")


def test_config_that_is_no_object_is_refused(folder):
    (folder / "config.json").write_text("[]")
    refused(folder, r"expected a model's config.json with an object, got list; download it again$")


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pth", "weights.ckpt"])
def test_pickled_weights_are_refused_and_never_opened(folder, file):
    (folder / "model.safetensors").rename(folder / file)
    (folder / file).chmod(0)
    refused(folder, rf"expected safetensors, got only pickled weights \({file}\), which can run code when read")


def test_adapter_is_refused(folder):
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")
    refused(
        folder, r"expected a whole model, got a LoRA adapter; give it as an expert, or as MODEL\+ADAPTER in a recipe$"
    )


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1])
def test_truncated_weights_are_refused(folder, keep):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:keep])
    refused(folder, r"model.safetensors: expected a whole safetensors file, got a corrupt one .*; download it again$")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_header_is_one_line_or_still_a_whole_index(llamas, tmp_path, data):
    whole = bytearray((llamas["base"] / "model.safetensors").read_bytes())
    header = 8 + int.from_bytes(whole[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(whole)
    # Nothing but a CheckpointError may come out; its one line is the business of test_errors.
    with suppress(CheckpointError):
        checkpoint = Checkpoint.open(tmp_path)
        for name in checkpoint.names:
            assert tuple(checkpoint.read(name).shape) == checkpoint.shapes[name]


def test_unknown_dtype_is_refused(folder):
    save_file({"w": torch.zeros(2, dtype=torch.complex64)}, folder / "model.safetensors")
    refused(folder, r"tensor 'w': expected a known dtype, got C64; convert it first$")


def test_shards_without_index_are_refused(sharded, tmp_path):
    shutil.copytree(sharded, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors.index.json").unlink()
    refused(tmp_path / "m", r"expected model.safetensors.index.json beside 3 shards, got none; download it too$")


def test_missing_shard_is_named(sharded, tmp_path):
    shutil.copytree(sharded, tmp_path / "m")
    (tmp_path / "m" / "model-00002-of-00003.safetensors").unlink()
    refused(tmp_path / "m", r"expected 3 shards, got 2 \(model-00002-of-00003.safetensors is missing\); finish the dow")


@pytest.mark.parametrize(
    "file", ["../base/model.safetensors", "/etc/passwd", "a/b.safetensors", "..", 7, "x.bin", None]
)
def test_index_that_points_elsewhere_is_refused(sharded, tmp_path, file):
    shutil.copytree(sharded, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": file}}))
    refused(tmp_path / "m", r"expected plain \*.safetensors file names, got .* for 'w'; download the index again$")


def test_index_that_lies_is_refused(sharded, tmp_path):
    shutil.copytree(sharded, tmp_path / "m")
    index = tmp_path / "m" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"no.such.weight": "model-00001-of-00003.safetensors"}}))
    refused(tmp_path / "m", r"expected tensor 'no.such.weight' as its index says, got none; download it again$")
    index.write_text("{}")
    refused(tmp_path / "m", r"expected a weight_map, got none; download the index again$")
