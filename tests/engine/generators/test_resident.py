"""The model that stays in memory: named as a user names it, whatever its files hold beside its weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks import BenchmarkError
from engine import locations
from engine.config import GeneratorSection
from engine.errors import RunError
from engine.generators import LanguageModelGenerator, ResidentModel
from engine.generators import resident as module
from engine.records import Sampling

SHIPPED = str(locations.pocket_model("generator"))


@pytest.fixture
def resident() -> ResidentModel:
    return ResidentModel(SHIPPED)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """Another version: its weights doubled, and a tensor beside them for which the model has no place."""
    folder = tmp_path / "version"
    shutil.copytree(SHIPPED, folder)
    tensors = {name: 2 * tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_model_named_by_hub_id_is_taken_over_again_by_that_name(
    monkeypatch: pytest.MonkeyPatch, version: Path
) -> None:
    monkeypatch.setattr(module, "located", lambda name: SHIPPED if name == "someone/writer" else name)
    resident = ResidentModel("someone/writer")
    first = resident.plain_weights()["model.norm.weight"].clone()
    resident.adopt(str(version))
    assert torch.equal(resident.plain_weights()["model.norm.weight"], 2 * first)
    resident.adopt("someone/writer")
    assert torch.equal(resident.plain_weights()["model.norm.weight"], first)
    assert resident.folder_of("someone/writer") == resident.folder_of(SHIPPED) == SHIPPED


def test_tensors_that_the_model_has_no_place_for_are_left_out(resident: ResidentModel, version: Path) -> None:
    resident.adopt(str(version))
    held = resident.plain_weights()
    stored = load_file(version / "model.safetensors")
    assert all(torch.equal(held[name], stored[name]) for name in held)


def test_a_version_that_lacks_a_tensor_is_none(resident: ResidentModel, version: Path) -> None:
    tensors = load_file(version / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, version / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunError, match=r"no tensor 'model\.norm\.weight'"):
        resident.adopt(str(version))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()], ids=["GPU", "mapping"])
def test_want_of_memory_for_a_version_is_not_taken_for_a_broken_folder(
    resident: ResidentModel, version: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def scarce(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(module, "safe_open", scarce)
    with pytest.raises(BenchmarkError, match=r"expected enough memory, got none .*; free some and resume$"):
        resident.adopt(str(version))
    resident.model = SimpleNamespace(peft_config={}, merge_and_unload=scarce)
    with pytest.raises(BenchmarkError, match=r"merging the generator's adapter: expected enough memory"):
        resident.plain_weights()


def test_no_more_are_decoded_together_than_the_campaign_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine import sampling

    decoded, decode = [], sampling._decode

    def counted(model: object, end: int, ids: list[list[int]], *rest: object) -> object:
        decoded.append(len(ids))
        return decode(model, end, ids, *rest)

    monkeypatch.setattr(sampling, "_decode", counted)
    generator = LanguageModelGenerator(SHIPPED, GeneratorSection(batch=3))
    places = [Sampling(1.0, 1.0, row, 0, row) for row in range(7)]
    assert len(generator.complete(["# Sum"] * 7, places, max_new_tokens=2)) == 7
    assert decoded == [3, 3, 1]
