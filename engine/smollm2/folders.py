"""Model folders, read with one line for every mistake, and written so that they are whole or not there: what a kill or a full disk interrupts never looks finished."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from engine.errors import HostError, UserError
from merges.checkpoints import Checkpoint
from merges.errors import CheckpointError

WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"


def finished(folder: Path) -> bool:
    """True where `folder` holds a whole model: config, tokenizer, and weights as long as their header says."""
    try:
        return bool(Checkpoint.open(folder).names) and (folder / TOKENIZER).is_file()
    except CheckpointError:
        return False


@contextmanager
def written(folder: Path) -> Iterator[Path]:
    """A scratch folder beside `folder`, whose files are moved there when the block ends well; other files there stay.

    The weights leave first and come last, so `finished` never sees old ones beside a new config.

    Raises:
        HostError: the files cannot be written.
    """
    scratch = folder.parent / f".{folder.name}.part"
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        yield scratch
        folder.mkdir(exist_ok=True)
        (folder / WEIGHTS).unlink(missing_ok=True)
        for file in sorted(scratch.iterdir(), key=lambda file: file.name == WEIGHTS):
            file.replace(folder / file.name)
    except (OSError, SafetensorError) as error:
        raise HostError(
            f"{folder}: expected to write a model there, got: {first_line(error)}; check the path and the room on its disk"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def load_seed(reference: str) -> tuple[Any, Any]:
    """Tokenizer and float32 model of a seed: a folder or a hub id, safetensors only, never with remote code.

    Raises:
        CheckpointError: it has no whole weights, or the hub does not answer.
        UserError: it cannot be loaded though the weights are whole.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = str(Checkpoint.open(reference).path)  # asks the hub once, where transformers would ask for a minute
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(
            f"seed model '{reference}': expected a causal language model with its tokenizer, "
            f"got: {first_line(error)}; check --seed-model, or leave it out to make the seed from the wheel"
        ) from error
    return tokenizer, model


def first_line(error: Exception) -> str:
    """What another library has to say, short enough for our line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]
