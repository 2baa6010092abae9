"""What writes programs, behind one protocol: a language model, the grammar, or a script.

A generator gets the places of a batch, each with its seed, and answers with drafts; it never sees a score in this prompt (the fixed
one-shot prompt of Self-Developing). Batches are fixed by the campaign, so the same seed gives the same drafts.
To add one: implement `Generator`, add it to `open_generator`, and to the contract suite in tests/engine/test_generators.py.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.host import memory_for, usable_device
from engine import prompts
from engine.config import GeneratorSection
from engine.errors import ConfigError
from engine.grammar import ProgramGrammar
from engine.records import ProgramId, Sampling
from merges.checkpoints import Checkpoint
from merges.errors import CheckpointError


@dataclass(frozen=True)
class Draft:
    """What a generator wrote: the prompt it was shown, its whole text, and the program found in it (may be empty)."""

    prompt: str
    text: str
    source: str
    parents: tuple[ProgramId, ...] = ()


class Generator(Protocol):
    """Writes programs. `origin` goes into the archive."""

    origin: str

    def write(self, places: Sequence[Sampling]) -> list[Draft]:
        """One draft for every place of one batch, the same for the same places; all share temperature and top-p."""

    def close(self) -> None:
        """Free the model, if any."""


class LanguageModelGenerator:
    """A causal language model in this process, shown the fixed one-shot prompt.

    Args:
        folder: model folder or hub id.
        section: the campaign's generator section; gives prompt form and longest program.
        device: "cpu" or "cuda".

    Raises:
        ConfigError: the model cannot be loaded, has no end token, or has no chat template though the prompt form is "chat".
        DeviceError: this machine has no such device.
        BenchmarkError: the model does not fit into memory.
    """

    origin = "generator"

    def __init__(self, folder: str, section: GeneratorSection, *, device: str = "cpu") -> None:
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._section = section
        place = usable_device(device)
        try:
            folder = str(Checkpoint.open(folder).path)  # asks the hub once, where transformers would for a minute
        except CheckpointError as error:
            raise ConfigError(f"generator.model: {error}") from error
        try:
            with memory_for(f"generator.model '{folder}'", "free some, or take a smaller model"):
                self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
                model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", use_safetensors=True)
                self._model: Any = model.to(place).eval()
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ConfigError(
                f"generator.model '{folder}': expected a folder or hub id with config, tokenizer and safetensors, got: {first[:160]}; "
                "check the path or fetch the model again"
            ) from error
        if self._tokenizer.eos_token_id is None:
            raise ConfigError(
                f"generator.model '{folder}': expected a tokenizer with an end token, got one without: its programs would never end"
            )
        if section.prompt == "chat" and not self._tokenizer.chat_template:
            raise ConfigError(
                f"generator.prompt: expected 'pocket' for '{folder}', which has no chat template, got 'chat'"
            )

    def write(self, places: Sequence[Sampling]) -> list[Draft]:
        """See `Generator.write`; the whole batch is decoded together."""
        from engine.sampling import sample_texts

        prompt = self.prompt()
        with memory_for("writing programs", "set a smaller generator.batch, or free some"):
            texts = sample_texts(
                self._model,
                self._tokenizer,
                [prompt] * len(places),
                temperature=places[0].temperature,
                top_p=places[0].top_p,
                seeds=[place.seed for place in places],
                max_new_tokens=self._section.max_new_tokens,
                batch=len(places),
                special_tokens=self._section.prompt != "chat",
            )
        return [Draft(prompt, text, prompts.extract_program(text)) for text in texts]

    def prompt(self) -> str:
        """The fixed one-shot prompt in this model's form."""
        if self._section.prompt == "pocket":
            return prompts.pocket_one_shot()
        turns = [{"role": "user", "content": prompts.one_shot()}]
        text: str = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return text

    def close(self) -> None:
        """See `Generator.close`."""
        del self._model


class GrammarGenerator:
    """The control that uses no language model: programs drawn from the grammar."""

    origin = "grammar"

    def __init__(self) -> None:
        self._grammar = ProgramGrammar()

    def write(self, places: Sequence[Sampling]) -> list[Draft]:
        """See `Generator.write`."""
        sources = [self._grammar.sample(random.Random(place.seed)) for place in places]
        return [Draft("", source, source) for source in sources]

    def close(self) -> None:
        """See `Generator.close`."""


class ScriptedGenerator:
    """The deterministic double: gives the programs of a list in turn, over and over. For tests and for replaying a folder.

    Which program comes next follows from the sampling's batch and row alone, so a resumed run goes on at the right place.
    """

    origin = "scripted"

    def __init__(self, sources: Sequence[str], batch: int) -> None:
        assert sources
        self._sources = tuple(sources)
        self._batch = batch

    @classmethod
    def from_folder(cls, folder: Path, batch: int) -> ScriptedGenerator:
        """The `.py` files of a folder in the order of their names.

        Raises:
            ConfigError: there are none, or one cannot be read as text.
        """
        files = sorted(folder.glob("*.py"))
        if not files:
            raise ConfigError(
                f"generator.script '{folder}': expected a folder with .py programs, got none; name such a folder"
            )
        return cls([_script(file) for file in files], batch)

    def write(self, places: Sequence[Sampling]) -> list[Draft]:
        """See `Generator.write`."""
        sources = [self._sources[(p.batch * self._batch + p.row) % len(self._sources)] for p in places]
        return [Draft("", source, source) for source in sources]

    def close(self) -> None:
        """See `Generator.close`."""


def _script(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        got = "text that is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise ConfigError(
            f"generator.script: '{file}': expected a readable Python program, got {got}; mend or remove it"
        ) from error


def open_generator(section: GeneratorSection, source: str, device: str = "cpu") -> Generator:
    """The campaign's generator; `source` is the folder or hub id of the model, and `device` its place, where the kind has one."""
    if section.kind == "grammar":
        return GrammarGenerator()
    if section.kind == "scripted":
        if section.script is None:
            raise ConfigError(
                "generator.script: expected a folder of .py programs, got none; it is needed for kind = 'scripted'"
            )
        return ScriptedGenerator.from_folder(Path(section.script), section.batch)
    return LanguageModelGenerator(source, section, device=device)
