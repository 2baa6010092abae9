"""What a program makes of every tensor of a campaign's models, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from engine.bench import open_checkpoints, open_sandbox
from engine.config import CampaignConfig
from engine.effect import Effect, effect
from merges.contract import program_error, program_id
from merges.task_vectors import task_jobs


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
