"""A campaign's configuration, section by section; `config_file.py` reads it.

Every field has a default that runs the pocket campaign, so a campaign file states only what differs. A mistake is one line:
the key, what was expected, what was got. Nothing here can switch on remote code: there is no such field.
"""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from engine.archive_place import checked
from engine.config_base import Count, Names, Positive, Section, Share
from engine.config_learning import GateSection, JudgeSection, LearnSection
from engine.descriptors import NUMBERS
from engine.records import TaskKind
from merges import library
from sandbox import Limits

BenchmarkName = Literal["pocket", "gsm8k", "math", "jsonl"]
Splits = Literal["clean", "paper"]
Checker = Literal["number", "math", "exact", "choice"]

TAKES = {"slerp": 2, "nuslerp": 2, "nearswap": 1, "arcee_fusion": 1}
"""Human-made merges of just so many models."""


class CampaignSection(Section):
    """How much is searched. `final` false: test problems stay untouched, and there is no table of them."""

    name: str = Field(default="pocket", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    iterations: Count = 3
    programs: Count = 200
    finalists: Annotated[int, Field(ge=1, le=100)] = 15
    final: bool = True
    max_hours: Positive | None = None


class ModelsSection(Section):
    """What is merged. Names of experts are what programs see as keys of `model_dict`, in this order."""

    base: str = "pocket/seed"
    experts: Names = Field(
        default=("pocket/expert_a", "pocket/expert_b", "pocket/expert_c"), min_length=2, max_length=8
    )
    merge: str = "all"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["cpu", "cuda"] = "cpu"
    threads: Annotated[int, Field(ge=0, le=256)] = 0


REACHED_BY = ("base_url", "api_key_env", "retries", "timeout_seconds", "parallel", "price_read", "price_written")
"""Of an endpoint: where it is, how it is asked, and what that costs. No part of what a run is: it may change when the run goes on."""


class GeneratorSection(Section):
    """What writes the programs (`engine/generators/`).

    `temperature` falls (see `temperature_in`). `batch`: programs written together; of "coefficients" its population.
    `groups`: of layers, of "coefficients", which has one weight per expert and group, and one for what lies outside the layers. `base_url` to `price_written`: of an "endpoint", whose `model` is the server's name for it; prices are per
    million tokens.
    """

    kind: Literal["model", "vllm", "endpoint", "grammar", "coefficients", "scripted"] = "model"
    model: str = "pocket/generator"
    prompt: Literal["pocket", "chat"] = "pocket"
    dtype: Literal["float32", "bfloat16"] = "float32"
    temperature: Positive = 1.0
    temperature_decay: Annotated[float, Field(ge=0.0)] = 0.2
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    max_new_tokens: Count = 320
    batch: Count = 50
    script: str | None = None
    groups: Annotated[int, Field(ge=1, le=64)] = 4
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    retries: Annotated[int, Field(ge=0, le=20)] = 5
    timeout_seconds: Positive = 120.0
    parallel: Annotated[int, Field(ge=1, le=64)] = 4
    price_read: Annotated[float, Field(ge=0.0)] = 0.0
    price_written: Annotated[float, Field(ge=0.0)] = 0.0

    @field_validator("base_url")
    @classmethod
    def _reachable(cls, url: str | None) -> str | None:
        if url and not _is_web_address(url):
            raise ValueError(
                "a URL with http or https, a host and, if any, a port of 1 to 65535, as http://localhost:8000/v1"
            )
        return url

    @model_validator(mode="after")
    def _asked_in_its_terms(self) -> GeneratorSection:
        if self.kind == "endpoint" and self.top_k:
            raise ValueError("top_k 0 for kind 'endpoint', whose interface has none (top_p does nearly the same)")
        return self

    def reached_anyhow(self) -> GeneratorSection:
        """The same generator, with nothing said of how it is reached (`REACHED_BY`)."""
        return self.model_copy(update={name: GeneratorSection.model_fields[name].default for name in REACHED_BY})

    def temperature_in(self, iteration: int) -> float:
        """temperature / (1 + decay · (iteration − 1)), as in Self-Developing; iterations count from 1."""
        return self.temperature / (1 + self.temperature_decay * (iteration - 1))


def _is_web_address(url: str) -> bool:
    if not url.isprintable() or " " in url:  # the parser leaves out some of them, the client does not
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its port or its brackets
        return False


class PromptsSection(Section):
    """What a language model is asked for: shares of the kinds of task, which need not sum to 1.

    `one_shot` is the fixed prompt of Self-Developing. The others show programs of the campaign with scores or reasons: one of the `elite` best to
    vary, two to cross, a failed one to mend. `lag`: batches that are being assessed while the next is written, and so are not shown in it.
    """

    one_shot: Annotated[float, Field(ge=0.0)] = 1.0
    variant: Annotated[float, Field(ge=0.0)] = 0.0
    crossover: Annotated[float, Field(ge=0.0)] = 0.0
    repair: Annotated[float, Field(ge=0.0)] = 0.0
    elite: Count = 10
    lag: Annotated[int, Field(ge=0)] = 1

    @property
    def shows(self) -> bool:
        """Whether any prompt shows programs of the campaign."""
        return self.variant + self.crossover + self.repair > 0

    def shares(self) -> dict[TaskKind, float]:
        """The share of every kind of task."""
        return {kind: getattr(self, kind.value) for kind in TaskKind}

    @model_validator(mode="after")
    def _something(self) -> PromptsSection:
        if sum(self.shares().values()) <= 0:
            raise ValueError("a share above 0 for one kind of task at least (one_shot, variant, crossover, repair)")
        return self


class ExploreSection(Section):
    """Where the parents in prompts come from (`engine/exploring.py`). "none": from the best; "map-elites": from the best of every kind; "islands": the same,
    on islands whose programs never meet. Kinds are cells over `axes`, descriptors of a program (`engine/descriptors.py`): a grid of `cells` per axis, or
    `regions` of a tessellation. Whatever the kind, `screen`: share of the working new programs of a batch that is merged and scored from the second iteration on, those that
    programs which do alike on the probes make one expect most of (`engine/surrogate.py`), where so many are scored as `screen_after`; 1: all. `novelty`: a program nearer than this to an earlier one that works, on the probe tensors, is a duplicate
    and never scored (`engine.descriptors.distance`, 0..1); 0: only one that behaves the same is.
    """

    kind: Literal["none", "map-elites", "islands"] = "none"
    axes: Annotated[Names, Field(min_length=1, max_length=4)] = ("scale", "rest")
    layout: Literal["grid", "cvt"] = "grid"
    cells: Annotated[tuple[Annotated[int, Field(ge=1, le=1000)], ...], Field(min_length=1)] = (16, 8)
    regions: Annotated[int, Field(ge=2, le=10_000)] = 128
    islands: Annotated[int, Field(ge=2, le=64)] = 4
    novelty: Share = 0.0
    screen: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    screen_after: Count = 30

    @field_validator("axes")
    @classmethod
    def _descriptors(cls, axes: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in axes if name not in NUMBERS]:
            raise ValueError(f"descriptors out of {', '.join(NUMBERS)} (got {', '.join(unknown)})")
        if len(set(axes)) < len(axes):
            raise ValueError("each descriptor once")
        return axes

    @model_validator(mode="after")
    def _cells_for_every_axis(self) -> ExploreSection:
        if self.layout == "grid" and len(self.cells) != len(self.axes):
            raise ValueError(f"as many cells as axes (got {len(self.cells)} and {len(self.axes)})")
        return self


class SandboxSection(Section):
    """Limits of one candidate over all tensors, the least isolation accepted, and where programs compute.

    No key accepts a machine without isolation: a file from somebody else must not. `--unsafe-no-isolation` does, on the command line.
    """

    wall_seconds: Positive = 20.0
    cpu_seconds: Positive = 20.0
    memory_mb: Count = 2048
    gpu_memory_mb: Count = 8192
    floor: Literal["FULL", "REDUCED"] = "REDUCED"
    device: Literal["cpu", "cuda"] = "cpu"


def limits_of(section: SandboxSection) -> Limits:
    """A campaign's limits, as the sandbox takes them."""
    return Limits(
        wall_seconds=section.wall_seconds,
        cpu_seconds=section.cpu_seconds,
        memory_bytes=section.memory_mb * 2**20,
        gpu_memory_bytes=section.gpu_memory_mb * 2**20,
    )


class BenchmarkPart(Section):
    """One benchmark of several. What it leaves out is as in [benchmark]; `weight`: of its share of right answers in the score."""

    name: BenchmarkName
    label: str | None = None
    weight: Positive = 1.0
    data: str | None = None
    test_data: str | None = None
    splits: Splits | None = None
    checker: Checker | None = None
    dev_limit: Count | None = None
    test_limit: Count | None = None
    shots: Annotated[int, Field(ge=0, le=8)] | None = None
    chat: bool | None = None
    max_new_tokens: Count | None = None


class BenchmarkSection(Section):
    """What scores: one benchmark, or several with weights (`parts`, which then stand in place of `name`).

    Racing: "sequential" stops a program that can reach neither the final nor those of its iteration that are learnt from, "halving"
    asks ever fewer programs ever more, "none" asks every program everything. `block`: problems between two looks; None: an eighth.
    `batch`: prompts decoded together, by transformers.
    """

    name: BenchmarkName = "pocket"
    data: str | None = None
    test_data: str | None = None
    splits: Splits = "clean"
    checker: Checker | None = None
    dev_limit: Count | None = None
    test_limit: Count | None = None
    shots: Annotated[int, Field(ge=0, le=8)] | None = None
    chat: bool = False
    max_new_tokens: Count | None = None
    batch: Count | None = None
    parts: tuple[BenchmarkPart, ...] = ()
    racing: Literal["sequential", "halving", "none"] = "sequential"
    block: Count | None = None
    race_error: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    halving_eta: Annotated[int, Field(ge=2, le=16)] = 2

    @field_validator("parts")
    @classmethod
    def _labels_differ(cls, parts: tuple[BenchmarkPart, ...]) -> tuple[BenchmarkPart, ...]:
        labels = [part.label or part.name for part in parts]
        if len(set(labels)) < len(labels):
            raise ValueError("a label of its own for each part (parts.label)")
        return parts


class EvaluatorSection(Section):
    """What answers: transformers in this process, or vLLM in one of its own.

    The rest is vLLM's, of a generator in vLLM too. `python`: of the environment that has it; None: this one. `tensor_parallel`: devices that share the model.
    `memory`: share of each GPU, or GiB of cache on a CPU; None: vLLM's own choice, 2 GiB on a CPU. `threads`: of each of its
    processes on a CPU. `eager`: false compiles, and replays graphs on a GPU.
    """

    kind: Literal["transformers", "vllm"] = "transformers"
    python: str | None = None
    tensor_parallel: Count = 1
    memory: Positive | None = None
    threads: Count = 1
    eager: bool = True


class BaselinesSection(Section):
    """Human-made merges, tuned on dev. `evaluations`: dev scores per tuned hyper-parameter."""

    names: Names = (
        "task_arithmetic",
        "weighted_task_arithmetic",
        "ties",
        "dare_ties",
        "model_stock",
        "breadcrumbs",
    )
    evaluations: Annotated[int, Field(ge=1, le=1000)] = 12

    @field_validator("names")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in library.names():
                raise ValueError(f"names out of {', '.join(library.names())}")
        if len(set(names)) < len(names):
            raise ValueError("each name once")
        return names


class ArchiveSection(Section):
    """Where everything that was tried is kept. `url`: of a PostgreSQL database, in which the run gets a schema of its own; None: a file in the run's folder."""

    url: str | None = None

    @field_validator("url")
    @classmethod
    def _of_postgresql(cls, url: str | None) -> str | None:
        if url is not None:
            checked(url)
        return url


class CampaignConfig(Section):
    """A whole campaign. The defaults are those of the pocket world, but for what `campaigns/pocket.toml` has found better."""

    campaign: CampaignSection = CampaignSection()
    models: ModelsSection = ModelsSection()
    generator: GeneratorSection = GeneratorSection()
    prompts: PromptsSection = PromptsSection()
    explore: ExploreSection = ExploreSection()
    sandbox: SandboxSection = SandboxSection()
    benchmark: BenchmarkSection = BenchmarkSection()
    evaluator: EvaluatorSection = EvaluatorSection()
    baselines: BaselinesSection = BaselinesSection()
    learn: LearnSection = LearnSection()
    judge: JudgeSection = JudgeSection()
    gate: GateSection = GateSection()
    archive: ArchiveSection = ArchiveSection()

    @property
    def learns(self) -> bool:
        """Whether the generator is trained at all."""
        return self.learn.method != "none" and self.generator.kind in ("model", "vllm")

    @model_validator(mode="after")
    def _only_vllms(self) -> CampaignConfig:
        for name, field in EvaluatorSection.model_fields.items():
            given = name != "kind" and getattr(self.evaluator, name) != field.default
            if given and "vllm" not in (self.evaluator.kind, self.generator.kind):
                raise ValueError(f"kind 'vllm' with evaluator.{name} (transformers has no use for it)")
        return self

    @model_validator(mode="after")
    def _explores_by_prompts(self) -> CampaignConfig:
        if self.explore.kind == "none":
            return self
        if not self.prompts.variant + self.prompts.crossover:
            raise ValueError(
                f"prompts.variant or prompts.crossover above 0 with explore.kind '{self.explore.kind}', which chooses the programs that they show"
            )
        if self.explore.kind == "islands" and self.generator.batch < self.explore.islands:
            raise ValueError(
                f"a generator.batch of explore.islands at least (got {self.generator.batch} and {self.explore.islands}): the rows of a batch are dealt out to the islands"
            )
        return self

    @model_validator(mode="after")
    def _one_triage(self) -> CampaignConfig:
        if self.explore.screen < 1.0 and self.learn.method == "self-rewarding" and self.judge.triage < 1.0:
            raise ValueError("explore.screen 1 or judge.triage 1: one of them chooses whom to score")
        return self

    @model_validator(mode="after")
    def _told_in_time(self) -> CampaignConfig:
        if self.generator.kind == "coefficients" and (self.benchmark.racing == "halving" or self.explore.screen < 1.0):
            raise ValueError(
                "benchmark.racing 'sequential' or 'none', and explore.screen 1, for generator.kind 'coefficients', which waits for every batch's scores"
            )
        return self

    @model_validator(mode="after")
    def _as_many_as_there_are(self) -> CampaignConfig:
        count = len(self.models.experts)
        wrong = {name: TAKES[name] for name in sorted(self.baselines.names) if TAKES.get(name, count) != count}
        if wrong:
            listed = ", ".join(f"{name}, for {takes} only" for name, takes in wrong.items())
            raise ValueError(f"methods for {count} experts in baselines.names (leave out {listed})")
        return self
