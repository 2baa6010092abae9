"""The vocabulary of a merge of models whose tokens differ: which token gets which row, and where each model takes that row from.

As mergekit 0.1.5 decides it (`tokenizer: {source, tokens, pad_to_multiple_of}`). Where its answer hangs on the order of a hash table, which
changes from run to run, ours is the one that follows the ids. No weights are read here; `revocabularied.py` carries a plan out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from merges.errors import CheckpointError, OptionError
from merges.tokenizer_files import MAX_TOKENS, AddedToken, TokenIds, Vocabulary, read_vocabulary

__all__ = [
    "MEAN",
    "REST",
    "ZERO",
    "RowPlan",
    "Rows",
    "TokenSetting",
    "Vocabulary",
    "VocabularyPlan",
    "plan_vocabulary",
    "read_vocabulary",
    "token_settings",
]

Rows = npt.NDArray[np.int64]

ZERO, MEAN, REST = -1, -2, -3
"""Where a row comes from if from no single model: zeros; the mean over the models that have the token; the mean over the rows of all tokens,
for rows that are no token's."""


@dataclass(frozen=True)
class TokenSetting:
    """Where one token's row comes from in models that lack it, as the user wants it.

    Attributes:
        model: the model whose row is taken; None: as for any other token.
        token: the token of that model, or a row of it by number; None: the same token.
        zero: a row of zeros instead; `model` is None then.
        force: also in models that have the token.
    """

    model: str | None = None
    token: str | int | None = None
    zero: bool = False
    force: bool = False


@dataclass(frozen=True, eq=False)
class RowPlan:
    """Where every row of a merged embedding comes from.

    Attributes:
        rows: how many rows there are.
        models: their names; sums run in this order.
        permutations: model -> [rows] int64: the model's own row, or -1.
        sources: [rows] int64: for models without an own row: the position in `models` of the model to take a row of, or `ZERO`, `MEAN`, `REST`.
        source_rows: [rows] int64: the row there.
        forced: [rows] bool: true where a model's own row does not count.
    """

    rows: int
    models: tuple[str, ...]
    permutations: Mapping[str, Rows]
    sources: Rows
    source_rows: Rows
    forced: npt.NDArray[np.bool_]

    def digest(self) -> str:
        """BLAKE3 (hex) of all of it: the same rows from the same models in the same order."""
        hasher = blake3(repr((self.rows, self.models)).encode())
        for array in (*(self.permutations[name] for name in self.models), self.sources, self.source_rows, self.forced):
            hasher.update(array.tobytes())
        return str(hasher.hexdigest())

    def origins(self, model: str) -> tuple[Rows, Rows]:
        """For one model: where each row comes from, as `sources` has it, and the row there; for those from nowhere, its own number."""
        own = self.permutations[model]
        has = (own >= 0) & ~self.forced
        sources = np.where(has, self.models.index(model), self.sources)
        rows = np.where(has, own, self.source_rows)
        return sources, np.where(sources >= 0, rows, np.arange(self.rows))


@dataclass(frozen=True, eq=False)
class VocabularyPlan(RowPlan):
    """The same with the tokens that the rows stand for.

    Attributes:
        tokens: token -> row, in the order of the rows.
        added: added token -> its settings, in the order of the rows.
        origin: the model whose tokenizer is copied.
        changed: true where that tokenizer's files need tokens added or taken away.
    """

    tokens: Mapping[str, int]
    added: Mapping[str, AddedToken]
    origin: str
    changed: bool


def plan_vocabulary(
    source: str,
    models: Mapping[str, Vocabulary],
    base: str | None = None,
    *,
    tokens: Mapping[str, TokenSetting] | None = None,
    pad_to_multiple_of: int | None = None,
) -> VocabularyPlan:
    """Decide the vocabulary of a merge.

    Args:
        source: ``"base"``: the base's tokens; ``"union"``: those and, behind them, the tokens of the others; or the name of a model, whose tokens
            are taken. A token without a row in its model's embedding does not count.
        models: name -> vocabulary, in the order of the merge.
        base: its name; a token that it has comes from it in models that lack the token. None: the first model gives the tokens of ``"base"``, and a
            token that several models have comes from their mean.
        tokens: exceptions by token; one that is not in the vocabulary yet is added behind all others.
        pad_to_multiple_of: round the number of rows up to this.

    Raises:
        OptionError: a name or number is of no use.
        CheckpointError: the tokenizer to change has no tokenizer.json, or gaps where the next id has to be.
    """
    settings = tokens or {}
    _check(source, models, base, settings, pad_to_multiple_of)
    first = base if base is not None else next(iter(models))
    names = (first, *(name for name in models if name != first))
    origin = first if source in ("base", "union") else source
    ids = _kept(models[origin])
    if source == "union":
        _extend(ids, [models[name] for name in names])
    for token in settings:
        if token not in ids.tokens:
            ids.add(token, AddedToken())
    vocabulary = ids.vocabulary(None, True)
    changed = (vocabulary.tokens, vocabulary.added) != (models[origin].tokens, models[origin].added)
    if changed and not models[origin].fast:
        raise CheckpointError(
            f"{models[origin].path}: expected a tokenizer.json, whose tokens can be changed, got an older format; load the tokenizer with "
            "transformers and save it there as a fast one"
        )
    rows = max(vocabulary.tokens.values(), default=-1) + 1
    rows += -rows % (pad_to_multiple_of or 1)
    permutations = {name: _permutation(vocabulary.tokens, models[name], rows) for name in names}
    sources, source_rows = _sources(permutations, names.index(base) if base is not None else None)
    is_token = np.zeros(rows, bool)
    is_token[list(vocabulary.tokens.values())] = True
    sources[~is_token] = REST
    forced = np.zeros(rows, bool)
    plan = VocabularyPlan(rows, names, permutations, sources, source_rows, forced,
                          vocabulary.tokens, vocabulary.added, origin, changed)  # fmt: skip
    for token, setting in settings.items():
        _set(plan, token, setting, models)
    for array in (*permutations.values(), sources, source_rows, forced):
        array.flags.writeable = False
    return plan


def token_settings(given: object, names: Mapping[str, str]) -> dict[str, TokenSetting]:
    """Read the `tokens` of a mergekit configuration.

    Args:
        given: token -> ``{source: ..., force: bool}``; a source is a model, ``{kind: zero}`` or ``{kind: model_token, model: ...}`` with a ``token``
            or ``token_id``.
        names: how the configuration writes a model -> its name in the merge.

    Raises:
        OptionError: anything else.
    """
    if not isinstance(given, Mapping) or not all(isinstance(token, str) for token in given):
        raise OptionError(
            f"tokens: expected settings by token, got {given!r:.100}; correct it, and put tokens in quotes"
        )
    return {token: _setting(token, value, names) for token, value in given.items()}


def _setting(token: str, value: Any, names: Mapping[str, str]) -> TokenSetting:
    value = {} if value is None else value
    if not isinstance(value, Mapping) or set(value) - {"source", "force"}:
        raise OptionError(f"token {token!r}: expected source and force, got {value!r:.100}; correct it")
    source, force = value.get("source"), value.get("force", False)
    if not isinstance(force, bool):
        raise OptionError(f"token {token!r}: force: expected true or false, got {force!r:.100}; correct it")
    if source is None:
        return TokenSetting(force=force)
    if source == {"kind": "zero"}:
        return TokenSetting(zero=True, force=force)
    model, wanted = source, None
    if isinstance(source, Mapping) and source.get("kind") == "model_token":
        given = [source[key] for key in ("token", "token_id") if source.get(key) is not None]
        if len(given) != 1 or type(given[0]) is not (str if source.get("token") is not None else int):
            raise OptionError(
                f"token {token!r}: expected either a token or a token_id, got {source!r:.100}; correct it"
            )
        model, wanted = source.get("model"), given[0]
    if not isinstance(model, str) or model not in names:
        known = ", ".join(names)
        raise OptionError(
            f"token {token!r}: source: expected one of {known}, kind zero or model_token, got {source!r:.100}; correct it"
        )
    return TokenSetting(names[model], wanted, force=force)


def _check(
    source: str,
    models: Mapping[str, Vocabulary],
    base: str | None,
    settings: Mapping[str, TokenSetting],
    multiple: int | None,
) -> None:
    if not models:
        raise OptionError("models: expected at least one with a vocabulary, got none; name the models to merge")
    named = [("base", base), ("tokenizer", source if source not in ("base", "union") else None)]
    named += [(f"token {token!r}", setting.model) for token, setting in settings.items()]
    for what, name in named:
        if name is not None and name not in models:
            raise OptionError(f"{what}: expected one of the models {', '.join(models)}, got {name!r}; correct it")
    if "" in settings:
        raise OptionError("token '': expected a text, got an empty one; leave it out")
    if multiple is not None and (type(multiple) is not int or not 0 < multiple <= MAX_TOKENS):
        raise OptionError(f"pad_to_multiple_of: expected 1 to {MAX_TOKENS}, got {multiple!r}; correct it")


def _kept(vocabulary: Vocabulary) -> TokenIds:
    """A model's tokens without those that have no row in its embedding."""
    ids = TokenIds(vocabulary.path, {token: i for token, i in vocabulary.own.items() if vocabulary.has_row(i)})
    for token, settings in vocabulary.added.items():
        if vocabulary.has_row(vocabulary.tokens[token]):
            ids.add(token, settings)
            if ids.tokens[token] != vocabulary.tokens[token]:
                raise CheckpointError(
                    f"{vocabulary.path}: added token {token!r}: expected id {ids.tokens[token]} once tokens beyond vocab_size are gone, got "
                    f"{vocabulary.tokens[token]}, as the ids have gaps; renumber the tokenizer's tokens"
                )
    return ids


def _extend(ids: TokenIds, models: Iterable[Vocabulary]) -> None:
    """Add what others have: first tokens that no model has as an added one, then the added ones; the first model's settings count."""
    ordinary: dict[str, None] = {}
    added: dict[str, AddedToken] = {}
    for vocabulary in models:
        for token, number in vocabulary.tokens.items():
            if not vocabulary.has_row(number):
                continue
            if token in vocabulary.added:
                added.setdefault(token, vocabulary.added[token])
            else:
                ordinary.setdefault(token)
    for token in ordinary:
        if token not in ids.tokens and token not in added:
            ids.add(token, AddedToken())
    for token, settings in added.items():
        ids.add(token, settings)


def _permutation(tokens: Mapping[str, int], model: Vocabulary, rows: int) -> Rows:
    permutation = np.full(rows, -1, np.int64)
    for token, row in tokens.items():
        own = model.tokens.get(token)
        if own is not None and model.has_row(own):
            permutation[row] = own
    return permutation


def _sources(permutations: Mapping[str, Rows], base: int | None) -> tuple[Rows, Rows]:
    """For every row: the only model that has it, else the base if it does, else the mean; none: zeros."""
    own = np.stack(list(permutations.values()))
    count = (own >= 0).sum(0)
    sources = np.where(count == 0, ZERO, np.where(count == 1, (own >= 0).argmax(0), MEAN)).astype(np.int64)
    if base is not None:
        sources[own[base] >= 0] = base
    return sources, np.where(sources >= 0, own[sources.clip(0), np.arange(own.shape[1])], 0)


def _set(plan: VocabularyPlan, token: str, setting: TokenSetting, models: Mapping[str, Vocabulary]) -> None:
    row = plan.tokens[token]
    plan.forced[row] = setting.force
    if setting.zero:
        plan.sources[row] = ZERO
    if setting.model is None:
        return
    if setting.token is None:
        wanted = int(plan.permutations[setting.model][row])
    elif isinstance(setting.token, str):
        wanted = models[setting.model].tokens.get(setting.token, -1)
    else:
        wanted = setting.token
    if not 0 <= wanted < MAX_TOKENS:
        asked = token if setting.token is None else setting.token
        raise OptionError(f"token {token!r}: expected model {setting.model!r} to have {asked!r}, got none; correct it")
    plan.sources[row], plan.source_rows[row] = plan.models.index(setting.model), wanted
