"""An adapter on a model: its change is the product itself, known for that model alone, and the same from every thread."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub.utils import filter_repo_objects
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from merges import adapters, hub, library
from merges.adapters import Adapted, is_adapter
from merges.apply import apply_recipe, open_named
from merges.blocks import Blocks, Scratch
from merges.checkpoints import HEAD, Checkpoint
from merges.contract import EXAMPLE
from merges.errors import CheckpointError
from merges.mergekit import plan_recipe
from merges.plan import make_plan
from merges.provenance import Provenance
from merges.recipes import read_recipe
from merges.streamed import FORMS
from merges.task_vectors import task_jobs
from merges.views import Nothing, Renamed
from tests.merges.written_adapters import EMBEDDING, K, Q, bits, factors, flat, model_of, written


def test_rows_longer_than_a_piece_are_cut_anywhere(tmp_path: Path) -> None:
    origin = model_of(tmp_path / "model", {"a.weight": torch.randn(3, 2 * adapters._PIECE + 5).to(torch.bfloat16)})
    adapted = Adapted.open(written(tmp_path / "adapter", factors("a", 3, 2 * adapters._PIECE + 5)), origin)
    whole = adapted.change("a.weight", 0, 3 * 2053, origin)
    assert whole is not None
    for cut in (1, 1023, 1025, 2052, 2053, 3081, 6158):
        left, right = adapted.change("a.weight", 0, cut, origin), adapted.change("a.weight", cut, 3 * 2053, origin)
        assert left is not None
        assert right is not None
        assert torch.equal(bits(torch.cat([left, right])), bits(whole))


def test_threads_that_read_different_tensors_at_once_get_their_own(tmp_path: Path, base: Checkpoint) -> None:
    modules = {K: (8, 16), "model.layers.1.self_attn.k_proj": (8, 16), "model.layers.1.self_attn.v_proj": (8, 16)}
    tensors: dict[str, Tensor] = {}
    for seed, (module, shape) in enumerate(modules.items()):
        tensors |= factors(module, *shape, seed=seed)
    adapted = Adapted.open(written(tmp_path / "adapter", tensors), base)
    alone = {module: adapted.read(f"{module}.weight") for module in modules}
    with ThreadPoolExecutor(3) as pool:
        jobs = [(module, pool.submit(adapted.read, f"{module}.weight")) for _ in range(50) for module in modules]
        assert all(torch.equal(job.result(), alone[module]) for module, job in jobs)


@settings(max_examples=60, deadline=None)
@given(
    rank=st.integers(1, 20),
    rows=st.integers(1, 40),
    columns=st.integers(1, 60),
    kind=st.sampled_from(["linear", "conv1d", "embedding"]),
    alpha=st.floats(-20, 20, allow_nan=False).filter(lambda alpha: abs(alpha) > 1e-3),
    stabilised=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_change_is_the_product(
    rank: int,
    rows: int,
    columns: int,
    kind: str,
    alpha: float,
    stabilised: bool,
    dtype: torch.dtype,
    seed: int,
    data: st.DataObject,
) -> None:
    rng = torch.Generator().manual_seed(seed)
    start = data.draw(st.integers(0, rows * columns))
    stop = data.draw(st.integers(start, rows * columns))
    lies_down, lies_up = (columns, rows) if kind == "linear" else (rows, columns)
    down, up = (
        torch.randn(rank, lies_down, generator=rng).to(dtype),
        torch.randn(lies_up, rank, generator=rng).to(dtype),
    )
    keys = ("lora_embedding_A", "lora_embedding_B") if kind == "embedding" else ("lora_A.weight", "lora_B.weight")
    product = (up.double() @ down.double()) * alpha / (math.sqrt(rank) if stabilised else rank)
    expected = flat(product if kind == "linear" else product.T)[start:stop]
    with tempfile.TemporaryDirectory() as scratch:
        origin = model_of(Path(scratch, "model"), {"m.weight": torch.randn(rows, columns, generator=rng)})
        tensors = {f"base_model.model.m.{key}": tensor for key, tensor in zip(keys, (down, up), strict=True)}
        folder = written(
            Path(scratch, "adapter"),
            tensors,
            r=rank,
            lora_alpha=alpha,
            use_rslora=stabilised,
            fan_in_fan_out=kind == "conv1d",
        )
        adapted = Adapted.open(folder, origin)
        change = adapted.change("m.weight", start, stop, origin)
        assert change is not None
        assert change.dtype is torch.float32
        size = max(1.0, float((up.double().abs() @ down.double().abs()).max()) * abs(alpha) / rank)
        torch.testing.assert_close(change.double(), expected, rtol=0, atol=1e-5 * size)
        assert torch.equal(
            adapted.read_part("m.weight", start, stop), origin.read_part("m.weight", start, stop) + change
        )


def test_streamed_merge_takes_the_product_itself(tmp_path: Path, base: Checkpoint) -> None:
    """Through the values, a change far below the base's last bit would be lost."""
    tensors = factors(K, 8, 16)
    tensors[f"base_model.model.{K}.lora_B.weight"] *= 1e-9
    adapted = Adapted.open(written(tmp_path / "adapter", tensors), base)
    for name in (f"{K}.weight", f"{Q}.weight", "model.norm.weight"):
        blocks = Blocks(name, base, {"a": adapted}, Scratch(), 7)
        merged = np.concatenate([block.copy() for block in FORMS["task_arithmetic"].blocks(blocks, scale=0.5)])
        known = adapted.change(name, 0, merged.size, base)
        assert known is not None
        assert torch.equal(torch.from_numpy(merged), 0.5 * known)
        assert bool(known.any()) is (name == f"{K}.weight")
    (job,) = task_jobs(base, {"a": adapted}, [f"{K}.weight"], run_seed=0, program_id="p")
    assert torch.equal(flat(job.vectors["a"]), adapted.change(f"{K}.weight", 0, 128, base))
    assert not torch.equal(adapted.read(f"{K}.weight") - base.read(f"{K}.weight").float(), job.vectors["a"])


def test_change_is_known_for_the_model_under_the_adapter_alone(
    tmp_path: Path, base: Checkpoint, llamas: Mapping[str, Path]
) -> None:
    adapted = Adapted.open(written(tmp_path / "adapter", factors(K, 8, 16)), base)
    again = adapted.change(f"{K}.weight", 3, 9, Checkpoint.open(llamas["base"]))
    known = adapted.change(f"{K}.weight", 3, 9, base)
    assert again is not None
    assert known is not None
    assert torch.equal(again, known)
    assert adapted.change(f"{K}.weight", 3, 9, Checkpoint.open(llamas["expert_a"])) is None

    class Elsewhere(adapters.View):
        """The same path, other values."""

    assert Adapted.open(adapted.path, base).change(f"{K}.weight", 3, 9, Elsewhere(base)) is None
    second = Adapted.open(adapted.path, adapted)
    assert second.change(f"{K}.weight", 3, 9, base) is None
    assert torch.equal(second.read_part(f"{K}.weight", 3, 9), adapted.read_part(f"{K}.weight", 3, 9) + known)


def test_copy_of_an_embedding_in_the_file_is_what_the_product_is_added_to(tmp_path: Path, base: Checkpoint) -> None:
    """So does peft when it loads an adapter whose base_layer differs from the model's."""
    copy = base.read(EMBEDDING).float() + 0.25
    rows = copy.shape[0]
    tensors = {
        "base_model.model.model.embed_tokens.lora_embedding_A": torch.randn(2, rows),
        "base_model.model.model.embed_tokens.lora_embedding_B": torch.randn(16, 2),
        "base_model.model.model.embed_tokens.base_layer.weight": copy,
    }
    adapted = Adapted.open(written(tmp_path / "adapter", tensors), base)
    product = 2 * (tensors["base_model.model.model.embed_tokens.lora_embedding_B"] @ tensors["base_model.model.model.embed_tokens.lora_embedding_A"]).T  # fmt: skip
    torch.testing.assert_close(adapted.read(EMBEDDING), copy + product, rtol=0, atol=1e-5)
    torch.testing.assert_close(adapted.change(EMBEDDING, 0, rows * 16, base), flat(product + 0.25), rtol=0, atol=1e-5)


def test_adapter_name_in_the_keys_is_passed_over(tmp_path: Path, base: Checkpoint) -> None:
    plain = factors(K, 8, 16)
    named = {key.replace(".weight", ".default.weight"): tensor for key, tensor in plain.items()}
    one = Adapted.open(written(tmp_path / "plain", plain), base)
    other = Adapted.open(written(tmp_path / "named", named), base)
    assert torch.equal(one.read(f"{K}.weight"), other.read(f"{K}.weight"))
    embedding = {f"base_model.model.model.embed_tokens.lora_embedding_{side}.default": tensor for side, tensor in
                 {"A": torch.randn(2, base.shapes[EMBEDDING][0]), "B": torch.randn(16, 2)}.items()}  # fmt: skip
    assert Adapted.open(written(tmp_path / "embedding", embedding), base).dtypes[EMBEDDING] is torch.float32


def test_whole_embedding_and_tied_head_with_the_same_bits_are_one_tensor(tmp_path: Path, tied: Checkpoint) -> None:
    new = torch.randn(tied.shapes[EMBEDDING]).to(torch.float16)
    both = {f"base_model.model.{EMBEDDING}": new, "base_model.model.lm_head.weight": new.clone()}
    folder = written(tmp_path / "adapter", factors(K, 8, 16) | both, modules_to_save=["embed_tokens", "lm_head"])
    adapted = Adapted.open(folder, tied)
    assert torch.equal(adapted.read("lm_head.weight"), new)
    assert torch.equal(adapted.read_part(EMBEDDING, 5, 40), flat(new)[5:40])
    assert adapted.dtypes[EMBEDDING] is torch.float16
    assert adapted.change(EMBEDDING, 0, 4, tied) is None
    assert "lm_head.weight" not in adapted.dtypes


def test_square_weight_lies_as_the_config_says(tmp_path: Path, base: Checkpoint) -> None:
    tensors = factors(Q, 16, 16)
    straight = Adapted.open(written(tmp_path / "straight", tensors), base).change(f"{Q}.weight", 0, 256, base)
    turned = Adapted.open(written(tmp_path / "turned", tensors, fan_in_fan_out=True), base)
    assert straight is not None
    assert torch.equal(turned.read(f"{Q}.weight"), base.read(f"{Q}.weight") + straight.reshape(16, 16).T)


def test_weight_that_is_not_square_lies_as_its_shape_says(tmp_path: Path) -> None:
    """peft leaves in the config what the last module needed, so a GPT-2 with an adapted head says false."""
    origin = model_of(tmp_path / "model", {"h.0.c_fc.weight": torch.zeros(4, 9)})
    adapted = Adapted.open(written(tmp_path / "adapter", factors("h.0.c_fc", 9, 4), fan_in_fan_out=False), origin)
    tensors = factors("h.0.c_fc", 9, 4)
    down, up = (tensors[f"base_model.model.h.0.c_fc.lora_{side}.weight"] for side in "AB")
    torch.testing.assert_close(adapted.read("h.0.c_fc.weight"), 2 * (up @ down).T)


def test_values_that_are_not_finite_are_found_by_who_reads_them(tmp_path: Path, base: Checkpoint) -> None:
    tensors = factors(K, 8, 16)
    tensors[f"base_model.model.{K}.lora_B.weight"][3, 0] = float("nan")
    adapted = Adapted.open(written(tmp_path / "adapter", tensors), base)
    message = rf"^tensor '{K}.weight' of 'a' \({tmp_path}/adapter\): expected finite values, got NaN"
    with pytest.raises(CheckpointError, match=message):
        task_jobs(base, {"a": adapted}, [f"{K}.weight"], run_seed=0, program_id="p")
    with pytest.raises(CheckpointError, match=message):
        list(FORMS["task_arithmetic"].blocks(Blocks(f"{K}.weight", base, {"a": adapted}, Scratch(), 7), scale=1))


def test_unknown_tensor_is_one_line(tmp_path: Path, base: Checkpoint) -> None:
    adapted = Adapted.open(written(tmp_path / "adapter", factors(K, 8, 16)), base)
    for ask in (
        lambda: adapted.read_part("nothing", 0, 1),
        lambda: adapted.change("nothing", 0, 1, base),
        lambda: adapted.expect("nothing"),
    ):
        with pytest.raises(CheckpointError, match=r"^tensor 'nothing': expected in .*, got none; is it the same"):
            ask()


def test_announcing_reads_nothing_and_fails_for_none(tmp_path: Path, tied: Checkpoint) -> None:
    new = torch.ones(tied.shapes[EMBEDDING])
    both = {f"base_model.model.{EMBEDDING}": new, "base_model.model.lm_head.weight": new.clone()}
    adapted = Adapted.open(written(tmp_path / "adapter", factors(K, 8, 16) | both), tied)
    for name in (*adapted.names, "lm_head.weight"):
        adapted.expect(name)


def test_identity_and_paths_cover_weights_and_config(tmp_path: Path, base: Checkpoint) -> None:
    folder = written(tmp_path / "adapter", factors(K, 8, 16))
    adapted = Adapted.open(str(folder), base)
    assert adapted.path == folder
    assert adapted.paths == (folder / "adapter_model.safetensors", folder / "adapter_config.json", *base.paths)
    identity = adapted.identity
    assert (identity.given, identity.commit) == (str(folder), None)
    assert identity.bytes == (folder / "adapter_model.safetensors").stat().st_size
    assert Adapted.open(folder, base).identity == identity
    assert Adapted.open(written(folder, factors(K, 8, 16), lora_alpha=5), base).identity.headers != identity.headers
    assert Adapted.open(written(folder, factors(Q, 16, 16)), base).identity.headers != identity.headers


def test_adapter_is_told_from_a_model(tmp_path: Path, llamas: Mapping[str, Path]) -> None:
    folder = written(tmp_path / "adapter", factors(K, 8, 16))
    assert is_adapter(folder)
    assert is_adapter(str(folder))
    assert not is_adapter(llamas["base"])
    assert not is_adapter(tmp_path / "nothing")
    assert not is_adapter("owner/name")
    (folder / "model.safetensors").touch()  # a trainer's folder with both: `Checkpoint` reads it as the model it is
    assert not is_adapter(folder)


def test_hub_id_is_fetched(tmp_path: Path, base: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tmp_path / "adapter", factors(K, 8, 16))
    monkeypatch.setattr(hub, "download", lambda given: (folder, f"commit of {given}"))
    identity = Adapted.open("owner/name@v1", base).identity
    assert (identity.given, identity.commit) == ("owner/name@v1", "commit of owner/name@v1")
    on_the_hub = [
        "adapter_config.json",
        "adapter_model.safetensors",
        "adapter_model.bin",
        "checkpoint-5/adapter_model.safetensors",
    ]
    fetched = filter_repo_objects(on_the_hub, allow_patterns=list(hub.ALLOWED), ignore_patterns=list(hub.IGNORED))
    assert list(fetched) == ["adapter_config.json", "adapter_model.safetensors"]


def test_the_model_under_an_adapter_is_an_input_too(tmp_path: Path, base: Checkpoint) -> None:
    adapted = Adapted.open(written(tmp_path / "adapter", factors(K, 8, 16)), base)
    assert adapted.identity.on == base.identity
    assert str(adapted.identity) == f"{base.path}+{tmp_path / 'adapter'}"
    record = apply_recipe(
        read_recipe(recipe_of(tmp_path, f"{base.path}+{tmp_path / 'adapter'}")), out=tmp_path / "out", workers=1
    )
    assert record.base.on == base.identity
    assert Provenance.read(tmp_path / "out") == record
    assert base.identity.headers[:16] in (tmp_path / "out" / "README.md").read_text()


def recipe_of(folder: Path, model: str, **more: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"merge_method": "passthrough", "models": [{"model": model}], **more}))
    return path


def test_a_head_that_a_tied_model_has_twice_is_known_under_an_adapter(
    tmp_path: Path, llamas: Mapping[str, Path], edited: Callable[..., Path]
) -> None:
    """As of a folder: merged apart, the two could come to differ."""
    twice = edited(llamas["tied"], lambda tensors: {**tensors, HEAD: tensors[EMBEDDING].clone()})
    origin = Checkpoint.open(twice)
    other = Adapted.open(written(tmp_path / "k", factors(K, 8, 16)), origin)
    head = Adapted.open(written(tmp_path / "head", factors("lm_head", 32, 16), target_modules=["lm_head"]), origin)
    assert (origin.tied_duplicate(), other.tied_duplicate(), head.tied_duplicate()) == (HEAD, HEAD, None)
    assert (Renamed(origin, {HEAD: HEAD}).tied_duplicate(), Renamed(origin, {K: K}).tied_duplicate()) == (HEAD, None)
    planned = make_plan(EXAMPLE, {"w0": 1.0, "w1": 1.0, "w2": 1.0}, other, {"e": origin})
    assert HEAD not in {entry.name for shard in planned.shards for entry in shard.entries}
    plan = plan_recipe(read_recipe(recipe_of(tmp_path, f"{twice}+{tmp_path / 'k'}")), open_named)
    assert HEAD not in {entry.name for shard in plan.shards for entry in shard.entries}


def test_factors_count_as_memory(tmp_path: Path, base: Checkpoint) -> None:
    """Those of the tensor in hand, whichever views it is seen through."""
    adapted = Adapted.open(written(tmp_path / "adapter", factors(K, 8, 16)), base)
    name = f"{K}.weight"
    bytes_of_factors = 3 * 4 * (8 * 2 + 2 * 16)
    assert (base.held(name), adapted.held(name), adapted.held(f"{Q}.weight")) == (0, bytes_of_factors, 0)
    assert Renamed(adapted, {"moved": name}).held("moved") == bytes_of_factors
    assert Nothing(adapted).held(name) == 0
    plan = make_plan(library.source("task_arithmetic"), {"scale": 1.0}, base, {"a": adapted, "b": adapted})
    needs = {entry.name: plan.need(entry) for shard in plan.shards for entry in shard.entries}
    assert needs.pop(name) == 2 * bytes_of_factors
    assert set(needs.values()) == {0}
