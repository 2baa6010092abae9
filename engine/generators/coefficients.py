"""The control that only tunes constants, by CMA-ES (https://arxiv.org/abs/1604.00772): one weight per expert and group of layers, and one per expert for what
lies outside the layers, the embedding above all, where an expert may be harmful that is useful in the layers.

Each point is a program like any other, through the same sandbox and the same problems, so a discovery can be held against it at the same number
of evaluations. One batch is one population; CMA-ES looks at nothing but the order of its members.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.generators.protocol import Draft
from engine.ranking import best_first
from engine.records import Candidate, Sampling, Task

FIRST = 0.4  # of the paper's example: where every weight begins
STEP = 0.2  # first standard deviation
LOWEST, HIGHEST = -1.0, 2.0
DECIMALS = 4

_PROGRAM = """\
# Weighted sum: one weight per expert and group of layers, the last row outside the layers (embedding, final norm, head), tuned by CMA-ES.
import torch


def merge_models(model_dict, device, name, depth):
    weights = [
{rows}
    ]
    in_layers = any(part.isdigit() for part in name.split("."))
    row = weights[min(int(depth * {groups}), {last}) if in_layers else {groups}]
    merged = 0
    for weight, vector in zip(row, model_dict.values()):
        merged = merged + weight * vector
    return merged
"""


class CoefficientsGenerator:
    """See `Generator`.

    Args:
        experts: how many are merged.
        groups: of layers, of equal depth; what lies outside the layers is one more.
        population: programs of a batch.
    """

    origin = "coefficients"
    told = True

    def __init__(self, experts: int, groups: int, population: int) -> None:
        import cma  # takes a second, and only this control needs it

        self._experts, self._groups, self._size = experts, groups, population
        self._rows = groups + 1
        self._rng = np.random.default_rng(0)
        self._points: list[np.ndarray] | None = None
        self._strategy = cma.CMAEvolutionStrategy(
            [FIRST] * (experts * self._rows),
            STEP,
            {
                "popsize": population,
                "bounds": [LOWEST, HIGHEST],
                "randn": lambda *shape: self._rng.standard_normal(shape),
                "seed": float("nan"),  # numpy's global generator is left alone
                "verbose": -9,
                "maxiter": np.inf,
            },
        )

    def write(self, places: Sequence[Sampling], tasks: Sequence[Task]) -> list[Draft]:
        """See `Generator.write`; of the last, shorter batch of an iteration the first members of a population."""
        points = self._population(places[0].seed)
        sources = [self._source(point) for point in points[: len(places)]]
        return [Draft("", source, source) for source in sources]

    def tell(self, assessed: Sequence[Candidate]) -> None:
        """See `Generator.tell`; a population that is not whole teaches nothing."""
        points = self._population(assessed[0].program.sampling.seed)
        if len(assessed) == self._size:
            order = {c.number: rank for rank, c in enumerate(sorted(assessed, key=best_first))}
            self._strategy.tell(points, [float(order[c.number]) for c in assessed])
        self._points = None

    def _population(self, seed: int) -> list[np.ndarray]:
        """The members of this generation; the same in `write` and in `tell`, and in a resumed run."""
        if self._points is None:
            self._rng = np.random.default_rng(seed)
            self._points = self._strategy.ask()
        return self._points

    def _source(self, point: np.ndarray) -> str:
        rows = np.round(point, DECIMALS).reshape(self._rows, self._experts).tolist()
        text = "\n".join(f"        {row}," for row in rows)
        return _PROGRAM.format(rows=text, groups=self._groups, last=self._groups - 1)

    def adopt(self, folder: str) -> None:
        """See `Generator.adopt`."""

    def close(self) -> None:
        """See `Generator.close`."""
