"""Has the generator write an iteration's programs, with the weights it has learnt so far."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from engine import locations, rundir
from engine.config import CampaignConfig
from engine.evaluating import thread_count
from engine.generators import Generator, open_generator
from engine.hashing import derived_seed
from engine.progress import Progress
from engine.records import Candidate, Program, Sampling
from engine.stages import Stages
from engine.store import Store
from merges.contract import program_id


def propose(
    config: CampaignConfig, folder: Path, store: Store, iteration: int, progress: Progress, stages: Stages
) -> Iterator[Candidate]:
    """This iteration's candidates in their order: those in the archive, then what the generator writes now.

    It writes in fixed batches, each stored whole before its first candidate is given. To be read in one thread, which need not be the main one.
    """
    section, wanted = config.generator, config.campaign.programs
    there = store.candidates(iteration)
    yield from there
    done = len(there)
    if done == wanted:
        return
    source, version = latest_generator(config, folder, store)
    generator = open_current(config, source)
    temperature = section.temperature / (1 + section.temperature_decay * (iteration - 1))
    try:
        for batch in range(done // section.batch, -(-wanted // section.batch)):
            progress.check()
            rows = range(min(section.batch, wanted - batch * section.batch))
            seeds = [derived_seed(config.campaign.seed, "draw", iteration, batch, row) for row in rows]
            places = [Sampling(temperature, section.top_p, seed, batch, row) for row, seed in enumerate(seeds)]
            with stages.watch("propose", len(places)):
                torch.set_num_threads(_threads(config))  # a setting of this thread: sums, and so programs, depend on it
                drafts = zip(generator.write(places), places, strict=True)
            programs = [
                Program(d.source, program_id(d.source), generator.origin, version, d.prompt, d.text, place, d.parents)
                for d, place in drafts
            ]
            progress.proposed(len(programs))
            yield from store.propose(iteration, programs)
    finally:
        generator.close()


def _threads(config: CampaignConfig) -> int:
    """Threads for writing: half of them, as programs are scored meanwhile."""
    return max(1, thread_count(config.models) // 2)


def open_current(config: CampaignConfig, source: str) -> Generator:
    """The campaign's generator with the weights in `source`."""
    return open_generator(config.generator, source, config.models.device)


def latest_generator(config: CampaignConfig, folder: Path, store: Store) -> tuple[str, str]:
    """Folder and version of the generator as last trained; the configured one, version "0", before the first update."""
    trained = max((i for i, report in store.updates().items() if report.get("trained")), default=0)
    source = str(rundir.generator_folder(folder, trained)) if trained else locations.model(config.generator.model)
    return source, str(trained)
