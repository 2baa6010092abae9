"""Which new programs of a batch are worth a merge and a score: where not all are, those that rank first by what is known of them before.

| ranked by | share | of whom |
|---|---|---|
| the writer's own judgement | `judge.triage` | what a self-rewarding generator wrote after its first update |
| what programs like it have scored (`surrogate.py`) | `explore.screen` | any program, from the second iteration on |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from engine.agreement import Agreement, agree
from engine.config import CampaignConfig
from engine.descriptors import Descriptors
from engine.known import batch_of
from engine.records import UNTRAINED, Candidate, Outcome
from engine.surrogate import Surrogate


@dataclass(frozen=True)
class Entrant:
    """A program that works and is new, before its score. `worth`: what it is ranked by; None, which comes last: nobody could say."""

    candidate: Candidate
    worth: float | None


class Triage:
    """The triage of a campaign's batches.

    Whole batches are ranked, by programs of earlier iterations alone, so that a resumed run, and one whose stages overlap otherwise, chooses the same.

    Args:
        earlier: all that were assessed before, in order.
    """

    def __init__(self, config: CampaignConfig, earlier: Sequence[Candidate]) -> None:
        self._config, self._earlier = config, earlier
        self._surrogates: dict[int, Surrogate] = {}

    def share(self, candidate: Candidate) -> float:
        """Of a candidate's batch, the share of the working new programs that is scored; 1: nobody ranks it."""
        if self._is_judged(candidate):
            return self._config.judge.triage
        return self._config.explore.screen if self._foretells(candidate) else 1.0

    def left_in_batch(self, candidate: Candidate) -> int:
        """How many come after this one in its batch."""
        sampling, size = candidate.program.sampling, self._config.generator.batch
        return min(size, self._config.campaign.programs - sampling.batch * size) - sampling.row - 1

    def left_out(self, working: Sequence[tuple[Candidate, Descriptors | None]]) -> dict[int, str]:
        """Why the candidates of a batch that are not worth a score are not, by their numbers; at least one is worth it.

        A program that fails on the real tensors afterwards has had its place: nobody takes it.

        Args:
            working: candidates of one batch that pass the probes and are new, with what they do; not those assessed in an earlier process, which count all the same.
        """
        if not working:
            return {}
        first = working[0][0]
        share, batch = self.share(first), batch_of(first)
        there = [c for c in self._earlier if batch_of(c) == batch and c.assessment.is_new]
        everyone = [(c, c.assessment.descriptors) for c in there] + list(working)
        ranked = sorted(
            (Entrant(c, self._worth(c, does)) for c, does in everyone),
            key=lambda one: (-(one.worth if one.worth is not None else -math.inf), one.candidate.number),
        )
        chosen = math.ceil(share * len(ranked))
        return {one.candidate.number: self._said(one, chosen, len(ranked)) for one in ranked[chosen:]}

    def _worth(self, candidate: Candidate, does: Descriptors | None) -> float | None:
        if self._is_judged(candidate):
            return candidate.program.judged
        return None if does is None else self._surrogate(candidate.iteration).foretell(does.sketch)

    def _said(self, one: Entrant, chosen: int, of: int) -> str:
        if one.worth is None:
            said = "not ranked"
        elif self._is_judged(one.candidate):
            said = f"judged {one.worth:.1f} of 5"
        else:
            said = f"foretold {100 * one.worth:.1f} % by programs that do alike"
        return f"{said}: not among the first {chosen} of {of}"

    def _is_judged(self, candidate: Candidate) -> bool:
        """Whether its writer has judged its batch, and not all of it will be scored."""
        judged = self._config.learn.method == "self-rewarding" and candidate.program.generator != UNTRAINED
        return judged and self._config.judge.triage < 1.0

    def _foretells(self, candidate: Candidate) -> bool:
        return self._config.explore.screen < 1.0 and self._surrogate(candidate.iteration).ready

    def _surrogate(self, iteration: int) -> Surrogate:
        """Of the programs before an iteration; made once."""
        if iteration not in self._surrogates:
            before = [c for c in self._earlier if c.iteration < iteration]
            self._surrogates = {iteration: Surrogate(before, self._config.explore.screen_after)}
        return self._surrogates[iteration]


def screened(candidates: Sequence[Candidate]) -> dict[int, tuple[Agreement, int]]:
    """Of a campaign with `explore.screen`, by iteration in which it left some out: how far what was foretold of the others agrees with their scores, and how many were left out.

    The others are those that were foretold best: over all programs it would agree better.
    """
    found = {}
    left_out = [c for c in candidates if c.assessment.outcome is Outcome.SKIPPED]
    for iteration in sorted({c.iteration for c in left_out}):
        surrogate = Surrogate([c for c in candidates if c.iteration < iteration])
        here = [c for c in candidates if c.iteration == iteration and c.complete]
        known = [(surrogate.foretell(d.sketch), c.score) for c in here if (d := c.assessment.descriptors)]
        skipped = sum(c.iteration == iteration for c in left_out)
        found[iteration] = agree([(told, score) for told, score in known if score is not None]), skipped
    return found
