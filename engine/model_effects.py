"""What a program makes of every tensor of a campaign's models, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from engine import rundir
from engine.bench import open_checkpoints, open_sandbox
from engine.config import CampaignConfig
from engine.effect import effect
from engine.errors import RunError
from engine.records import Effect, Program
from engine.store import Store
from merges.contract import program_error, program_id
from merges.task_vectors import task_jobs


def known_effects(folder: Path, config: CampaignConfig, program: Program) -> Sequence[Effect]:
    """The effect of a run's program on every tensor: the archive's, or taken now and kept there, unless another process writes to the run.

    Raises:
        ProgramError: it fails on a tensor.
        ConfigError, MergeUserError: something the campaign names cannot be used.
    """
    with closing(Store.in_folder(folder)) as store:
        if known := store.effects(program.id):
            return known
        found = list(effects(config, program.source))
        try:
            with rundir.locked(folder):
                store.add_effects(program.id, found)
        except RunError:
            pass  # shown is what was asked for
    return found


def effects(config: CampaignConfig, source: str) -> Iterator[Effect]:
    """The effect of a program on every tensor that a campaign merges, one after the other: no more than one is in memory.

    Raises:
        ProgramError: it fails on a tensor.
        ConfigError, MergeUserError: something the campaign names cannot be used.
    """
    base, experts, names = open_checkpoints(config.models)
    seed, program = config.campaign.seed, program_id(source)
    with closing(open_sandbox(config)) as sandbox:
        for name in names:
            jobs = task_jobs(base, experts, (name,), run_seed=seed, program_id=program)
            result = sandbox.execute(source, jobs)
            if result.outputs is None:
                raise program_error(program, result.reason, result.detail, result.line)
            yield effect(jobs[0], result.outputs[name])
