"""A campaign's configuration: TOML, read by pydantic, changed by `--set a.b=c`.

Every field has a default that runs the pocket campaign, so a campaign file states only what differs. A mistake is one line:
the key, what was expected, what was got. Nothing here can switch on remote code: there is no such field.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from engine.errors import ConfigError
from merges import library
from sandbox import Limits

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]

BenchmarkName = Literal["pocket", "gsm8k", "math", "jsonl"]
Splits = Literal["clean", "paper"]
Checker = Literal["number", "math", "exact", "choice"]

TAKES = {"slerp": 2, "nuslerp": 2, "nearswap": 1, "arcee_fusion": 1}
"""Human-made merges of just so many models."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CampaignSection(_Section):
    """How much is searched."""

    name: str = Field(default="pocket", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    iterations: Count = 3
    programs: Count = 200
    finalists: Annotated[int, Field(ge=1, le=100)] = 15
    max_hours: Positive | None = None


class ModelsSection(_Section):
    """What is merged. Names of experts are what programs see as keys of `model_dict`, in this order."""

    base: str = "pocket/seed"
    experts: Names = Field(
        default=("pocket/expert_a", "pocket/expert_b", "pocket/expert_c"), min_length=2, max_length=8
    )
    merge: str = "all"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["cpu", "cuda"] = "cpu"
    threads: Annotated[int, Field(ge=0, le=256)] = 0


class GeneratorSection(_Section):
    """What writes the programs."""

    kind: Literal["model", "grammar", "scripted"] = "model"
    model: str = "pocket/generator"
    prompt: Literal["pocket", "chat"] = "pocket"
    temperature: Positive = 1.0
    temperature_decay: Annotated[float, Field(ge=0.0)] = 0.2
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    max_new_tokens: Count = 320
    batch: Count = 50
    script: str | None = None


class SandboxSection(_Section):
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


class BenchmarkPart(_Section):
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


class BenchmarkSection(_Section):
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


class EvaluatorSection(_Section):
    """What answers: transformers in this process, or vLLM in one of its own.

    The rest is vLLM's. `python`: of the environment that has it; None: this one. `tensor_parallel`: devices that share the model.
    `memory`: share of each GPU, or GiB of cache on a CPU; None: vLLM's own choice, 2 GiB on a CPU. `threads`: of each of its
    processes on a CPU. `eager`: false compiles, and replays graphs on a GPU.
    """

    kind: Literal["transformers", "vllm"] = "transformers"
    python: str | None = None
    tensor_parallel: Count = 1
    memory: Positive | None = None
    threads: Count = 1
    eager: bool = True

    @model_validator(mode="after")
    def _only_vllms(self) -> EvaluatorSection:
        for name, field in EvaluatorSection.model_fields.items():
            if self.kind != "vllm" and name != "kind" and getattr(self, name) != field.default:
                raise ValueError(f"kind 'vllm' with evaluator.{name} (transformers has no use for it)")
        return self


class BaselinesSection(_Section):
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


class LearnSection(_Section):
    """How the generator learns. Shares and carry-over are those of Self-Developing (https://arxiv.org/abs/2410.15639)."""

    method: Literal["dpo", "none"] = "dpo"
    chosen: Share = 0.03
    rejected: Share = 0.10
    chosen_floor: Count = 6
    rejected_floor: Count = 20
    elite: Annotated[int, Field(ge=0)] = 3
    pairs_per_chosen: Count = 8
    beta: Positive = 0.1
    learning_rate: Positive = 1e-3
    epochs: Positive = 2.0
    batch: Count = 8
    lora_rank: Annotated[int, Field(ge=0)] = 32

    def top(self, count: int) -> int:
        """How many of `count` scored programs are chosen, where there are so many."""
        return max(self.chosen_floor, math.ceil(self.chosen * count))

    def bottom(self, count: int) -> int:
        """How many of them are rejected, where there are so many."""
        return max(self.rejected_floor, math.ceil(self.rejected * count))


class CampaignConfig(_Section):
    """A whole campaign; `CampaignConfig()` is the pocket campaign."""

    campaign: CampaignSection = CampaignSection()
    models: ModelsSection = ModelsSection()
    generator: GeneratorSection = GeneratorSection()
    sandbox: SandboxSection = SandboxSection()
    benchmark: BenchmarkSection = BenchmarkSection()
    evaluator: EvaluatorSection = EvaluatorSection()
    baselines: BaselinesSection = BaselinesSection()
    learn: LearnSection = LearnSection()

    @model_validator(mode="after")
    def _as_many_as_there_are(self) -> CampaignConfig:
        count = len(self.models.experts)
        wrong = {name: TAKES[name] for name in sorted(self.baselines.names) if TAKES.get(name, count) != count}
        if wrong:
            listed = ", ".join(f"{name}, for {takes} only" for name, takes in wrong.items())
            raise ValueError(f"methods for {count} experts in baselines.names (leave out {listed})")
        return self


def load_config(path: Path, settings: Sequence[str] = ()) -> CampaignConfig:
    """Read a campaign file and apply `key=value` settings.

    Raises:
        ConfigError: the file cannot be read or parsed, or a key or value is not known; names the key.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"campaign file '{path}': expected a readable file, got {error.strerror}; check the path"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"campaign file '{path}': expected TOML, got: {error}; mend that line") from error
    return build_config(tree, settings, source=str(path))


def build_config(tree: dict[str, Any], settings: Sequence[str] = (), *, source: str = "campaign") -> CampaignConfig:
    """A configuration from a parsed tree and `key=value` settings; raises ConfigError."""
    for setting in settings:
        _set(tree, setting)
    try:
        return CampaignConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_explain(error)}") from error


def _set(tree: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    path = key.strip().split(".")
    if not equals or len(path) != 2 or not all(path):
        raise ConfigError(f"--set '{setting}': expected SECTION.KEY=VALUE, as campaign.programs=50; got no such form")
    section = tree.setdefault(path[0], {})
    if not isinstance(section, dict):
        raise ConfigError(f"--set '{setting}': expected a section '{path[0]}', got a plain value in the campaign file")
    if path == ["benchmark", "name"]:  # one benchmark in place of the several that the file may name
        section.pop("parts", None)
    section[path[1]] = _value(text.strip())


def _value(text: str) -> Any:
    """A TOML value where the text is one, else the text itself: `--set models.base=folder` needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return [part.strip() for part in text.split(",")] if "," in text else text


def _explain(error: ValidationError) -> str:
    """All mistakes of a file in one line, each with its key, the expectation and the value."""
    parts = []
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            known = ", ".join(_keys_at(item["loc"][:-1]))
            parts.append(f"key '{key}': expected one of {known}; got an unknown key")
        else:
            expected = _plain(item["msg"])
            parts.append(f"key '{key}': expected {expected}, got {item['input']!r}" if key else f"expected {expected}")
    return "; ".join(parts) + "; mend the file or the --set"


def _plain(message: str) -> str:
    """What pydantic says, as the end of "expected …"."""
    for start in ("Input should be ", "Value error, "):
        message = message.removeprefix(start)
    message = re.sub(
        r"^(Tuple|List) should have (.*) items? after validation, not (\d+)$", r"\2 values (got \3)", message
    )
    return re.sub(r"^String should match pattern '(.*)'$", r"text of the form \1", message)


def _keys_at(place: Sequence[str | int]) -> tuple[str, ...]:
    """The keys that are known in a section of the file; `place` is its path, as pydantic gives it."""
    if not place:
        return tuple(CampaignConfig.model_fields)
    if len(place) > 1:
        return tuple(BenchmarkPart.model_fields)  # the only section within a section
    section = CampaignConfig.model_fields[str(place[0])].annotation
    assert isinstance(section, type)
    assert issubclass(section, BaseModel)
    return tuple(section.model_fields)
