"""Has the generator write an iteration's programs, with the weights it has learnt so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from engine import locations, rundir
from engine.bench import Bench
from engine.composing import compose
from engine.config import CampaignConfig
from engine.evaluating import thread_count
from engine.exploring import Explorer
from engine.generators import Draft, Generator, LanguageModelGenerator, VLLMGenerator, open_generator
from engine.hashing import derived_seed
from engine.history import History
from engine.judging.judge import Judge
from engine.progress import Progress
from engine.records import UNTRAINED, Candidate, Program, Sampling
from engine.store import Store
from merges.contract import program_id


class Proposer:
    """The campaign's generator, resident from the first iteration to the last, in the version that was trained last.

    Args:
        bench: gives the campaign's configuration, and counts the time.
        folder: of the run.

    Attributes:
        generator: the one.
        source, version: folder and name of its weights.

    Raises:
        ConfigError: the generator cannot be opened.
    """

    def __init__(self, bench: Bench, folder: Path) -> None:
        self._config, self._stages, self._folder = bench.config, bench.stages, folder
        self._base = locations.model(self._config.generator.model)
        self._explorer = Explorer(self._config.explore, self._config.campaign.seed)
        self._told = 0  # batches since the campaign's first
        self._archive: Store | None = None
        self.generator: Generator = open_generator(self._config, self._base, self)
        self.source, self.version = self._base, UNTRAINED

    def go_on_in(self, store: Store) -> None:
        """From now on what is written goes into this archive; the generator is the version that it says was trained last.

        Raises:
            RunError: that version is gone, or is not what was trained.
        """
        self._archive = store
        if trained := last_update(store):
            iteration, report = trained
            rundir.check_generator(self._folder, iteration, report["generator_hash"])
        self.adopt_latest()

    @property
    def _store(self) -> Store:
        assert self._archive is not None, "go_on_in comes first"
        return self._archive

    def reply(self, key: str) -> Mapping[str, Any] | None:
        """See `Replies.reply`."""
        return self._store.reply(key)

    def keep_reply(self, key: str, reply: Mapping[str, Any]) -> None:
        """See `Replies.keep_reply`."""
        self._store.keep_reply(key, reply)

    @contextmanager
    def trainee(self) -> Iterator[LanguageModelGenerator]:
        """The generator as one that can be trained: itself, or where it writes in vLLM the same version beside it."""
        if isinstance(self.generator, LanguageModelGenerator):
            yield self.generator
            return
        config = self._config
        with closing(LanguageModelGenerator(self._base, config.generator, device=config.models.device)) as beside:
            beside.adopt(self.source)
            yield beside

    def adopt_latest(self) -> None:
        """Take over the version that the archive says was trained last."""
        self.source, self.version = latest_generator(self._config, self._folder, self._store)
        self.generator.adopt(self.source)
        if (
            self._config.learn.checkpoints == "latest"
        ):  # not before the archive knows the new one, or a resumed run lacks the old one
            rundir.forget_generators(self._folder, but=self.version)

    def propose(self, iteration: int, history: History, progress: Progress) -> Iterator[Candidate]:
        """This iteration's candidates in their order: those in the archive, then what the generator writes now.

        It writes in fixed batches, each stored whole before its first candidate is given. To be read in one thread, which need not be the main one.

        Args:
            history: of what is assessed meanwhile; prompts show it, and some generators are told of it.
        """
        size, wanted = self._config.generator.batch, self._config.campaign.programs
        there = self._store.candidates(iteration)
        yield from there
        for batch in range(-(-len(there) // size), -(-wanted // size)):
            progress.check()
            places = self._places(iteration, batch)
            shown = self._shown(iteration, batch, history)
            with self._stages.watch("propose", len(places)):
                torch.set_num_threads(
                    _threads(self._config)
                )  # a setting of this thread: sums, and so programs, depend on it
                programs = self._written(places, shown)
            progress.proposed(len(programs))
            yield from self._store.propose(iteration, programs)

    def _places(self, iteration: int, batch: int) -> list[Sampling]:
        section, campaign = self._config.generator, self._config.campaign
        temperature = section.temperature_in(iteration)
        rows = range(min(section.batch, campaign.programs - batch * section.batch))
        seeds = [derived_seed(campaign.seed, "draw", iteration, batch, row) for row in rows]
        return [
            Sampling(temperature, section.top_p, seed, batch, row, section.top_k)
            for row, seed in zip(rows, seeds, strict=True)
        ]

    def _shown(self, iteration: int, batch: int, history: History) -> Sequence[Candidate]:
        """What this batch may show; waits until it is assessed, and tells the generator if that wants to be told."""
        config = self._config
        before = (iteration - 1) * config.campaign.programs
        if self.generator.told:
            self._tell(history.first(before + batch * config.generator.batch))
            return ()
        if not config.prompts.shows:
            return ()
        if config.benchmark.racing == "halving":  # which tells nobody's fate before the iteration ends
            return history.first(before)
        return history.first(before + max(0, batch - config.prompts.lag) * config.generator.batch)

    def _tell(self, assessed: Sequence[Candidate]) -> None:
        """Tell of the batches that the generator has not been told of; of all of them in a resumed run."""
        batches = [list(b) for _, b in groupby(assessed, key=lambda c: (c.iteration, c.program.sampling.batch))]
        for batch in batches[self._told :]:
            self.generator.tell(batch)
        self._told = len(batches)

    def _written(self, places: Sequence[Sampling], shown: Sequence[Candidate]) -> list[Program]:
        tasks = compose(self._config.prompts, places, shown, self._explorer)
        drafts = self.generator.write(places, tasks)
        judged = self._judged(drafts, places[0].seed)
        return [
            Program(
                d.source,
                program_id(d.source),
                self.generator.origin,
                self.version,
                d.prompt,
                d.text,
                place,
                d.parents,
                task.kind.value,
                points,
            )
            for d, place, task, points in zip(drafts, places, tasks, judged, strict=True)
        ]

    def _judged(self, drafts: Sequence[Draft], seed: int) -> Sequence[float | None]:
        """What the generator expects of its own programs, once it has learnt to judge."""
        config, generator = self._config, self.generator
        if config.learn.method != "self-rewarding" or self.version == UNTRAINED:
            return [None] * len(drafts)
        assert isinstance(generator, LanguageModelGenerator | VLLMGenerator)
        return Judge(generator, config.judge).judge([d.source for d in drafts], seed)

    def close(self) -> None:
        """Free the generator."""
        self.generator.close()


def _threads(config: CampaignConfig) -> int:
    """Threads for writing: half of them, as programs are scored meanwhile."""
    return max(1, thread_count(config.models) // 2)


def latest_generator(config: CampaignConfig, folder: Path, store: Store) -> tuple[str, str]:
    """Folder and version of the generator as last trained; the configured one, UNTRAINED, before the first update."""
    trained = last_update(store)
    if trained is None:
        return locations.model(config.generator.model), UNTRAINED
    return str(rundir.generator_folder(folder, trained[0])), str(trained[0])


def last_update(store: Store) -> tuple[int, Mapping[str, Any]] | None:
    """The last iteration after which the generator was trained, with the archive's report; None before the first."""
    trained = [(iteration, report) for iteration, report in store.updates().items() if report.get("trained")]
    return trained[-1] if trained else None
