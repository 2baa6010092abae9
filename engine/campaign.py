"""A discovery campaign, whole.

    search: propose ──► assess (validate, run, score) ──► learn ─┐      then, once: the final on test problems
       ▲─────────────────────────────────────────────────────────┘

Within a search the stages work ahead of each other: programs are written, validated and merged while an earlier one is scored. Every step asks
the archive what is done already, so a campaign killed anywhere goes on where it was and ends the same.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from engine import locations, rundir
from engine.assess import Known, assess_all
from engine.baselines import tune_all
from engine.bench import Bench
from engine.evaluating import thread_count
from engine.finale import run_final
from engine.hashing import derived_seed
from engine.learning import choose_pairs, train_dpo
from engine.pipeline import ahead
from engine.progress import Progress
from engine.proposing import latest_generator, open_current, propose
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
    with rundir.locked(folder), Bench(config, allow_none=allow_none) as bench:
        open_current(config, locations.model(config.generator.model)).close()  # a mistake shows before hours of tuning
        rundir.check_manifest(folder, rundir.manifest(config, bench))
        with closing(Store.in_folder(folder, create=True)) as store:
            bench.keep_verdicts_in(store)
            store.set_meta("suites", {"dev": describe(bench.dev), "test": describe(bench.test.suite)})
            progress.plan(len(bench.experts), len(bench.test.suite) / len(bench.dev), store)
            with progress.phase("tune", 0, store, bench.stages):
                tune_all(bench, store, progress.trial)
            for iteration in range(1, config.campaign.iterations + 1):
                with progress.phase("search", iteration, store, bench.stages):
                    search(bench, folder, store, iteration, progress)
                if iteration < config.campaign.iterations:
                    with progress.phase("learn", iteration, store, bench.stages):
                        learn(bench, folder, store, iteration, progress)
            with progress.phase("final", config.campaign.iterations + 1, store, bench.stages):
                run_final(bench, store, progress.final)
            store.set_meta("state", {"finished": True, "digest": store.digest()})


def search(bench: Bench, folder: Path, store: Store, iteration: int, progress: Progress) -> None:
    """Have this iteration's programs written, validated, run and scored, each stage ahead of the next; finished ones are left alone."""
    done = {c.number: c for c in store.candidates() if c.assessment.outcome is not Outcome.PENDING}
    if sum(c.iteration == iteration for c in done.values()) == bench.config.campaign.programs:
        return
    if bench.config.benchmark.racing == "halving":  # an iteration is halved whole: its stored fates are told again
        done = {number: c for number, c in done.items() if c.iteration < iteration}
    earlier = tuple(done.values())
    written = propose(bench.config, folder, store, iteration, progress, bench.stages)
    with closing(ahead(written, name="propose")) as candidates:
        waiting = (c for c in candidates if c.number not in done)
        with closing(assess_all(bench, waiting, Known(earlier), earlier, progress.check)) as fates:
            for candidate, assessment in fates:
                if candidate.assessment.outcome is Outcome.PENDING:
                    store.assess(candidate.number, assessment)
                    progress.assessed(candidate, assessment)
                progress.check()


def learn(bench: Bench, folder: Path, store: Store, iteration: int, progress: Progress) -> None:
    """Update the generator on this iteration's measured programs, unless the method is `none` or there is nothing to learn from."""
    config = bench.config
    if iteration in store.updates() or config.learn.method == "none" or config.generator.kind != "model":
        return
    pairs = choose_pairs({i: store.candidates(i) for i in range(1, iteration + 1)}, config.learn)
    report: dict[str, object] = {
        "pairs": [[p.chosen_number, p.rejected_number, round(p.margin, 6)] for p in pairs],
        "trained": bool(pairs),
    }
    if pairs:
        seed = derived_seed(config.campaign.seed, "learn", iteration, 0)
        source, _ = latest_generator(config, folder, store)
        target = rundir.generator_folder(folder, iteration)
        threads, device = thread_count(config.models), config.models.device
        with bench.stages.watch("learn", 1):
            report |= train_dpo(
                source, pairs, target, config.learn, seed=seed, threads=threads, device=device, check=progress.check
            )
    store.add_update(iteration, config.learn.method, report)
    progress.learnt()
