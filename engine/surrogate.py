"""Dev scores foretold from what programs do: a Gaussian process over the sketches of scored programs (surrogate-assisted search, https://doi.org/10.1016/j.swevo.2011.05.001).

Programs that answer the probes alike score alike: of the programs of an iteration, foretold from earlier ones alone, Spearman is 0.7 without training and 0.6 with dpo, 0.4 to 0.8 in single runs (benchmarks/LOG.md, 2026-11-23).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve

from engine.descriptors import distances
from engine.records import Candidate

LENGTH = 0.5
"""How far apart two programs may lie (`descriptors.distance`, 0..1) and still say much about each other's score."""
NOISE = 0.2
"""Variance of what a sketch and some hundred problems leave open, as a share of that of the scores."""
MOST = 2000
"""Scored programs that are remembered, the latest: the time grows with the cube of their number."""
DIGITS = 9
"""Of what is foretold: sums in another order must not change an order."""


class Surrogate:
    """What a program is foretold to score, from programs that were scored.

    Attributes:
        programs: how many of them.
        ready: whether there are enough.

    Args:
        scored: with scores and descriptors, in order; those without either are passed over.
        least: programs below which it foretells nothing.
    """

    def __init__(self, scored: Sequence[Candidate], least: int = 1) -> None:
        known = [(d.sketch, c.score) for c in scored if (d := c.assessment.descriptors) and c.score is not None][-MOST:]
        self.programs = len(known)
        self.ready = self.programs >= max(1, least)
        if self.ready:
            self._sketches = np.array([sketch for sketch, _ in known])
            scores = np.array([score for _, score in known])
            self._middle = float(np.median(scores))  # of failures at nought a mean would make too much
            alike = np.stack([_alike(sketch, self._sketches) for sketch in self._sketches])
            alike[np.diag_indices(self.programs)] += NOISE
            self._parts = solve(alike, scores - self._middle, assume_a="sym")

    def foretell(self, sketch: Sequence[float]) -> float:
        """The dev share of a program, mostly 0..1; far from all known programs their median."""
        return round(self._middle + float(_alike(sketch, self._sketches) @ self._parts), DIGITS)


def _alike(sketch: Sequence[float], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Matérn's kernel, 3/2."""
    steps = np.sqrt(3) * distances(sketch, others) / LENGTH
    found: npt.NDArray[np.float64] = (1 + steps) * np.exp(-steps)
    return found
