"""Which token has which id in a model folder, read from its JSON files alone: as transformers would load them, without loading anything.

Covered: `tokenizer.json` (BPE, WordPiece, WordLevel, Unigram) with its added tokens, and what transformers adds to it when it loads: the added
and special tokens of `tokenizer_config.json`, or of the older `added_tokens.json` and `special_tokens_map.json`; `vocab.json` where there is no
`tokenizer.json`. Not covered: sentencepiece's and tiktoken's own formats, code of a model, and special tokens that only a tokenizer class of
transformers knows (its defaults, where a folder names none).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from merges.errors import CheckpointError
from merges.folders import read_json

__all__ = ["MAX_TOKENS", "AddedToken", "TokenIds", "Vocabulary", "ids_of", "read_vocabulary"]

MAX_TOKENS = 1 << 24
"""Ids and vocabulary sizes end here; the largest vocabulary of 2026 has about a million tokens."""

_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""Special tokens in the order in which transformers adds those that are missing."""


@dataclass(frozen=True)
class AddedToken:
    """How a token beside the tokenizer's model is found in text; the fields are those of the tokenizers library."""

    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False


@dataclass(frozen=True)
class Vocabulary:
    """A model's tokens.

    Attributes:
        path: the folder.
        tokens: token -> id, in the order of the ids, all different, which may have gaps.
        own: those that the tokenizer's model (BPE and so on) has itself.
        added: added token -> its settings, in the order of the ids; a token may be both its own and an added one.
        rows: `vocab_size` of config.json, None where it has none; a token whose id is not below has no row in the embedding.
        fast: True where `tokenizer.json` says all this.
    """

    path: Path
    tokens: Mapping[str, int]
    own: Mapping[str, int]
    added: Mapping[str, AddedToken]
    rows: int | None
    fast: bool

    def has_row(self, number: int) -> bool:
        """True where the embedding has a row for this id, as far as config.json tells."""
        return self.rows is None or number < self.rows


class TokenIds:
    """Ids given to added tokens one after the other, as the tokenizers library gives them whatever a file says.

    Args:
        path: named in errors.
        own: the tokens of the tokenizer's model.
    """

    def __init__(self, path: Path, own: Mapping[str, int]) -> None:
        self.own, self.tokens = own, dict(own)
        self.added: dict[str, AddedToken] = {}
        self._path, self._highest = path, -1
        self._taken = set(own.values())

    def add(self, token: str, settings: AddedToken) -> None:
        """Add a token with the next id; one that is known keeps its id and gets these settings; the empty one is ignored.

        Raises:
            CheckpointError: another token has the next id.
        """
        if not token:
            return
        if token not in self.tokens:
            number = max(self._highest + 1, len(self.own))
            if number in self._taken:
                raise CheckpointError(
                    f"{self._path}: added token {token!r}: expected id {number} to be free, got one that another token has, as the ids have "
                    "gaps; renumber the tokenizer's tokens"
                )
            self.tokens[token] = number
            self._taken.add(number)
        self.added[token] = settings
        self._highest = max(self._highest, self.tokens[token])

    def vocabulary(self, rows: int | None, fast: bool) -> Vocabulary:
        """What has been added, in the order of the ids."""
        tokens = dict(sorted(self.tokens.items(), key=lambda item: item[1]))
        added = {token: self.added[token] for token in tokens if token in self.added}
        return Vocabulary(self._path, tokens, self.own, added, rows, fast)


def read_vocabulary(folder: str | Path) -> Vocabulary:
    """Read a model folder's tokens.

    Raises:
        CheckpointError: there is no tokenizer in JSON, or one of its files is not what it should be.
    """
    folder = Path(folder)
    rows = _rows(folder / "config.json")
    if (folder / "tokenizer.json").exists():
        return ids_of(folder / "tokenizer.json", read_json(folder / "tokenizer.json", "a tokenizer.json")).vocabulary(
            rows, True
        )
    if (folder / "vocab.json").exists():
        own = read_json(folder / "vocab.json", "a vocab.json")
        return ids_of(folder / "vocab.json", {"model": {"vocab": own}}).vocabulary(rows, False)
    raise CheckpointError(
        f"{folder}: expected a tokenizer.json, got none; load the tokenizer with transformers and save it there as a fast one"
    )


def ids_of(path: Path, data: Mapping[str, Any]) -> TokenIds:
    """The ids that transformers gives: the model's own tokens, the added ones of `tokenizer.json`, then those that other files name.

    Args:
        path: the file, beside which the other files are.
        data: content of a tokenizer.json.

    Raises:
        CheckpointError: as `read_vocabulary`.
    """
    ids = TokenIds(path.parent, _own(path, data.get("model")))
    listed = [_settings(path, entry) for entry in _list(path, data.get("added_tokens"))]
    _numbered(path, {token: number for token, _, number in listed if number is not None}, "added tokens")
    for token, settings, _ in listed:
        ids.add(token, settings)
    config_path, legacy_path = path.with_name("tokenizer_config.json"), path.with_name("added_tokens.json")
    config = _optional(config_path)
    decoder = config.get("added_tokens_decoder")
    if decoder is None:
        config = {**config, **_optional(path.with_name("special_tokens_map.json"))}
    special = dict(_special(config_path, config))
    if decoder is not None:
        for token, settings in _decoder(config_path, decoder):
            ids.add(token, settings)
    else:
        legacy = _numbered(legacy_path, _optional(legacy_path), "added tokens")
        for token in sorted(legacy.keys() - ids.added.keys(), key=lambda token: legacy[token]):
            ids.add(token, special.get(token, AddedToken()))
    for token, settings in special.items():
        if token not in ids.added:
            ids.add(token, settings)
    return ids


def _rows(path: Path) -> int | None:
    config = _optional(path)
    inner = config.get("text_config")
    rows = config.get("vocab_size", inner.get("vocab_size") if isinstance(inner, dict) else None)
    if rows is not None and (type(rows) is not int or not 0 < rows <= MAX_TOKENS):
        raise CheckpointError(f"{path}: vocab_size: expected a number from 1 to {MAX_TOKENS}, got {rows!r}; correct it")
    return rows


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path, f"a {path.name}") if path.exists() else {}


def _own(path: Path, model: Any) -> dict[str, int]:
    """The tokens of the tokenizer's model: an object of ids, or Unigram's list of tokens and scores."""
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocab, list):
        return _numbered(path, vocab, "a vocabulary")
    pieces = [entry[0] if isinstance(entry, list) and len(entry) == 2 else None for entry in vocab]
    numbers = {piece: number for number, piece in enumerate(pieces) if isinstance(piece, str)}
    if len(numbers) != len(pieces):
        raise CheckpointError(
            f"{path}: expected a vocabulary of {len(pieces)} different tokens with scores, got {len(numbers)}; download it again"
        )
    return _numbered(path, numbers, "a vocabulary")


def _numbered(path: Path, table: Any, what: str) -> dict[str, int]:
    """Check a table of ids."""
    if not isinstance(table, dict):
        raise CheckpointError(f"{path}: expected {what} with ids, got {type(table).__name__}; download it again")
    holders: dict[int, str] = {}
    for token, number in table.items():
        if type(number) is not int or not 0 <= number < MAX_TOKENS:
            raise CheckpointError(
                f"{path}: token {token!r}: expected an id from 0 to {MAX_TOKENS - 1}, got {number!r}; download it again"
            )
        if holders.setdefault(number, token) != token:
            raise CheckpointError(
                f"{path}: id {number}: expected one token, got {holders[number]!r} and {token!r}; download it again"
            )
    _check_text(path, "\n".join(table))
    return table


def _list(path: Path, value: Any) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise CheckpointError(f"{path}: expected a list of added tokens, got {type(value).__name__}; download it again")
    return value or []


def _decoder(path: Path, table: Any) -> Iterator[tuple[str, AddedToken]]:
    """The entries of an `added_tokens_decoder`, by id."""
    if not isinstance(table, dict) or not all(text.isascii() and text.isdecimal() and len(text) < 9 for text in table):
        raise CheckpointError(
            f"{path}: expected an added_tokens_decoder with ids, got {table!r:.100}; download it again"
        )
    for text in sorted(table, key=int):
        token, settings, _ = _settings(path, table[text])
        yield token, settings


def _special(path: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, AddedToken]]:
    """Special tokens that a tokenizer's settings name, in the order in which transformers adds them."""
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens")
    named = [config.get(key) for key in _NAMED]
    named += [value for key, value in config.items() if key.endswith("_token") and key not in _NAMED]
    more = list(extra.values()) if isinstance(extra, dict) else _list(path, extra)
    for value in named + more:
        if isinstance(value, str) or (isinstance(value, dict) and "content" in value):
            token, settings, _ = _settings(path, value, special=True)
            yield token, settings


def _settings(path: Path, entry: Any, *, special: bool = False) -> tuple[str, AddedToken, Any]:
    """An added token as a file has it, by its text alone or as an object; with its id or None."""
    if isinstance(entry, str):
        entry = {"content": entry}
    token = entry.get("content") if isinstance(entry, dict) else None
    if not isinstance(token, str):
        raise CheckpointError(f"{path}: expected added tokens with a content, got {entry!r:.100}; download it again")
    given = {field.name: entry[field.name] for field in fields(AddedToken) if field.name in entry}
    if not all(isinstance(flag, bool) for flag in given.values()):
        raise CheckpointError(f"{path}: added token {token!r}: expected flags, got {given}; download it again")
    _check_text(path, token)
    flags = {"special": special, **given}
    return token, AddedToken(**{"normalized": not flags["special"], **flags}), entry.get("id")


def _check_text(path: Path, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CheckpointError(f"{path}: expected tokens in Unicode, got half a character; download it again") from error
