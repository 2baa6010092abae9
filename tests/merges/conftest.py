"""One sandbox for the session, jobs from plain tensors, and tiny model folders made on the spot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from merges import library
from merges.checkpoints import Checkpoint
from merges.tokenizer_files import AddedToken
from sandbox import Sandbox, TensorJob
from tests.environments import MERGEKIT
from tests.merges.written_tokens import edit, golden_models, save_tokenizer


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(allow_none=True) as started:
        yield started


@pytest.fixture(scope="session")
def job() -> Callable[..., TensorJob]:
    """job(vectors, base=zeros, seed=0, name=...) -> TensorJob."""

    def build(
        vectors: Sequence[Tensor], *, base: Tensor | None = None, seed: int = 0, name: str = "a.weight"
    ) -> TensorJob:
        named = {f"model_{i}": vector for i, vector in enumerate(vectors)}
        return TensorJob(name, 0.0, named, torch.zeros_like(vectors[0]) if base is None else base, seed)

    return build


@pytest.fixture(scope="session")
def run_jobs(sandbox: Sandbox) -> Callable[..., Mapping[str, Tensor]]:
    """run_jobs(program name or source, jobs, parameters) -> job name -> merged task vector."""

    def execute(
        program: str, jobs: Sequence[TensorJob], parameters: Mapping[str, float] | None = None
    ) -> Mapping[str, Tensor]:
        source = program if "\n" in program else library.source(program)
        result = sandbox.execute(source, jobs, parameters)
        assert result.ok, f"{result.reason}: {result.detail}"
        assert result.outputs is not None
        return result.outputs

    return execute


@pytest.fixture(scope="session")
def run(run_jobs, job) -> Callable[..., Tensor]:
    """run(program name or source, vectors, base=None, seed=0, **hyper-parameters) -> merged task vector."""

    def execute(
        program: str, vectors: Sequence[Tensor], *, base: Tensor | None = None, seed: int = 0, **parameters: float
    ) -> Tensor:
        (merged,) = run_jobs(program, [job(vectors, base=base, seed=seed)], parameters).values()
        return merged

    return execute


@pytest.fixture(scope="session")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Folders of four tiny random Llamas in bfloat16 with a tokenizer: base, expert_a, expert_b, and a tied one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    root = tmp_path_factory.mktemp("llamas")
    words = {word: i for i, word in enumerate(["<unk>", "<s>", "</s>", *"abcdefghijklm", *"0123456789", *"+-*/=?"])}
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    for seed, name in enumerate(("base", "expert_a", "expert_b", "tied")):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(words),
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=64,
            tie_word_embeddings=name == "tied",
            bos_token_id=1,
            eos_token_id=2,
        )
        model = LlamaForCausalLM(config)
        for parameter in model.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)  # norms start as ones in every model
        model.to(torch.bfloat16).save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return {path.name: path for path in root.iterdir()}


@pytest.fixture
def base(llamas: Mapping[str, Path]) -> Checkpoint:
    return Checkpoint.open(llamas["base"])


@pytest.fixture
def tied(llamas: Mapping[str, Path]) -> Checkpoint:
    return Checkpoint.open(llamas["tied"])


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    """edited(folder, change, config={}) -> a copy whose tensors went through `change(dict) -> dict`."""

    def edit(
        folder: Path,
        change: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
        config: Mapping[str, object] | None = None,
        name: str = "edited",
    ) -> Path:
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        tensors = load_file(copy / "model.safetensors")
        save_file(change(tensors), copy / "model.safetensors", metadata={"format": "pt"})
        settings = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**settings, **(config or {})}))
        return copy

    return edit


@pytest.fixture
def hard_models(llamas: Mapping[str, Path], edited: Callable[..., Path]) -> tuple[Checkpoint, dict[str, Checkpoint]]:
    """A base and three experts with many equal magnitudes, zeros, a constant tensor, one far from the base and one of three dimensions: what
    ranks and angles find hard."""
    seed = load_file(llamas["base"] / "model.safetensors")

    def grown(tensors: dict[str, Tensor], number: int) -> dict[str, Tensor]:
        rng = torch.Generator().manual_seed(number)
        more = {"conv.weight": torch.randn(3, 5, 4, generator=rng), "one": torch.randn(1, generator=rng)}
        return {**tensors, **{name: value.to(torch.bfloat16) for name, value in more.items()}}

    def coarse(tensors: dict[str, Tensor], number: int) -> dict[str, Tensor]:
        near = {name: seed[name] + ((tensors[name] - seed[name]) * 20).round() / 64 for name in tensors}
        return grown({**near, "model.norm.weight": seed["model.norm.weight"] + 0.5}, number)

    names = ("expert_a", "expert_b")
    folders = {
        name: edited(llamas[name], partial(coarse, number=i), name=f"{name}_coarse") for i, name in enumerate(names)
    }
    folders["expert_c"] = edited(llamas["expert_b"], partial(grown, number=2), name="expert_c_grown")
    base = edited(llamas["base"], partial(grown, number=3), name="base_grown")
    return Checkpoint.open(base), {name: Checkpoint.open(folder) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def sharded(llamas: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base again, in three shards with an index."""
    folder = tmp_path_factory.mktemp("sharded") / "base"
    shutil.copytree(llamas["base"], folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for i in range(3):
        file = f"model-{i + 1:05d}-of-00003.safetensors"
        part = {name: tensor for k, (name, tensor) in enumerate(sorted(tensors.items())) if k % 3 == i}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


@pytest.fixture(scope="session")
def write_tokens() -> Callable[..., Path]:
    """write_tokens(folder, model of goldens/vocabulary.json, kind=class of transformers) -> the folder, with tokenizer and config.json."""

    def write(folder: Path, spec: Mapping[str, Any], kind: str = "PreTrainedTokenizerFast") -> Path:
        save_tokenizer(folder, spec)
        edit(folder / "tokenizer_config.json", tokenizer_class=kind)
        edit(folder / "config.json", model_type="llama", vocab_size=spec["rows"])
        return folder

    return write


@pytest.fixture(scope="session")
def token_folders(write_tokens: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The models of goldens/vocabulary.json: their tokenizers and config.json."""
    root = tmp_path_factory.mktemp("tokens")
    return {name: write_tokens(root / name, spec) for name, spec in golden_models().items()}


@pytest.fixture
def spoilt(token_folders: Mapping[str, Path], tmp_path: Path) -> Path:
    """A copy of one of them, to spoil."""
    return Path(shutil.copytree(token_folders["base"], tmp_path / "model"))


@pytest.fixture(scope="session")
def loaded_tokens() -> Callable[[Path], tuple[Any, Mapping[str, AddedToken]]]:
    """loaded_tokens(folder) -> the tokenizer that transformers makes of it, and its added tokens in the order of the ids."""
    from transformers import AutoTokenizer

    def load(folder: Path) -> tuple[Any, Mapping[str, AddedToken]]:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        flags = [field.name for field in fields(AddedToken)]
        added = sorted(tokenizer.added_tokens_decoder.items())
        return tokenizer, {token.content: AddedToken(*(getattr(token, flag) for flag in flags)) for _, token in added}

    return load


@pytest.fixture(scope="session")
def mergekit_python() -> Path:
    """Python of an environment that has mergekit: some 2 GB with the CPU build of torch."""
    return MERGEKIT.python()
