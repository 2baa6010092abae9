"""The record beside a merged model, its card, and `verify`."""

from __future__ import annotations

import json

import pytest
from blake3 import blake3
from safetensors.torch import load_file, save_file

from merges.apply import apply_program
from merges.contract import EXAMPLE, program_id
from merges.errors import CheckpointError
from merges.provenance import Provenance, model_card, verify_folder
from merges.tensor_bytes import tensor_bytes

NORM = "model.norm.weight"


@pytest.fixture
def folder(sandbox, llamas, tmp_path):
    experts = {name: llamas[name] for name in ("expert_b", "expert_a")}
    out = tmp_path / "merged"
    apply_program(
        EXAMPLE,
        base=llamas["base"],
        experts=experts,
        out=out,
        selection="mlp",
        parameters={"w1": 0.5},
        run_seed=7,
        sandbox=sandbox,
    )
    return out


def changed(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_record_tells_everything(folder, llamas, sandbox):
    record = Provenance.read(folder)
    assert (record.program_id, record.source) == (program_id(EXAMPLE), EXAMPLE)
    assert record.parameters == {"w0": 0.4, "w1": 0.5, "w2": 0.3}
    assert (record.run_seed, record.selection) == (7, ("mlp",))
    assert list(record.experts) == ["expert_b", "expert_a"]
    assert record.base.given == str(llamas["base"])
    assert record.isolation[0] == sandbox.isolation.level
    assert set(record.versions) == {"mergewright", "python", "torch", "safetensors"}
    for name, tensor in load_file(folder / "model.safetensors").items():
        assert record.tensors[name].blake3 == blake3(tensor_bytes(tensor)).hexdigest()
        assert record.tensors[name].merged == (".mlp." in name)
    assert set(record.files) >= {"config.json", "tokenizer.json"}


def test_record_survives_its_own_json(folder):
    record = Provenance.read(folder)
    assert record.to_json() == (folder / "provenance.json").read_text()


def test_record_has_no_clock(folder):
    keys = set(json.loads((folder / "provenance.json").read_text()))
    assert not keys & {"time", "date", "seconds", "created"}


def test_tensors_an_expert_has_beyond_the_base_are_listed(sandbox, llamas, edited, tmp_path):
    extra = edited(llamas["expert_a"], lambda t: {**t, "vision.weight": t[NORM].clone()})
    record = apply_program(
        EXAMPLE, base=llamas["base"], experts={"a": extra, "b": llamas["expert_b"]}, out=tmp_path / "m", sandbox=sandbox
    )
    assert record.ignored == {"a": ("vision.weight",)}


def test_untouched_folder_verifies(folder):
    assert verify_folder(folder) == []
    assert verify_folder(str(folder)) == []


def test_one_changed_bit_is_found(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (problem,) = verify_folder(folder)
    assert problem.startswith("tensor '")
    assert "expected BLAKE3" in problem


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.pop(NORM), f"tensor '{NORM}': expected as in the provenance, got none"),
        (
            lambda t: t.update({NORM: t[NORM].float()}),
            f"tensor '{NORM}': expected torch.bfloat16 (16,), got torch.float32",
        ),
        (lambda t: t.update({NORM: t[NORM].reshape(4, 4)}), "got torch.bfloat16 (4, 4)"),
        (lambda t: t.update({"new": t[NORM].clone()}), "tensor 'new': not in the provenance"),
    ],
)
def test_changed_tensors_are_found(folder, change, match):
    changed(folder, change)
    (problem,) = verify_folder(folder)
    assert match in problem


def test_changed_missing_and_corrupt_files_are_found(folder):
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").unlink()
    (folder / "model.safetensors").write_bytes(b"xx")
    problems = verify_folder(folder)
    assert [p.split(":")[0] for p in problems[:2]] == ["file 'config.json'", "file 'tokenizer.json'"]
    assert "no such file" in problems[1]
    assert "corrupt" in problems[2]


def test_changed_program_is_found(folder):
    path = folder / "provenance.json"
    path.write_text(path.read_text().replace("w0=0.4", "w0=0.5"))
    (problem,) = verify_folder(folder)
    assert problem.startswith(f"program: expected id {program_id(EXAMPLE)}, got ")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', "\x00"])
def test_record_that_is_none_of_ours_is_one_line(folder, text):
    (folder / "provenance.json").write_text(text)
    with pytest.raises(
        CheckpointError, match=r"provenance.json: expected a record of format 1, got .*; apply the merge"
    ):
        verify_folder(folder)


def test_record_of_another_format_is_refused(folder):
    path = folder / "provenance.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(
        CheckpointError, match=r"expected a record of format 1, got .* at format; apply the merge again"
    ):
        verify_folder(folder)


def test_record_that_cannot_be_read_is_one_line(folder):
    (folder / "provenance.json").unlink()
    (folder / "provenance.json").mkdir()
    with pytest.raises(CheckpointError, match=r"expected a readable record, got .*; check the disk$"):
        verify_folder(folder)


def test_record_that_names_files_outside_leads_nowhere(folder, tmp_path):
    (tmp_path / "secret").write_text("x")
    path = folder / "provenance.json"
    record = json.loads(path.read_text())
    record["files"] = {"../secret": blake3(b"x").hexdigest()}
    path.write_text(json.dumps(record))
    (problem,) = verify_folder(folder)
    assert "no such file" in problem


def test_folder_without_record_is_one_line(tmp_path, llamas):
    for path in (tmp_path / "none", llamas["base"]):
        with pytest.raises(
            CheckpointError, match=r"expected a folder with provenance.json, got none; give a folder that"
        ):
            verify_folder(path)


def test_card_has_front_matter_table_and_program(folder, llamas):
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\ntags:\n- merge\n- mergewright\n---\n")
    assert EXAMPLE.rstrip() in card
    assert "| hyper-parameters | w0 = 0.4, w1 = 0.5, w2 = 0.3 |" in card
    assert "| merged parameters | mlp: 6 of " in card
    assert "base_model" not in card


def test_card_of_hub_models_names_them_and_resists_odd_text(folder):
    from dataclasses import replace

    record = Provenance.read(folder)
    hub = replace(record.base, given="owner/name", commit="abc")
    odd = {"a|b\nc": replace(hub, given="x/y"), "again": replace(hub, given="x/y@v1")}
    card = model_card(replace(record, base=hub, experts=odd, source="'''```'''\nx = 1"))
    assert 'base_model:\n- "owner/name"\n- "x/y"\n---' in card
    assert "| expert a\\|b c | x/y at abc" in card
    assert "| expert again | x/y@v1 at abc" in card
    assert "````python\n'''```'''" in card
