"""Tokenizers as the goldens describe them, and files of them that a test wants changed. No import of ours: mergekit's environment reads it too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

GOLDENS = Path(__file__).parent / "goldens" / "vocabulary.json"


def golden_models() -> dict[str, Any]:
    """The models of goldens/vocabulary.json."""
    found: dict[str, Any] = json.loads(GOLDENS.read_text())["models"]
    return found


def save_tokenizer(folder: Path, spec: Mapping[str, Any]) -> None:
    """Write the tokenizer of one of them: byte-level BPE where it has merges, else whole words."""
    ids = {token: number for number, token in enumerate(spec["vocab"])}
    if spec["merges"] is None:
        plain = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
        plain.pre_tokenizer = pre_tokenizers.Whitespace()
    else:
        plain = Tokenizer(models.BPE(ids, [tuple(pair) for pair in spec["merges"]]))
        plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        plain.decoder = decoders.ByteLevel()
    plain.add_tokens([AddedToken(token, special=special, normalized=not special) for token, special in spec["added"]])
    fast = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder)


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file, or make one of them."""
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**old, **changes}))
