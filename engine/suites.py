"""The problems of a campaign: the dev suite that every candidate meets, and the test suite that stays sealed until the search is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from benchmarks.benchmark import load_benchmark
from benchmarks.errors import BenchmarkError, ProblemFileError
from benchmarks.problems import Problem, refuse_overlap
from benchmarks.racing import LOOKS
from benchmarks.suite import Part, Suite
from engine.config import BenchmarkPart, BenchmarkSection, CampaignConfig
from engine.errors import HostError
from engine.hashing import derived_seed, problems_hash
from engine.records import Outcome
from engine.store import Store


def open_suite(config: CampaignConfig, split: Literal["dev", "test"], *, ask_hub: bool = True) -> Suite:
    """The campaign's problems of a split, cut to the configured numbers; dev in the order and the blocks of its race.

    Args:
        ask_hub: False: of problems on the hub the copy on this machine is read, and nothing is asked over the network.

    Raises:
        BenchmarkUserError: a problem file cannot be used.
    """
    section = config.benchmark
    parts = [_part(one, split, ask_hub=ask_hub) for one in described(section)]
    if split == "test":
        return Suite(parts)
    count = sum(len(part.problems) for part in parts)
    block = count if section.racing == "none" else section.block or -(-count // LOOKS)
    return Suite(parts, rng=np.random.default_rng(derived_seed(config.campaign.seed, "race")), block=block)


def open_splits(config: CampaignConfig, splits: Sequence[str]) -> Suite:
    """The problems of several splits together, `fresh:SEED` among them: for the end of a study.

    Raises:
        BenchmarkUserError: a problem file cannot be used, or a benchmark has no such split.
    """
    parts = [
        _part(one.model_copy(update={"label": f"{one.label or one.name} {split}"}), split)
        for split in splits
        for one in described(config.benchmark)
    ]
    return Suite(parts)


def described(section: BenchmarkSection) -> tuple[BenchmarkPart, ...]:
    """Every part with all it needs: what it leaves out is the section's. A single benchmark is the only part of its suite."""
    shared = {name: getattr(section, name) for name in BenchmarkPart.model_fields if hasattr(section, name)}
    if not section.parts:
        return (BenchmarkPart(**shared),)
    limits = {name: value for name, value in shared.items() if name.endswith("_limit")}
    return tuple(
        # the pocket benchmark has one form and its own files: what the section says is meant for the others
        BenchmarkPart(**{**(limits if part.name == "pocket" else shared), **part.model_dump(exclude_none=True)})
        for part in section.parts
    )


def _part(part: BenchmarkPart, split: str, *, ask_hub: bool = True) -> Part:
    data = part.test_data if split == "test" and part.test_data else part.data
    benchmark = load_benchmark(
        part.name,
        data=data,
        shots=part.shots,
        chat=bool(part.chat),
        max_new_tokens=part.max_new_tokens,
        splits=part.splits or "clean",
        checker=part.checker,
        ask_hub=ask_hub,
    )
    limit = part.dev_limit if split == "dev" else part.test_limit
    return Part(benchmark, benchmark.problems(split)[:limit], part.weight, part.label)


class Sealed:
    """The test suite of one campaign, shut until every candidate has met its fate.

    Its problems are read at the start, so that a missing file shows then, and compared with dev by text.

    Attributes:
        suite: for counting and hashing; whoever scores asks `open` for it, and is refused before the end.

    Raises:
        BenchmarkUserError: a problem file cannot be used, or dev and test share a problem.
    """

    def __init__(self, config: CampaignConfig, dev: Suite) -> None:
        self._config, self.suite, self._open = config, open_suite(config, "test"), False
        refuse_overlap(problems_of(dev), problems_of(self.suite))
        self._questions = frozenset(problem.question for problem in problems_of(self.suite))

    def open(self, store: Store) -> Suite:
        """The suite, now that the search is over.

        Raises:
            HostError: it is not: a program is missing, or has not been assessed.
        """
        wanted = self._config.campaign.iterations * self._config.campaign.programs
        done = sum(candidate.assessment.outcome is not Outcome.PENDING for candidate in store.candidates())
        if done != wanted:
            raise HostError(
                f"test problems: expected a finished search of {wanted} assessed programs, got {done}; resume the run: test comes once, at its end"
            )
        self._open = True
        return self.suite

    def open_for_study(self) -> Suite:
        """The suite, for a study whose runs are all finished and stood apart from it: this campaign itself searches nothing."""
        self._open = True
        return self.suite

    def refuse(self, suite: Suite) -> None:
        """Nothing of the test suite is asked while it is shut.

        Raises:
            ProblemFileError: `suite` holds one of its problems.
        """
        if self._open:
            return
        shared = [problem.id for problem in problems_of(suite) if problem.question in self._questions]
        if shared:
            raise ProblemFileError(
                f"problems: expected no test problem before the end of the search, got {len(shared)} (first: '{shared[0]}'); "
                "choose by dev problems alone"
            )


def problems_of(suite: Suite) -> tuple[Problem, ...]:
    """All problems of a suite, in its order."""
    return tuple(item.problem for item in suite.items)


def problems_at_hand(config: CampaignConfig, digest: str | None) -> tuple[Problem, ...]:
    """The dev problems of a campaign that ran, perhaps elsewhere, in their order; none where they cannot be read here, or are others now: what was solved is known by
    its place alone then. No network is asked for them: looking at a run needs none.

    Args:
        digest: `problems_hash` of the dev problems when it ran; None: it is not known, and neither are they.
    """
    try:
        found = problems_of(open_suite(config, "dev", ask_hub=False)) if digest else ()
    except BenchmarkError:
        return ()
    return found if problems_hash(found) == digest else ()


def describe(suite: Suite) -> list[dict[str, Any]]:
    """The parts of a suite, as the archive remembers them: label, number of problems, weight."""
    return [{"label": part.label, "problems": len(part.problems), "weight": part.weight} for part in suite.parts]


def weights_of(described: Sequence[Mapping[str, Any]]) -> list[float]:
    """What each problem of a described suite weighs, in its order; up to a factor."""
    return [part["weight"] / part["problems"] for part in described for _ in range(part["problems"])]
