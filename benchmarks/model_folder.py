"""What has to be known of a model that is loaded elsewhere: names, shapes and ties of its weights, its tokenizer, its ends."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.errors import ModelFolderError
from benchmarks.prompting import check_tokenizer, end_ids

_NEEDED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
"""Files of a hub model; weights in other formats are never loaded."""


class ModelFolder(Mapping[str, Tensor]):
    """A model's checkpoint, opened, not loaded: a mapping of every weight's name to its tensor, read when asked for.

    Names are the checkpoint's own; where weights are tied, every name that any of them has is known.

    Attributes:
        path: the folder, absolute.
        tokenizer: the model's tokenizer.
        end_ids: tokens that end an answer.
        rows: of the embedding; at least as many as the tokenizer has tokens.
        context: tokens of prompt and answer together.
        shapes: checkpoint name -> shape, in the order of the model.
        owner: name -> the checkpoint name that holds its values: itself but for the further names of tied weights.

    Args:
        folder: model folder or hub id; safetensors only, never with remote code.

    Raises:
        ModelFolderError: the model or its tokenizer cannot be read, or they do not fit each other.
    """

    def __init__(self, folder: str | Path) -> None:
        from transformers import AutoTokenizer

        with reading(folder):
            self.path = _local(folder)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(str(self.path))
            skeleton = _skeleton(self.path)
            self._files = _open(self.path)
            self.shapes = self._shapes(skeleton)
        self.rows: int = skeleton.get_input_embeddings().weight.shape[0]
        check_tokenizer(folder, self.tokenizer, self.rows)
        self.end_ids = end_ids(skeleton, self.tokenizer)
        self.context: int = getattr(skeleton.config, "max_position_embeddings", None) or 1 << 30
        self.owner = self._owners(skeleton)

    def __getitem__(self, name: str) -> Tensor:
        """The tensor as stored, in its stored dtype."""
        stored = self.owner[name]
        tensor: Tensor = self._files[stored].get_tensor(stored)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.owner)

    def __len__(self) -> int:
        return len(self.owner)

    def _shapes(self, skeleton: Any) -> dict[str, tuple[int, ...]]:
        order = {name: at for at, name in enumerate(skeleton.state_dict())}
        names = sorted(self._files, key=lambda name: (order.get(name, len(order)), name))
        return {name: tuple(self._files[name].get_slice(name).get_shape()) for name in names}

    def _owners(self, skeleton: Any) -> dict[str, str]:
        prefix = f"{skeleton.base_model_prefix}."
        tied: dict[int, list[str]] = {}
        for name, parameter in skeleton.state_dict(keep_vars=True).items():
            tied.setdefault(id(parameter), []).append(name)
        owner = {name: name for name in self.shapes}
        for names in tied.values():
            # Old checkpoints name the weights of the inner model without its prefix.
            stored = [own for name in names for own in (name, name.removeprefix(prefix)) if own in self.shapes]
            if stored and len(names) > 1:
                owner |= dict.fromkeys([*names, *stored], stored[0])
        return owner


@contextmanager
def reading(folder: str | Path) -> Iterator[None]:
    """Turns what the libraries raise over a folder into one line.

    Raises:
        ModelFolderError: it does not hold what it should.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelFolderError(
            f"model '{folder}': expected a folder or hub id with config, tokenizer and safetensors, "
            f"got: {first[:160]}; check the path or download the model again"
        ) from error


def _local(folder: str | Path) -> Path:
    if Path(folder).is_dir():
        return Path(folder).resolve()
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(folder), allow_patterns=_NEEDED)).resolve()


def _open(path: Path) -> dict[str, Any]:
    """Name of every stored tensor -> the open file that holds it."""
    from safetensors import safe_open

    index = path / "model.safetensors.index.json"
    shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values())) if index.is_file() else []
    found: dict[str, Any] = {}
    for shard in shards or ["model.safetensors"]:
        file: Any = safe_open(str(path / shard), framework="pt")
        found |= dict.fromkeys(file.keys(), file)
    return found


def _skeleton(path: Path) -> Any:
    """The model without memory for its weights: which of them are tied only its class knows."""
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(str(path)))
    if (path / "generation_config.json").is_file():
        skeleton.generation_config = GenerationConfig.from_pretrained(str(path))
    return skeleton
