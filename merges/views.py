"""Models seen otherwise than they are stored: under other names, or as nothing at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from merges.checkpoints import HEAD
from merges.errors import CheckpointError
from merges.weights import View, Weights

__all__ = ["Nothing", "Renamed", "folder_of"]


class Renamed(View):
    """Some tensors of a model under other names: a layer in another place.

    Args:
        origin: the model.
        names: new name -> the model's.
    """

    def __init__(self, origin: Weights, names: Mapping[str, str]) -> None:
        self._stored = {new: old for new, old in names.items() if origin.resolve(old) is not None}
        known = {new: origin.resolve(old) or old for new, old in self._stored.items()}
        super().__init__(
            origin,
            {new: origin.shapes[old] for new, old in known.items()},
            {new: origin.dtypes[old] for new, old in known.items()},
        )

    def resolve(self, name: str) -> str | None:
        """The name itself, if it stands for a tensor."""
        return name if name in self._shapes else None

    def read_part(self, name: str, start: int, stop: int, into: Tensor | None = None) -> Tensor:
        """Elements of the tensor behind the name."""
        return self.origin.read_part(self._old(name), start, stop, into)

    def change(self, name: str, start: int, stop: int, base: Weights) -> Tensor | None:
        """Where the base is one model's tensors under the same new names, what that model would be told."""
        if isinstance(base, Renamed) and base._stored.get(name) == self._stored.get(name):
            return self.origin.change(self._old(name), start, stop, base.origin)
        return None

    def expect(self, name: str) -> None:
        """Tell the system that this tensor will be read soon."""
        self.origin.expect(self._old(name))

    def held(self, name: str) -> int:
        """As for the tensor behind the name."""
        return self.origin.held(self._old(name))

    def tied_duplicate(self) -> str | None:
        """The origin's, where it goes by its own name here."""
        return self.origin.tied_duplicate() if self._stored.get(HEAD) == HEAD else None

    def _old(self, name: str) -> str:
        stored = self._stored.get(name)
        if stored is None:
            raise CheckpointError(f"tensor {name!r}: expected in {self.path}, got none; is it the same architecture?")
        return stored


class Nothing(View):
    """A model of the same shapes with zeros throughout: task vectors over it are the weights themselves, for methods that merge those.

    They are bfloat16 where the weights are, which is read fastest, and else float32 for every floating-point dtype.
    """

    def __init__(self, origin: Weights) -> None:
        kept = (torch.bfloat16, *(kind for kind in set(origin.dtypes.values()) if not kind.is_floating_point))
        kinds = {name: kind if kind in kept else torch.float32 for name, kind in origin.dtypes.items()}
        super().__init__(origin, dtypes=kinds)

    def read_part(self, name: str, start: int, stop: int, into: Tensor | None = None) -> Tensor:
        """Zeros."""
        return torch.zeros(stop - start, dtype=self.dtypes[name]) if into is None else into[: stop - start].zero_()

    def change(self, name: str, start: int, stop: int, base: Weights) -> Tensor | None:
        """None: nobody needs the task vector of nothing."""
        return None

    def expect(self, name: str) -> None:
        """Nothing will be read."""

    def held(self, name: str) -> int:
        """Nothing is."""
        return 0


def folder_of(model: Weights) -> Path:
    """The folder that a model's tokenizer and other files are in: of an adapter's, that of the model that it is on."""
    return folder_of(model.origin) if isinstance(model, View) else model.path
