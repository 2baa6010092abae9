"""A study's file: methods × seeds over one campaign, and which of them are to be compared.

[study]
name = "methods"
campaign = "pocket"                  # a campaign file or a shipped name: what all methods share
seeds = [1, 2, 3, 4, 5]
held_out = "fresh:7"                 # problems for the end; "test", or of the pocket benchmark fresh:SEED
set = ["models.threads=1"]           # of all methods

[methods.none]
set = ["learn.method=none"]

[methods.dpo]

[[compare]]
better = "dpo"
than = "none"

[transfer]                           # the best programs, as they are, on other experts
experts = ["pocket/transfer_a", "pocket/transfer_b", "pocket/transfer_c"]
orders = true                        # and in other orders
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from engine import locations
from engine.config import CampaignConfig
from engine.config_base import Names
from engine.config_file import explain, load_config, read_toml
from engine.errors import ConfigError

Splits = Annotated[Names, Field(min_length=1)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StudySection(_Section):
    """What all methods share. `held_out`: problems for the end, "test" or, of the pocket benchmark, fresh:SEED, or several of these. `top`: programs of each run, the best on dev, that meet the held-out problems; `drawn`: so many more of each iteration, drawn by chance from its scored ones: what the typical program is worth where no choice has flattered it."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    campaign: str = "pocket"
    seeds: Seeds
    held_out: Splits = ("test",)
    top: Annotated[int, Field(ge=1, le=100)] = 15
    drawn: Annotated[int, Field(ge=0, le=100)] = 0
    set: tuple[str, ...] = ()

    @field_validator("held_out")
    @classmethod
    def _of_the_end(cls, splits: tuple[str, ...]) -> tuple[str, ...]:
        for split in splits:
            if split != "test" and not re.fullmatch(r"fresh:\d+", split):
                raise ValueError(f"'test' or 'fresh:SEED' (got '{split}')")
        if len(set(splits)) < len(splits):
            raise ValueError("each split once")
        return splits


class MethodSection(_Section):
    """One method: what it changes, and its own seeds, if not all."""

    set: tuple[str, ...] = ()
    seeds: Seeds | None = None


class Comparison(_Section):
    """Two methods to be compared, by the seeds that both have."""

    better: str
    than: str

    def __str__(self) -> str:
        return f"comparison of {self.better} with {self.than}"


class TransferSection(_Section):
    """Other experts, on which the best program of every run is tried as it is, beside human-made merges that are tuned there. `orders`: and in other orders of them too, where a program that knows experts by their place is lost."""

    experts: Names = Field(min_length=2, max_length=8)
    orders: bool = False


class Study(_Section):
    """A whole study."""

    study: StudySection
    methods: Annotated[
        dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,32}$")], MethodSection], Field(min_length=1)
    ]
    compare: tuple[Comparison, ...] = ()
    transfer: TransferSection | None = None

    @model_validator(mode="after")
    def _known_methods(self) -> Study:
        for pair in self.compare:
            for name in (pair.better, pair.than):
                if name not in self.methods:
                    raise ValueError(f"methods out of {', '.join(self.methods)} in compare (got {name})")
        return self

    def parts(self) -> list[str]:
        """Everything that it says, a line each: every key that all share, what a method is, each of its runs, each comparison."""
        return [
            *(f"study.{key} = {value!r}" for key, value in self.study.model_dump(exclude={"seeds"}).items()),
            f"transfer.experts = {self.transfer and self.transfer.experts!r}",
            *(["transfer.orders"] if self.transfer and self.transfer.orders else []),
            *(f"methods.{name}.set = {method.set!r}" for name, method in self.methods.items()),
            *(_run(name, seed) for name in self.methods for seed in self.seeds_of(name)),
            *map(str, self.compare),
        ]

    def beyond(self, other: Study) -> list[str]:
        """Its parts that another study has not."""
        known = set(other.parts())
        return [part for part in self.parts() if part not in known]

    def rests_on(self, pair: Comparison) -> list[str]:
        """The parts that a comparison rests on: itself, and the runs of the seeds that both methods have."""
        both = [seed for seed in self.seeds_of(pair.better) if seed in self.seeds_of(pair.than)]
        return [str(pair), *(_run(name, seed) for seed in both for name in (pair.better, pair.than))]

    def seeds_of(self, method: str) -> tuple[int, ...]:
        """The seeds of a method."""
        return self.methods[method].seeds or self.study.seeds

    def shared(self) -> CampaignConfig:
        """What all methods share, as one campaign."""
        return load_config(locations.campaign_file(self.study.campaign), self.study.set)

    def config(self, method: str, seed: int) -> CampaignConfig:
        """The campaign of one method and seed; its final and the human-made merges are left to the study, which does both once, and nobody races.

        Raises:
            ConfigError: the campaign, or what is changed in it, cannot be used.
        """
        own = (
            f"campaign.seed={seed}",
            "campaign.final=false",
            f"campaign.name={method}-{seed}",
            "baselines.names=[]",
            "benchmark.racing=none",  # else scores would be of fewer problems for some
        )
        settings = [*self.study.set, *self.methods[method].set, *own]
        return load_config(locations.campaign_file(self.study.campaign), settings)


def _run(method: str, seed: int) -> str:
    return f"run {method}-{seed}"


def read_study(path: Path) -> Study:
    """Read a study's file.

    Raises:
        ConfigError: the file, or the campaign of one of its methods, cannot be used; names the key.
    """
    try:
        study = Study.model_validate(read_toml(path, "study"))
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, Study)}") from error
    first = next(iter(study.methods))
    for method in study.methods:
        try:
            study.config(method, study.seeds_of(method)[0])
        except ConfigError as error:
            raise ConfigError(f"{path}, method '{method}': {error}") from error
        same, other = (_budget(study.config(name, 0)) for name in (first, method))
        for key, value in other.items():
            if value != same[key]:
                raise ConfigError(
                    f"{path}, method '{method}': key '{key}': expected the same as of '{first}' ({same[key]}), got {value}; methods are compared at equal budgets on the same problems, so set it in [study]"
                )
    return study


def _budget(config: CampaignConfig) -> dict[str, object]:
    """What every method must have alike."""
    alike = config.model_dump(mode="json", include={"models", "benchmark", "evaluator"})
    flat = {f"{section}.{key}": value for section, values in alike.items() for key, value in values.items()}
    return {"campaign.iterations": config.campaign.iterations, "campaign.programs": config.campaign.programs} | flat
