"""What may change while a run goes on: how its endpoint is reached, and how many iterations it has. All else is part of the run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from engine import archive_place, rundir
from engine.config import REACHED_BY, CampaignConfig
from engine.config_file import build_config
from engine.errors import ConfigError, HostError, RunError
from engine.store import Store
from engine.whole_file import write_whole

ITERATIONS = "campaign.iterations"
CHANGEABLE = (*(f"generator.{name}" for name in REACHED_BY), ITERATIONS)


def change(folder: Path, settings: Sequence[str]) -> None:
    """Change what may change of a run, in its campaign.json: from now on it goes on so.

    Args:
        settings: KEY=VALUE each, of the keys in CHANGEABLE.

    Raises:
        ConfigError: another key, a value that it cannot have, or fewer iterations than before.
        RunError: the run cannot be read, another process is on it, or it has met its test problems and can search no more.
        HostError: the change cannot be written.
    """
    for setting in settings:
        if setting.partition("=")[0].strip() not in CHANGEABLE:
            raise ConfigError(
                f"--set '{setting}': expected a key that may change while a run goes on ({', '.join(CHANGEABLE)}), got another; start a new run with it"
            )
    with rundir.locked(folder):
        config = rundir.read_config(folder)
        wanted = build_config(config.model_dump(mode="json"), settings, source=str(folder / "campaign.json"))
        _lengthen(folder, config, wanted)
        _write(folder, config, wanted)


def reach_as(folder: Path, wanted: CampaignConfig) -> None:
    """Have a run's endpoint reached as another configuration says, from now on; raises as `change` does."""
    reached = {name: getattr(wanted.generator, name) for name in REACHED_BY}
    with rundir.locked(folder):
        config = rundir.read_config(folder)
        generator = config.generator.model_copy(update=reached)
        _write(folder, config, config.model_copy(update={"generator": generator}))


def refuse_after_final(folder: Path, store: Store, config: CampaignConfig) -> None:
    """Test problems are met once, when every program is there: a run that has met them searches no more.

    Raises:
        RunError: it has, and its campaign plans more programs than there are.
    """
    if store.finals() and len(store.candidates()) < config.campaign.iterations * config.campaign.programs:
        raise RunError(
            f"run '{folder}': expected {ITERATIONS} as it was when the final met the test problems, got {config.campaign.iterations}; they are met once: "
            f"start a new run with --set {ITERATIONS}={config.campaign.iterations}, whose first programs are the same"
        )


def _lengthen(folder: Path, config: CampaignConfig, wanted: CampaignConfig) -> None:
    """An iteration knows nothing of how many follow, so a longer run is what it would have been from the start."""
    before, now = config.campaign.iterations, wanted.campaign.iterations
    if now < before:
        raise ConfigError(
            f"{ITERATIONS}: expected at least the {before} that the run has, got {now}; start a new run for fewer"
        )
    if now == before or not archive_place.begun_in(folder):
        return
    with closing(Store.in_folder(folder)) as store:
        refuse_after_final(folder, store, wanted)
        store.forget_meta("state")  # first: killed here, it is finished again as it was


def _write(folder: Path, config: CampaignConfig, wanted: CampaignConfig) -> None:
    if wanted == config:
        return
    try:
        write_whole(folder / "campaign.json", wanted.model_dump_json(indent=2))
    except OSError as error:
        raise HostError(
            f"run '{folder}': campaign.json could not be written ({error.strerror}); free space, then give the same command again"
        ) from error
