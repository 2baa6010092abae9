"""One causal language model in memory, whose weights are replaced in place when it has learnt.

A version of a generator is a folder: a plain model, or an adapter of peft (`adapter_config.json`) over the model that the campaign names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from benchmarks.host import memory_for, usable_device
from engine.errors import ConfigError, RunError
from merges.checkpoints import Checkpoint
from merges.errors import CheckpointError

ADAPTER_FILE = "adapter_model.safetensors"


class ResidentModel:
    """A language model with its tokenizer.

    Args:
        folder: model folder or hub id.
        device: "cpu" or "cuda".
        dtype: in which it is held.

    Attributes:
        model: of transformers; of peft while it has an adapter.
        tokenizer: its tokenizer.
        base: the folder it was opened from.

    Raises:
        ConfigError: the model cannot be loaded, or has no end token.
        DeviceError: this machine has no such device.
        BenchmarkError: the model does not fit into memory.
    """

    def __init__(self, folder: str, *, device: str = "cpu", dtype: str = "float32") -> None:
        from transformers import AutoModelForCausalLM

        place = usable_device(device)
        self._called, folder = folder, located(folder)
        self.tokenizer: Any = open_tokenizer(folder)
        with _loading(folder), memory_for(f"generator.model '{folder}'", "free some, or take a smaller model"):
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
            self.model: Any = model.to(place).eval()
        self.base = folder
        self._holds = folder

    def folder_of(self, version: str) -> str:
        """Where a version lies: its folder, or the model that this one was opened from by whatever name, a hub id too."""
        return self.base if version == self._called else version

    def adopt(self, folder: str) -> None:
        """Take over another version's weights, in place. Tensors that the model has no place for are left out, as transformers does on loading.

        Raises:
            RunError: the folder is gone, or is no version of this model.
            BenchmarkError: the memory does not suffice.
        """
        folder = self.folder_of(folder)
        try:
            with memory_for(f"generator '{folder}'", "free some and resume"):
                if (Path(folder) / ADAPTER_FILE).is_file():
                    self._adopt_adapter(folder)
                elif folder != self._holds or self.has_adapter:
                    self.without_adapter()
                    self._adopt_weights(folder)
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise RunError(
                f"generator '{folder}': expected a version of '{self.base}', got: {str(error).splitlines()[0][:160]}; restore the folder"
            ) from error
        self._holds = folder
        self.model.eval()

    def plain_weights(self) -> dict[str, torch.Tensor]:
        """All weights by name, an adapter's share in them; the model has none afterwards.

        Raises:
            BenchmarkError: the memory does not suffice.
        """
        if self.has_adapter:
            with memory_for("merging the generator's adapter", "free some and resume"):
                self.model = self.model.merge_and_unload()
            restored(self.model)
            self.touched()
        return {name: parameter.detach() for name, parameter in self.model.named_parameters()}

    def touched(self) -> None:
        """The weights are those of no folder any more: whoever trained them says so."""
        self._holds = ""

    @property
    def has_adapter(self) -> bool:
        """Whether an adapter lies over the weights."""
        return hasattr(self.model, "peft_config")

    def without_adapter(self) -> None:
        """Take the adapter off, and leave the weights under it as they are; also one that a trainer that failed had only begun to put on."""
        if hasattr(self.model, "unload"):
            self.model = self.model.unload()
        elif not _torn_off(self.model):
            return
        restored(self.model)

    def _adopt_adapter(self, folder: str) -> None:
        from peft import PeftModel, set_peft_model_state_dict
        from safetensors.torch import load_file

        if self.has_adapter:
            set_peft_model_state_dict(self.model, load_file(Path(folder) / ADAPTER_FILE))
        else:
            if self._holds != self.base:
                self._adopt_weights(self.base)
            self.model = PeftModel.from_pretrained(self.model, folder, is_trainable=True)

    def _adopt_weights(self, folder: str) -> None:
        held = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        missing = set(dict(self.model.named_parameters()))
        with torch.no_grad():
            for file in sorted(Path(folder).glob("*.safetensors")):
                with safe_open(file, framework="pt") as handle:
                    for name in held.keys() & handle.keys():
                        held[name].copy_(handle.get_tensor(name))
                        missing.discard(name)
        if missing:
            raise KeyError(f"no tensor '{min(missing)}' in '{folder}'")


def located(folder: str) -> str:
    """Where a model lies on this machine; the hub is asked once, where transformers would ask for a minute.

    Raises:
        ConfigError: it is nowhere.
    """
    try:
        return str(Checkpoint.open(folder).path)
    except CheckpointError as error:
        raise ConfigError(f"generator.model: {error}") from error


def open_tokenizer(folder: str) -> Any:
    """A generator's tokenizer.

    Raises:
        ConfigError: it cannot be loaded, or has no end token.
    """
    from transformers import AutoTokenizer

    with _loading(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            f"generator.model '{folder}': expected a tokenizer with an end token, got one without: its programs would never end"
        )
    return tokenizer


@contextmanager
def _loading(folder: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(
            f"generator.model '{folder}': expected a folder or hub id with config, tokenizer and safetensors, got: {first[:160]}; "
            "check the path or fetch the model again"
        ) from error


def _torn_off(model: Any) -> bool:
    """Put the layers under an adapter back into a model that is not of peft; whether there were any."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, BaseTunerLayer)]
    for name, layer in layers:
        model.set_submodule(name, layer.get_base_layer())
    vars(model).pop("peft_config", None)
    return bool(layers)


def restored(model: Any) -> None:
    """Undo what a trainer of TRL leaves on a model: its `forward` is wrapped once for every trainer that saw it."""
    vars(model).pop("forward", None)
    model.requires_grad_(True)
