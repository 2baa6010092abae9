"""`run --dry-run`: everything that can be known of a campaign without its weights: what it would do, what is there, what is missing.

Nothing is downloaded, merged or scored, and nothing is written.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from benchmarks.errors import BenchmarkUserError
from benchmarks.problems import refuse_overlap
from benchmarks.suite import Suite
from benchmarks.vllm_process import VLLMProcess, VLLMSettings
from engine import locations
from engine.baselines import planned_evaluations
from engine.bench import LEVELS, expert_names
from engine.config import CampaignConfig
from engine.connecting import reach
from engine.errors import HostError, UserError
from engine.suites import describe, described, open_suite, problems_of
from merges.checkpoints import Checkpoint
from merges.errors import MergeError
from merges.folders import looks_like_hub_id
from merges.hub import listed
from merges.selection import select
from merges.task_vectors import mergeable, misfits
from sandbox import Sandbox, SandboxError

State = Literal["ok", "wrong", "open"]
"""It is so; it is not, and the campaign could not run here; nobody could tell without what is not here."""

GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One line of the rehearsal."""

    state: State
    about: str
    text: str


def rehearse(config: CampaignConfig) -> Iterator[Finding]:
    """What a campaign would do here, and what stands in its way; slow only where the hub is asked."""
    yield from _amounts(config)
    yield from _models(config)
    yield from _problems(config)
    yield from _machine(config)
    if config.archive.url is not None:
        yield _archive(config.archive.url)


def _amounts(config: CampaignConfig) -> Iterator[Finding]:
    campaign, learn, experts = config.campaign, config.learn, len(config.models.experts)
    tuned = planned_evaluations(config.baselines, experts)
    yield Finding(
        "ok",
        "search",
        f"{campaign.iterations} × {campaign.programs} programs, T {' → '.join(_temperatures(config))}; racing {config.benchmark.racing}; {tuned} human-made merges tuned before",
    )
    if not config.learns:
        yield Finding("ok", "learn", "not at all")
    else:
        top, bottom = learn.top(campaign.programs), learn.bottom(campaign.programs)
        yield Finding(
            "ok",
            "learn",
            f"{learn.method}, {campaign.iterations - 1} updates: at most {top} chosen and {bottom} rejected of an iteration, {learn.elite} carried over; beta {learn.beta:g}, rate {learn.learning_rate:g}, "
            + (f"LoRA {learn.lora_rank}" if learn.lora_rank else "all weights"),
        )
    if not campaign.final:
        yield Finding("ok", "final", "none: test problems stay untouched")
        return
    subjects = 1 + experts + len(config.baselines.names) + campaign.finalists
    yield Finding(
        "ok", "final", f"{subjects} models on test, once: {campaign.finalists} programs and what they are compared with"
    )


def _temperatures(config: CampaignConfig) -> list[str]:
    return [f"{config.generator.temperature_in(1 + i):.3g}" for i in range(config.campaign.iterations)]


def _models(config: CampaignConfig) -> Iterator[Finding]:
    models = config.models
    opened: dict[str, Checkpoint] = {}
    named = [("base", models.base), *zip(expert_names(models.experts), models.experts, strict=True)]
    for name, reference in named:
        found, finding = _model(f"model {name}", reference)
        yield finding
        if found is not None:
            opened[name] = found
    if config.generator.kind == "model":
        yield _model("generator", config.generator.model)[1]
    base = opened.pop("base", None)
    if base is None or not opened:
        return
    try:
        names = mergeable(base, select(base.names, models.merge))
    except MergeError as error:
        yield Finding("wrong", "merge", str(error))
        return
    wrong = misfits(base, opened, names)
    if wrong:
        yield Finding("wrong", "merge", wrong[0])
    else:
        numbers = sum(math.prod(base.shapes[name]) for name in names)
        yield Finding(
            "ok",
            "merge",
            f"'{models.merge}' selects {len(names)} tensors, {numbers / 1e6:.1f} M numbers; {_gib(4 * numbers)} of float32 for each of {len(opened)} task vectors",
        )


def _model(about: str, reference: str) -> tuple[Checkpoint | None, Finding]:
    """A model that lies here is opened by its headers; one of the hub is only looked up."""
    try:
        place = locations.model(reference)
        if Path(place).exists() or not looks_like_hub_id(place):
            opened = Checkpoint.open(place)
            size = sum(path.stat().st_size for path in opened.paths)
            return opened, Finding("ok", about, f"{reference}: {len(opened.names)} tensors, {_gib(size)}")
    except (MergeError, UserError) as error:
        return None, Finding("wrong", about, str(error))
    try:
        found = listed(place)
    except MergeError as error:
        return None, Finding("open", about, str(error))
    if not found.configured or not found.weight_bytes:
        lack = "config.json" if not found.configured else "safetensors: pickles are never read; convert it first"
        return None, Finding("wrong", about, f"{reference}: expected a model, got one without {lack}")
    return None, Finding(
        "ok", about, f"{reference}: on the hub, {_gib(found.weight_bytes)}, commit {found.commit[:12]}"
    )


def _problems(config: CampaignConfig) -> Iterator[Finding]:
    suites: dict[str, Suite] = {}
    splits: tuple[Literal["dev", "test"], ...] = ("dev", "test")
    for split in splits:
        try:
            suites[split] = open_suite(config, split)
        except BenchmarkUserError as error:
            hub = any(part.name in ("gsm8k", "math") and part.data is None for part in described(config.benchmark))
            yield Finding("open" if hub else "wrong", split, str(error))
            if hub:
                return  # the other split would wait for the same hub
            continue
        suite = suites[split]
        parts = ", ".join(f"{row['label']} {row['problems']} (weight {row['weight']:g})" for row in describe(suite))
        asked = f" in blocks of {len(suite.blocks[0])}" if len(suite.blocks) > 1 else ""
        yield Finding("ok", split, f"{len(suite)} problems{asked}: {parts}")
    if len(suites) == 2:
        try:
            refuse_overlap(*(problems_of(suite) for suite in suites.values()))
            yield Finding("ok", "overlap", "dev and test share no question")
        except BenchmarkUserError as error:
            yield Finding("wrong", "overlap", str(error))


def _machine(config: CampaignConfig) -> Iterator[Finding]:
    if "cuda" in (config.models.device, config.sandbox.device):
        there = torch.cuda.is_available()
        text = torch.cuda.get_device_name(0) if there else "expected a GPU that torch can see, got none; use device cpu"
        yield Finding("ok" if there else "wrong", "device", text)
    if config.evaluator.kind == "vllm":
        yield _vllm(config.evaluator.python)
    try:
        with Sandbox(allow_none=True, device=config.sandbox.device) as sandbox:
            level, floor = sandbox.isolation.level, config.sandbox.floor
    except SandboxError as error:
        yield Finding("wrong", "isolation", str(error))
        return
    enough = LEVELS.index(level) >= LEVELS.index(floor)
    yield Finding("ok" if enough else "wrong", "isolation", f"{level}; the campaign asks for {floor} at least")


def _vllm(python: str | None) -> Finding:
    try:
        VLLMProcess(
            VLLMSettings(python=python), {}, -1
        ).close()  # looks at the environment; nothing is loaded before the first question
    except BenchmarkUserError as error:
        return Finding("wrong", "vllm", str(error))
    return Finding("ok", "vllm", f"found by {python or sys.executable}")


def _archive(server: str) -> Finding:
    try:
        return Finding("ok", "archive", f"{reach(server)}, which lets us make a schema for the run")
    except (UserError, HostError) as error:
        return Finding("wrong", "archive", str(error))


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"
