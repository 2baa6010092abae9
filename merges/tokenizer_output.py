"""The tokenizer of a merged model: the files of the model that it comes from, with tokens added or taken away as a plan says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from merges.errors import CheckpointError
from merges.folders import read_json
from merges.revocabularied import with_rows
from merges.tokenizer_files import ids_of, read_vocabulary
from merges.vocabulary import VocabularyPlan

__all__ = ["TOKENIZER_FILES", "config_for", "write_tokenizer"]

_KEPT_FILES = (
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
)
_VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)

TOKENIZER_FILES = _VOCABULARIES + _KEPT_FILES
"""What belongs to a tokenizer, or speaks of token ids, among the files that are copied from a model; never code."""


def write_tokenizer(plan: VocabularyPlan, folders: Mapping[str, str | Path], out: str | Path) -> list[str]:
    """Write a merge's tokenizer.

    An unchanged tokenizer is copied. In a changed one only tokenizer.json holds the vocabulary: the same vocabulary in older formats is left
    out, as it would contradict it. Text that an ordinary token of another model stands for is found only where it reads like the token itself:
    byte-level spellings (Ġ for a space) do not.

    Args:
        plan: the vocabulary.
        folders: model -> folder, of `plan.origin` at least.
        out: an existing folder.

    Returns:
        The names of the files written.

    Raises:
        CheckpointError: the tokenizer is no longer the planned one, or cannot be changed to it.
        OSError: a file cannot be written.
    """
    source, out = Path(folders[plan.origin]), Path(out)
    files = {name: (source / name).read_bytes() for name in TOKENIZER_FILES if (source / name).is_file()}
    if plan.changed:
        for name in _VOCABULARIES:
            files.pop(name, None)
        files |= _changed(plan, source / "tokenizer.json")
    for name, content in files.items():
        (out / name).write_bytes(content)
    if read_vocabulary(out).tokens != plan.tokens:
        raise CheckpointError(
            f"{source}: expected the tokenizer of the plan, {len(plan.tokens)} tokens, got another one; leave it alone and run again"
        )
    return list(files)


def config_for(plan: VocabularyPlan, base: Mapping[str, Any], origin: Mapping[str, Any]) -> dict[str, Any]:
    """The base's config.json for the merged vocabulary.

    Args:
        plan: the vocabulary.
        base: the base's config.json.
        origin: the config.json of `plan.origin`, whose ids of special tokens count.
    """
    ids = {key: value for key, value in origin.items() if key.endswith("_token_id")}
    return with_rows({**{key: value for key, value in base.items() if not key.endswith("_token_id")}, **ids}, plan.rows)


def _changed(plan: VocabularyPlan, path: Path) -> dict[str, bytes]:
    """The files that name tokens, with the plan's tokens."""
    data = read_json(path, "a tokenizer.json")
    gone = set(ids_of(path, data).tokens) - set(plan.tokens)
    data["added_tokens"] = [
        {"id": plan.tokens[token], "content": token, **asdict(settings)} for token, settings in plan.added.items()
    ]
    if gone:
        _shrink(path, data["model"], gone)
    files = {"tokenizer.json": data}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if path.with_name(name).exists():
            files[name] = _without(read_json(path.with_name(name), f"a {name}"), gone)
            if files[name].get("added_tokens_decoder") is not None:
                files[name]["added_tokens_decoder"] = {
                    str(plan.tokens[token]): {"content": token, **asdict(how)} for token, how in plan.added.items()
                }
    try:
        return {name: json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False).encode() for name, content in files.items()}  # fmt: skip
    except ValueError as error:
        raise CheckpointError(f"{path}: expected text and finite numbers, got {error}; download it again") from error


def _shrink(path: Path, model: dict[str, Any], gone: set[str]) -> None:
    """Take tokens out of a tokenizer's model, and what could make them."""
    vocab = model["vocab"]
    if isinstance(vocab, list):
        model["vocab"] = [entry for entry in vocab if entry[0] not in gone]
    else:
        model["vocab"] = {token: number for token, number in vocab.items() if token not in gone}
    if "merges" in model:
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        prefix = model.get("continuing_subword_prefix") or ""
        if not isinstance(prefix, str) or not all(
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in pairs
        ):
            raise CheckpointError(f"{path}: expected merges that are pairs of tokens, got others; download it again")
        made = [{left, right, left + right[len(prefix) :]} for left, right in pairs]
        model["merges"] = [merge for merge, tokens in zip(model["merges"], made, strict=True) if not tokens & gone]


def _without(settings: dict[str, Any], gone: set[str]) -> dict[str, Any]:
    """A tokenizer's settings without special tokens that are gone, which would come back under ids that no embedding has."""

    def stays(value: Any) -> bool:
        token = value.get("content") if isinstance(value, dict) else value
        return not isinstance(token, str) or token not in gone

    kept = {key: value for key, value in settings.items() if not key.endswith("_token") or stays(value)}
    for key in ("extra_special_tokens", "additional_special_tokens"):
        if isinstance(kept.get(key), list):
            kept[key] = [value for value in kept[key] if stays(value)]
        elif isinstance(kept.get(key), dict):
            kept[key] = {name: value for name, value in kept[key].items() if stays(value)}
    return kept
