"""Applying a program: the folder it makes, and that a failure makes nothing."""

from __future__ import annotations

import errno
import json
import math
import re
import shutil
import subprocess

import pytest
import torch
from safetensors.torch import load_file

from merges import apply as applying
from merges import library, plan, target
from merges.apply import apply_program
from merges.contract import EXAMPLE, program_id
from merges.errors import (
    CheckpointError,
    HostError,
    OptionError,
    ProgramError,
    SelectionError,
    ShapeError,
    TargetError,
)
from merges.output import TensorWriter
from merges.provenance import verify_folder
from merges.task_vectors import tensor_seed

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
SUM = library.source("task_arithmetic")


@pytest.fixture
def merge(sandbox, llamas, tmp_path):
    """merge(source, **changes) -> the folder made of base, expert_a and expert_b."""

    def run(source=SUM, out="merged", **changes):
        settings = {
            "base": llamas["base"],
            "experts": {name: llamas[name] for name in ("expert_a", "expert_b")},
            "out": tmp_path / out,
            "sandbox": sandbox,
            **changes,
        }
        apply_program(source, **settings)
        return settings["out"]

    return run


def weights(folder):
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def program(body, arguments="model_dict, device"):
    return f"import torch\n\n\ndef merge_models({arguments}):\n" + "".join(
        f"    {line}\n" for line in body.splitlines()
    )


def assert_nothing_left(tmp_path, *kept):
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_merged_weights_are_base_plus_merged_task_vector(merge, llamas):
    out = weights(merge(parameters={"scale": 0.25}))
    base, a, b = (weights(llamas[name]) for name in ("base", "expert_a", "expert_b"))
    assert set(out) == set(base)
    for name, tensor in out.items():
        seed = base[name].float()
        expected = (seed + 0.25 * ((a[name].float() - seed) + (b[name].float() - seed))).to(torch.bfloat16)
        assert tensor.dtype is torch.bfloat16
        assert torch.equal(tensor, expected), name


def test_folder_loads_in_transformers_and_generates(merge):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = merge()
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer("1 + 2", return_tensors="pt")
    text = model.generate(**tokens, max_new_tokens=3, do_sample=False, pad_token_id=0)
    assert text.shape[1] > tokens["input_ids"].shape[1]
    for name, tensor in weights(folder).items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_tied_model_stays_tied_and_loads(merge, llamas, edited):
    from transformers import AutoModelForCausalLM

    twice = edited(llamas["tied"], lambda t: {**t, HEAD: t[EMBED].clone()})
    for number, base in enumerate((llamas["tied"], twice)):
        folder = merge(base=base, out=f"out{number}")
        assert HEAD not in weights(folder)
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert weights(folder)[EMBED].equal(weights(folder.parent / "out0")[EMBED])


def test_tensors_outside_the_selection_are_the_bases_bit_for_bit(merge, llamas):
    base, out = weights(llamas["base"]), weights(merge(selection="mlp"))
    changed = {name for name in base if not torch.equal(base[name].view(torch.int16), out[name].view(torch.int16))}
    assert changed == {name for name in base if ".mlp." in name}


def test_vocabulary_may_differ_outside_the_selection(merge, llamas, edited):
    wide = edited(llamas["expert_a"], lambda t: {**t, EMBED: torch.zeros(40, 16), HEAD: torch.zeros(40, 16)})
    merge(experts={"wide": wide}, selection="mlp")
    with pytest.raises(ShapeError, match=r"expected shape \(32, 16\) as in the base, got \(40, 16\) in expert 'wide'"):
        merge(experts={"wide": wide}, out="other")
    assert not (wide.parent / "other").exists()


def test_same_inputs_give_the_same_bytes(merge):
    source = library.source("dare_ties")
    one, other = merge(source, "one", run_seed=3), merge(source, "other", run_seed=3)
    assert sorted(p.name for p in one.iterdir()) == sorted(p.name for p in other.iterdir())
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name
    third = merge(source, "third", run_seed=4)
    assert (third / "model.safetensors").read_bytes() != (one / "model.safetensors").read_bytes()


def test_bytes_depend_on_neither_batches_nor_the_shards_of_the_inputs(merge, sharded, monkeypatch):
    source = library.source("dare_linear")
    one = merge(source, "one")
    monkeypatch.setattr(plan, "BATCH_BYTES", 1)
    two = merge(source, "two", base=sharded)
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()


def test_large_output_is_sharded_and_loads(merge, monkeypatch):
    from transformers import AutoModelForCausalLM

    from merges import layout

    whole = weights(merge(out="whole"))
    monkeypatch.setattr(plan, "plan_shards", lambda entries, limit: layout.plan_shards(entries, 4000))
    folder = merge()
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 1
    out = weights(folder)
    assert set(out) == set(whole)
    assert all(torch.equal(out[name], whole[name]) for name in whole)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert all(torch.equal(model.state_dict()[name], whole[name]) for name in whole)
    assert verify_folder(folder) == []


def test_files_of_the_base_come_along_and_code_does_not(merge, llamas, edited):
    base = edited(llamas["base"])
    (base / "modeling_evil.py").write_text("raise SystemExit")
    (base / "pytorch_model.bin").write_bytes(b"x")
    (base / "chat_template.jinja").write_text("{{ messages }}")
    folder = merge(base=base)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
        *("model.safetensors", "provenance.json", "README.md"),
    }
    assert (folder / "config.json").read_bytes() == (base / "config.json").read_bytes()


def test_folder_has_the_permissions_of_a_plain_folder(merge, tmp_path):
    (tmp_path / "plain").mkdir()
    assert merge().stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_output_dtype_is_the_bases(merge, llamas, edited, dtype):
    base = edited(llamas["base"], lambda t: {name: tensor.to(dtype) for name, tensor in t.items()})
    out = weights(merge(base=base))
    assert {tensor.dtype for tensor in out.values()} == {dtype}


def test_integer_and_empty_tensors_are_copied(merge, llamas, edited):
    extra = {"positions": torch.arange(5), "empty": torch.zeros(0, 3), "scalar": torch.tensor(2.5)}
    folders = {n: edited(llamas[n], lambda t: {**t, **extra}, name=n) for n in ("base", "expert_a", "expert_b")}
    out = weights(merge(base=folders.pop("base"), experts=folders, selection=["mlp", "positions", "empty", "scalar"]))
    for name, tensor in extra.items():
        assert torch.equal(out[name], tensor)


def test_selection_of_integers_only_is_refused(merge, llamas, edited):
    base = edited(llamas["base"], lambda t: {**t, "positions": torch.arange(5)})
    with pytest.raises(SelectionError, match=r"^selection 'positions': expected floating-point tensors, got integers"):
        merge(base=base, selection="positions")


def test_program_sees_depth_name_base_and_its_own_seeded_rng(merge, llamas):
    source = program(
        "first = list(model_dict.values())[0]\n"
        "if name.endswith('norm.weight'):\n"
        "    return torch.rand(first.shape, generator=rng) - base\n"
        "return torch.full_like(first, depth) - base",
        "model_dict, device, name, depth, base, rng",
    )
    out = weights(merge(source, run_seed=11))
    assert (out["model.layers.1.mlp.up_proj.weight"] == 1.0).all()
    assert (out["model.layers.0.mlp.up_proj.weight"] == 0.0).all()
    seed = tensor_seed(11, program_id(source), "model.norm.weight")
    expected = torch.rand(16, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)
    torch.testing.assert_close(out["model.norm.weight"], expected, rtol=0, atol=0.01)


def test_progress_ends_with_all(merge, llamas):
    seen = []
    merge(progress=lambda done, total: seen.append((done, total)))
    total = len(weights(llamas["base"]))
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)


@pytest.mark.parametrize("kind", ["folder", "file", "empty", "dangling"])
def test_target_that_exists_is_refused_and_kept(merge, tmp_path, kind):
    out = tmp_path / "merged"
    if kind == "dangling":
        out.symlink_to(tmp_path / "nowhere")
    elif kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        if kind == "folder":
            (out / "mine").write_text("mine")
    with pytest.raises(TargetError, match=r"merged: expected no such file or folder yet, got one; remove it or choose"):
        merge()
    assert_nothing_left(tmp_path, "merged")


def test_target_that_appears_during_the_work_is_kept(merge, tmp_path):
    def interfere(done, total):
        (tmp_path / "merged").mkdir(exist_ok=True)

    with pytest.raises(TargetError, match="got one"):
        merge(progress=interfere)
    assert_nothing_left(tmp_path, "merged")
    assert not list((tmp_path / "merged").iterdir())


def test_target_under_a_file_is_refused(merge, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetError, match=r"expected a place to write, got .*; choose another$"):
        merge(out="file/merged")
    assert_nothing_left(tmp_path, "file")


def test_disk_that_is_too_small_is_refused_before_anything_is_written(merge, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(target.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(TargetError, match=r"expected [\d,]+ bytes of free disk, got 1,000; free some space or choose"):
        merge()
    assert_nothing_left(tmp_path)


def test_disk_that_fills_during_the_work_leaves_nothing(merge, tmp_path, monkeypatch):
    def full(writer, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TensorWriter, "write", full)
    with pytest.raises(HostError, match=r"merged: expected to write .* got No space left on device; free some space"):
        merge()
    assert_nothing_left(tmp_path)


def test_really_full_disk_leaves_nothing(merge, tmp_path, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a tmpfs needs root; the same path is tested with a writer that fails")
    try:
        monkeypatch.setattr(target.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**40, 0, 2**40))
        with pytest.raises(HostError, match="No space left on device; free some space and run again"):
            merge(out="disk/merged")
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_ctrl_c_leaves_nothing(merge, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt("at the first tensor")

    with pytest.raises(KeyboardInterrupt, match=r"^at the first tensor$"):
        merge(progress=interrupt)
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("source", "reason", "match"),
    [
        ("def merge_models(:", "syntax", "got syntax in line 1"),
        ("import os\nos.getcwd()\n" + EXAMPLE, "policy", "got policy in line 1"),
        (program("return 1 / 0"), "exception", "ZeroDivisionError"),
        (program("return list(model_dict.values())[0] * float('nan')"), "nonfinite", "got nonfinite"),
        (program("return list(model_dict.values())[0].sum()"), "wrong_shape", "got wrong_shape"),
        (program("return 1"), "wrong_type", "got wrong_type"),
        (
            program("return torch.full_like(list(model_dict.values())[0], 3.4e38)"),
            "nonfinite",
            r"overflows torch.bfloat16",
        ),
    ],
)
def test_program_that_fails_is_its_own_fault_and_leaves_nothing(merge, tmp_path, source, reason, match):
    with pytest.raises(ProgramError, match=match) as info:
        merge(source)
    assert info.value.reason == reason
    wanted = "one that the sandbox runs" if reason in ("syntax", "policy") else "a merged tensor for every parameter"
    assert str(info.value).startswith(f"program {program_id(source)}: expected {wanted}, got ")
    assert_nothing_left(tmp_path)


def test_overflow_of_the_bases_dtype_is_found(merge, llamas, edited, tmp_path):
    base = edited(llamas["base"], lambda t: {name: tensor.half() for name, tensor in t.items()})
    source = program("return torch.full_like(list(model_dict.values())[0], 70000.0)")
    with pytest.raises(ProgramError, match=r"tensor '.*' overflows torch.float16 once it is added to the base") as info:
        merge(source, base=base)
    assert info.value.reason == "nonfinite"
    assert_nothing_left(tmp_path, "edited")


@pytest.mark.parametrize(
    ("changes", "kind", "match"),
    [
        ({"parameters": {"scal": 1.0}}, OptionError, r"hyper-parameter 'scal': expected one of scale, got an unknown"),
        ({"parameters": {"scale": float("inf")}}, OptionError, r"hyper-parameter 'scale': expected a finite number"),
        ({"experts": {}}, OptionError, r"experts: expected at least one, got none"),
        ({"selection": "nothing"}, SelectionError, r"got no match among"),
        ({"base": "no-such-folder"}, CheckpointError, r"got no such folder; check the path"),
        ({"experts": {"a": "no-such-folder"}}, CheckpointError, r"got no such folder; check the path"),
        (
            {"source": EXAMPLE, "max_memory_bytes": 1000},
            OptionError,
            r"max memory: expected at least [\d,]+ bytes for tensor '.*', got 1,000",
        ),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(merge, tmp_path, changes, kind, match):
    with pytest.raises(kind, match=match) as info:
        merge(**changes)
    assert "\n" not in str(info.value)
    assert_nothing_left(tmp_path)


def test_memory_bound_that_fits_is_kept_to(merge, sandbox, monkeypatch):
    biggest = []
    execute = sandbox.execute

    def watch(source, jobs, parameters=None):
        biggest.append(sum(4 * math.prod(shape) * 2 * (2 + 2) for shape in jobs.shapes.values()))
        return execute(source, jobs, parameters)

    monkeypatch.setattr(sandbox, "execute", watch)
    merge(EXAMPLE, max_memory_bytes=20_000, workers=1)
    assert max(biggest) <= 20_000
    assert len(biggest) > 3


def test_expert_corrupt_inside_is_found_and_leaves_nothing(merge, llamas, edited, tmp_path):
    def poison(tensors):
        tensors["model.norm.weight"][0] = float("nan")
        return tensors

    bad = edited(llamas["expert_a"], poison)
    with pytest.raises(CheckpointError, match=r"tensor 'model.norm.weight' of 'bad' .*: expected finite values"):
        merge(experts={"bad": bad})
    assert_nothing_left(tmp_path, "edited")


def test_opened_checkpoints_serve_too(merge, llamas):
    from merges.checkpoints import Checkpoint

    one = merge(out="one")
    two = merge(out="two", base=Checkpoint.open(llamas["base"]))
    assert json.loads((one / "provenance.json").read_text()) == json.loads((two / "provenance.json").read_text())


def test_a_program_that_needs_more_memory_than_there_is_is_refused_with_the_figure(llamas, monkeypatch):
    models = {"base": llamas["base"], "experts": {"a": llamas["expert_a"], "b": llamas["expert_b"]}}
    assert plan.available_memory() > 1 << 20
    monkeypatch.setattr(applying, "available_memory", lambda: 1000)
    (problem,) = applying.plan_merge(EXAMPLE, **models).problems
    assert re.match(
        r"memory of this machine: expected at least [\d,]+ bytes for tensor '.*', got 1,000; ", str(problem)
    )
    assert applying.plan_merge(library.source("ties"), **models).problems == ()  # streamed: no tensor is held
