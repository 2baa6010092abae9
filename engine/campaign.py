"""A discovery campaign, whole.

    search: propose ──► assess (validate, run, score) ──► learn ─┐      then, once: the final on test problems
       ▲─────────────────────────────────────────────────────────┘

Within a search the stages work ahead of each other: programs are written, validated and merged while an earlier one is scored. Every step asks
the archive what is done already, so a campaign killed anywhere goes on where it was and ends the same.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from engine import rundir
from engine.assess import assess_all
from engine.baselines import tune_all
from engine.bench import Bench
from engine.finale import run_final
from engine.going_on import refuse_after_final
from engine.history import History
from engine.known import Known
from engine.learning import Update
from engine.pipeline import ahead
from engine.progress import Progress
from engine.proposing import Proposer
from engine.records import Outcome
from engine.store import Store
from engine.suites import describe


def run_campaign(folder: Path, progress: Progress, *, allow_none: bool = False) -> None:
    """Run, or go on with, the campaign in `folder` until its final is in the archive. `allow_none`: see `open_sandbox`.

    Raises:
        UserError, HostError: one line each; what was finished is kept.
        Interrupted: stopped in order by the user or the time limit.
    """
    config = rundir.read_config(folder)
    with (
        rundir.locked(folder),
        Bench(config, allow_none=allow_none) as bench,
        closing(Proposer(bench, folder)) as proposer,
    ):
        rundir.check_manifest(
            folder, rundir.manifest(config, bench)
        )  # after all is open: a mistake leaves no run behind
        with closing(Store.in_folder(folder, create=True, server=config.archive.url)) as store:
            refuse_after_final(folder, store, config)
            bench.keep_verdicts_in(store)
            proposer.go_on_in(store)
            store.set_meta("suites", {"dev": describe(bench.dev), "test": describe(bench.test.suite)})
            progress.plan(len(bench.experts), len(bench.test.suite) / len(bench.dev), store)
            with progress.phase("tune", 0, store, bench.stages):
                tune_all(bench, store, progress.trial)
            for iteration in range(1, config.campaign.iterations + 1):
                with progress.phase("search", iteration, store, bench.stages):
                    search(bench, proposer, store, iteration, progress)
                if iteration < config.campaign.iterations:
                    with progress.phase("learn", iteration, store, bench.stages):
                        learn(bench, proposer, folder, store, iteration, progress)
            if config.campaign.final:
                with progress.phase("final", config.campaign.iterations + 1, store, bench.stages):
                    run_final(bench, store, progress.final)
            store.set_meta("state", {"finished": True, "digest": store.digest()})


def search(bench: Bench, proposer: Proposer, store: Store, iteration: int, progress: Progress) -> None:
    """Have this iteration's programs written, validated, run and scored, each stage ahead of the next; finished ones are left alone."""
    done = {c.number: c for c in store.candidates() if c.assessment.outcome is not Outcome.PENDING}
    if sum(c.iteration == iteration for c in done.values()) == bench.config.campaign.programs:
        return
    if bench.config.benchmark.racing == "halving":  # an iteration is halved whole: its stored fates are told again
        done = {number: c for number, c in done.items() if c.iteration < iteration}
    earlier = tuple(done.values())
    history = History(earlier)
    written = proposer.propose(iteration, history, progress)
    with closing(ahead(written, name="propose")) as candidates:
        waiting = (c for c in candidates if c.number not in done)
        fated = assess_all(bench, waiting, Known(earlier, bench.config.explore.novelty), earlier, progress.check)
        with (
            closing(fated) as fates,
            closing(history),
        ):  # history first: the writer may wait for it, and the sandbox for the writer
            for candidate, assessment in fates:
                if candidate.assessment.outcome is Outcome.PENDING:
                    store.assess(candidate.number, assessment)
                    progress.assessed(candidate, assessment)
                history.add(replace(candidate, assessment=assessment))
                progress.check()


def learn(bench: Bench, proposer: Proposer, folder: Path, store: Store, iteration: int, progress: Progress) -> None:
    """Update the generator on what was measured so far, unless the campaign does not learn."""
    if iteration in store.updates() or not bench.config.learns:
        return
    with proposer.trainee() as generator, bench.stages.watch("learn", 1):
        report = Update(bench, generator, folder, store, progress.check).run(iteration, proposer.source)
    store.add_update(iteration, bench.config.learn.method, report)
    proposer.adopt_latest()
    progress.learnt(iteration, {"method": bench.config.learn.method, **report})
