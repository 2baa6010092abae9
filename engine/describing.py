"""Descriptors for an archive that has none, or not of all its programs: one that was made before there were any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial

from engine.bench import open_sandbox
from engine.config import CampaignConfig
from engine.diversity import Changes, changed_probes, describe
from engine.records import Candidate
from engine.store import Store
from merges.probes import behaves_as, probe_jobs
from sandbox import ExecutionResult, Sandbox, TensorJob


def undescribed(store: Store) -> list[Candidate]:
    """New programs that work on the probes and have no descriptors yet, each once."""
    missing = {c.program.id: c for c in store.candidates() if c.assessment.is_new and not c.assessment.descriptors}
    return list(missing.values())


def describe_all(
    config: CampaignConfig, store: Store, tell: Callable[[int], None] = lambda done: None
) -> tuple[int, list[str]]:
    """Take the descriptors that an archive lacks, and keep them.

    Args:
        tell: called after each program with how many are done.

    Returns:
        How many were taken, and the ids of programs that behave otherwise than the archive says, which were left as they are: another version of torch, or of
        the probes, was in use then.
    """
    taken, strange = 0, []
    probes = probe_jobs(len(config.models.experts))
    with closing(open_sandbox(config)) as sandbox:
        for done, candidate in enumerate(undescribed(store), start=1):
            program, behaviour = candidate.program, candidate.assessment.behaviour
            answer = sandbox.execute(program.source, probes)
            if answer.outputs is None or behaviour is None or not behaves_as(answer.outputs, behaviour):
                strange.append(program.id)
            else:
                run = partial(_run, sandbox, program.source, probes)
                found = describe(program.source, probes, answer, run)
                store.add_descriptors(program.id, found)
                taken += 1
            tell(done)
    return taken, strange


def _run(sandbox: Sandbox, source: str, probes: Sequence[TensorJob], changes: Changes) -> ExecutionResult:
    return sandbox.execute(source, changed_probes(probes, changes))
