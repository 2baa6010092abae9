from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GenerationConfig

from benchmarks import ModelFolderError
from benchmarks.model_folder import ModelFolder
from tests.benchmarks.conftest import WORDS, llama, save


@pytest.mark.parametrize("which", ["llama_folder", "grouped_folder", "gpt2_folder"])
def test_names_shapes_and_values_are_those_of_the_loaded_model(request: pytest.FixtureRequest, which: str) -> None:
    path: Path = request.getfixturevalue(which)
    folder, state = ModelFolder(path), AutoModelForCausalLM.from_pretrained(path).state_dict()
    assert set(folder) == set(state)
    for name, tensor in state.items():
        assert torch.equal(folder[name], tensor)
        assert folder.shapes[folder.owner[name]] == tensor.shape
    assert len(folder) == len(state)
    assert (folder.rows, folder.context, folder.end_ids) == (len(WORDS), 128, {1})


def test_tied_names_have_one_owner(llama_folder: Path, grouped_folder: Path) -> None:
    tied = ModelFolder(llama_folder)
    assert {name: owner for name, owner in tied.owner.items() if name != owner} == {
        "lm_head.weight": "model.embed_tokens.weight"
    }
    assert "lm_head.weight" not in tied.shapes
    untied = ModelFolder(grouped_folder)
    assert all(name == owner for name, owner in untied.owner.items())


def test_a_tied_weight_stored_twice_has_one_owner(tmp_path: Path) -> None:
    path = save(tmp_path / "twice", llama())
    tensors = load_file(path / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    owner = ModelFolder(path).owner
    assert owner["lm_head.weight"] == owner["model.embed_tokens.weight"] == "model.embed_tokens.weight"


def test_names_without_the_prefix_of_the_inner_model_are_known_as_tied(gpt2_folder: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(gpt2_folder, tmp_path / "old"))
    tensors = load_file(path / "model.safetensors")
    save_file(
        {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}, path / "model.safetensors"
    )
    folder = ModelFolder(path)
    assert folder.owner["lm_head.weight"] == "wte.weight"
    assert torch.equal(folder["lm_head.weight"], tensors["transformer.wte.weight"])


def test_shards_are_found_through_their_index(tmp_path: Path) -> None:
    model = llama()
    path = save(tmp_path / "sharded", model)
    (path / "model.safetensors").unlink()
    model.save_pretrained(path, max_shard_size="20kB")
    assert len(list(path.glob("model-*.safetensors"))) > 1
    folder = ModelFolder(path)
    assert torch.equal(folder["model.norm.weight"], model.state_dict()["model.norm.weight"])
    assert len(folder.shapes) == len(load_names(path))


def load_names(path: Path) -> dict[str, str]:
    names: dict[str, str] = json.loads((path / "model.safetensors.index.json").read_text())["weight_map"]
    return names


def test_the_generation_configs_end_tokens_count(tmp_path: Path) -> None:
    path = save(tmp_path / "ends", llama())
    GenerationConfig(eos_token_id=[5, 7]).save_pretrained(path)
    assert ModelFolder(path).end_ids == {1, 5, 7}


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_half_a_model_is_refused_in_one_line(tmp_path: Path, missing: str) -> None:
    path = save(tmp_path / "half", llama())
    (path / missing).unlink()
    with pytest.raises(ModelFolderError, match="expected a folder or hub id with config, tokenizer and") as caught:
        ModelFolder(path)
    assert "\n" not in str(caught.value)
