"""What writes programs: language models here, in vLLM or behind an endpoint, the grammar, tuned coefficients, or a script."""

from __future__ import annotations

from pathlib import Path

from engine.config import CampaignConfig
from engine.errors import ConfigError
from engine.evaluating import vllm_settings
from engine.generators.coefficients import CoefficientsGenerator
from engine.generators.endpoint import EndpointGenerator, Replies
from engine.generators.from_grammar import GrammarGenerator
from engine.generators.in_vllm import VLLMGenerator
from engine.generators.language_model import Forms, LanguageModelGenerator
from engine.generators.protocol import Draft, Generator, Writer
from engine.generators.resident import ResidentModel
from engine.generators.scripted import ScriptedGenerator

__all__ = [
    "CoefficientsGenerator",
    "Draft",
    "EndpointGenerator",
    "Forms",
    "Generator",
    "GrammarGenerator",
    "LanguageModelGenerator",
    "ResidentModel",
    "ScriptedGenerator",
    "VLLMGenerator",
    "Writer",
    "open_generator",
]


def open_generator(config: CampaignConfig, source: str, replies: Replies) -> Generator:
    """The campaign's generator.

    Args:
        source: folder or hub id of the model, where the kind has one.
        replies: where an endpoint's answers are kept.

    Raises:
        ConfigError: it cannot be opened.
    """
    section = config.generator
    if section.kind == "grammar":
        return GrammarGenerator()
    if section.kind == "coefficients":
        return CoefficientsGenerator(len(config.models.experts), section.groups, section.batch)
    if section.kind == "scripted":
        if section.script is None:
            raise ConfigError(
                "generator.script: expected a folder of .py programs, got none; it is needed for kind = 'scripted'"
            )
        return ScriptedGenerator.from_folder(Path(section.script), section.batch)
    if section.kind == "endpoint":
        return EndpointGenerator(section, replies)
    if section.kind == "vllm":
        return VLLMGenerator(source, section, vllm_settings(config.evaluator))
    return LanguageModelGenerator(source, section, device=config.models.device)
