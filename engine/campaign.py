"""A discovery campaign, whole.

    propose ──► assess (validate, run, score) ──► learn ─┐      then, once: the final on test problems
       ▲─────────────────────────────────────────────────┘

Every step asks the archive what is done already, so a campaign killed anywhere goes on where it was and ends the same.
"""

from __future__ import annotations

from pathlib import Path

from engine import locations, rundir
from engine.assess import Known, assess_all
from engine.baselines import tune_all
from engine.bench import Bench, thread_count
from engine.config import CampaignConfig
from engine.finale import run_final
from engine.hashing import derived_seed
from engine.learning import choose_pairs, train_dpo
from engine.progress import Progress
from engine.proposing import latest_generator, open_current, propose
from engine.records import Outcome
from engine.store import Store


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
        store = Store.in_folder(folder, create=True)
        progress.plan(len(bench.experts), bench.test_factor, store)
        try:
            with progress.stage("tune", 0, store):
                tune_all(bench, store, progress.trial)
            for iteration in range(1, config.campaign.iterations + 1):
                with progress.stage("propose", iteration, store):
                    propose(config, folder, store, iteration, progress)
                with progress.stage("assess", iteration, store):
                    assess(bench, store, iteration, progress)
                if iteration < config.campaign.iterations:
                    with progress.stage("learn", iteration, store):
                        learn(config, folder, store, iteration, progress)
            with progress.stage("final", config.campaign.iterations + 1, store):
                run_final(bench, store, progress.final)
            store.set_meta("state", {"finished": True, "digest": store.digest()})
        finally:
            store.close()


def assess(bench: Bench, store: Store, iteration: int, progress: Progress) -> None:
    """Validate, run and score this iteration's programs that are still pending, in order."""
    pending = [c for c in store.candidates(iteration) if c.assessment.outcome is Outcome.PENDING]
    for candidate, assessment in assess_all(bench, pending, Known(store.candidates())):
        store.assess(candidate.number, assessment)
        progress.assessed(candidate, assessment)
        progress.check()


def learn(config: CampaignConfig, folder: Path, store: Store, iteration: int, progress: Progress) -> None:
    """Update the generator on this iteration's measured programs, unless the method is `none` or there is nothing to learn from."""
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
        report |= train_dpo(
            source,
            pairs,
            rundir.generator_folder(folder, iteration),
            config.learn,
            seed=seed,
            threads=thread_count(config.models),
            device=config.models.device,
            check=progress.check,
        )
    store.add_update(iteration, config.learn.method, report)
    progress.learnt()
