"""Which parameters are merged. Everything else is copied from the base bit for bit.

The paper merges the MLP layers only (https://arxiv.org/abs/2410.15639); its experts differ in vocabulary, so `all`
would not even fit together. Which parameters are merged is therefore the campaign's choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from merges.errors import SelectionError

__all__ = ["ALL", "MLP", "select"]

ALL = "all"
MLP = "mlp"

_MLP_PARTS = frozenset({"mlp", "feed_forward", "ffn", "block_sparse_moe", "DenseReluDense", "fc1", "fc2"})
"""Dotted parts by which the common architectures name their feed-forward layers."""


def select(names: Iterable[str], selection: str | Sequence[str] = ALL) -> tuple[str, ...]:
    """Pick the names of the tensors to be merged, in the order given.

    Args:
        names: tensor names of the base.
        selection: ``"all"``; ``"mlp"`` (feed-forward layers of the common architectures); a glob pattern such as
            ``"model.layers.*.mlp.*"``; several of these as a sequence or separated by commas. A name is picked when
            any of them picks it. ``*`` also crosses dots.

    Raises:
        SelectionError: nothing is picked.
    """
    known = tuple(names)
    parts = selection.split(",") if isinstance(selection, str) else list(selection)
    patterns = [part.strip() for part in parts if part.strip()]
    picked = tuple(name for name in known if any(_matches(name, pattern) for pattern in patterns))
    if not picked:
        shown = ", ".join(known[:3]) or "no tensors"
        raise SelectionError(
            f"selection {','.join(patterns)!r}: expected 'all', 'mlp' or a pattern that matches a tensor of the base, "
            f"got no match among {len(known)} names ({shown}, …); correct the pattern"
        )
    return picked


def _matches(name: str, pattern: str) -> bool:
    if pattern == ALL:
        return True
    if pattern == MLP:
        return not _MLP_PARTS.isdisjoint(name.split("."))
    return fnmatchcase(name, pattern)
