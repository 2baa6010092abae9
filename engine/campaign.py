"""A discovery campaign, whole.

    propose ──► assess (validate, run, score) ──► learn ─┐      then, once: the final on test problems
       ▲─────────────────────────────────────────────────┘

Every step asks the archive what is done already, so a campaign killed anywhere goes on where it was and ends the same.
"""

from __future__ import annotations

from pathlib import Path

from blake3 import blake3

from engine import locations, rundir
from engine.assess import Known, assess_all
from engine.baselines import tune_all
from engine.bench import Bench, thread_count
from engine.config import CampaignConfig
from engine.finale import run_final
from engine.generators import Generator, open_generator
from engine.learning import choose_pairs, train_dpo
from engine.progress import Progress
from engine.records import Outcome, Program, Sampling
from engine.store import Store
from merges.contract import program_id


def run_campaign(folder: Path, progress: Progress) -> None:
    """Run, or go on with, the campaign in `folder` until its final is in the archive.

    Raises:
        UserError, HostError: one line each; what was finished is kept.
        Interrupted: stopped in order by the user or the time limit.
    """
    config = rundir.read_config(folder)
    with rundir.locked(folder), Bench(config) as bench:
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


def propose(config: CampaignConfig, folder: Path, store: Store, iteration: int, progress: Progress) -> None:
    """Have the generator write this iteration's programs, in fixed batches, each stored whole."""
    section, wanted = config.generator, config.campaign.programs
    done = len(store.candidates(iteration))
    if done == wanted:
        return
    source, version = latest_generator(config, folder, store)
    generator = open_current(config, source)
    temperature = section.temperature / (1 + section.temperature_decay * (iteration - 1))
    for batch in range(done // section.batch, -(-wanted // section.batch)):
        progress.check()
        rows = range(min(section.batch, wanted - batch * section.batch))
        seeds = [derived_seed(config.campaign.seed, "draw", iteration, batch, row) for row in rows]
        places = [Sampling(temperature, section.top_p, seed, batch, row) for row, seed in enumerate(seeds)]
        drafts = zip(generator.write(places), places, strict=True)
        programs = [
            Program(d.source, program_id(d.source), generator.origin, version, d.prompt, d.text, place, d.parents)
            for d, place in drafts
        ]
        store.propose(iteration, programs)
        progress.proposed(len(programs))
    generator.close()


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


def open_current(config: CampaignConfig, source: str) -> Generator:
    """The campaign's generator with the weights in `source`."""
    return open_generator(config.generator, source, config.models.device)


def latest_generator(config: CampaignConfig, folder: Path, store: Store) -> tuple[str, str]:
    """Folder and version of the generator as last trained; the configured one, version "0", before the first update."""
    trained = max((i for i, report in store.updates().items() if report.get("trained")), default=0)
    source = str(rundir.generator_folder(folder, trained)) if trained else locations.model(config.generator.model)
    return source, str(trained)


def derived_seed(*parts: object) -> int:
    """A 32-bit seed from the run's seed and what it is for."""
    return int.from_bytes(blake3(repr(parts).encode()).digest(length=4), "little")
