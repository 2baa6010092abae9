"""A causal language model in this process, asked in its own form: the pocket generator's marks, or a chat template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.host import memory_for
from engine import prompts
from engine.config import GeneratorSection
from engine.errors import ConfigError
from engine.generators.protocol import Draft
from engine.generators.resident import ResidentModel
from engine.records import Candidate, Sampling, Task


class LanguageModelGenerator:
    """See `Generator`.

    Args:
        folder: model folder or hub id.
        section: the campaign's generator section; gives prompt form and longest program.
        device: "cpu" or "cuda".

    Attributes:
        resident: the model and its tokenizer; whoever trains it works on this one.
        forms: how it is asked.

    Raises:
        ConfigError: the model cannot be loaded, has no end token, or has no chat template though the prompt form is "chat".
        DeviceError: this machine has no such device.
        BenchmarkError: the model does not fit into memory.
    """

    origin = "generator"
    told = False

    def __init__(self, folder: str, section: GeneratorSection, *, device: str = "cpu") -> None:
        self._section = section
        self.resident = ResidentModel(folder, device=device, dtype=section.dtype)
        self.forms = Forms(self.resident.tokenizer, section.prompt, folder)

    def write(self, places: Sequence[Sampling], tasks: Sequence[Task]) -> list[Draft]:
        """See `Generator.write`."""
        return self.forms.written(tasks, lambda asked: self.complete(asked, places))

    def complete(
        self, asked: Sequence[str], places: Sequence[Sampling], *, max_new_tokens: int | None = None
    ) -> list[str]:
        """What the model writes after each prompt, sampled as its place says; at most `generator.batch` of them decoded together."""
        from engine.sampling import sample_texts

        with memory_for("writing programs", "free some and resume, or start a new run with a smaller generator.batch"):
            return sample_texts(
                self.resident.model,
                self.resident.tokenizer,
                asked,
                temperature=places[0].temperature,
                top_p=places[0].top_p,
                top_k=places[0].top_k,
                seeds=[place.seed for place in places],
                max_new_tokens=max_new_tokens or self._section.max_new_tokens,
                batch=self._section.batch,
                special_tokens=self.forms.special_tokens,
            )

    def tell(self, assessed: Sequence[Candidate]) -> None:
        """See `Generator.tell`: it learns between iterations, not here."""

    def adopt(self, folder: str) -> None:
        """See `Generator.adopt`."""
        self.resident.adopt(folder)

    def close(self) -> None:
        """See `Generator.close`."""
        del self.resident


class Forms:
    """How one model is asked for programs, and how its answers are read.

    Args:
        tokenizer: of the model.
        form: "pocket": the marks that the pocket generator was pre-trained on; "chat": words, through the model's chat template.
        folder: of the model, for messages.

    Attributes:
        special_tokens: whether the tokenizer is to put its own special tokens around a prompt; a chat template has put them already.

    Raises:
        ConfigError: "chat", and the tokenizer has no chat template.
    """

    def __init__(self, tokenizer: Any, form: str, folder: str) -> None:
        self._tokenizer, self.form = tokenizer, form
        self.special_tokens = form != "chat"
        if form == "chat" and not tokenizer.chat_template:
            raise ConfigError(
                f"generator.prompt: expected 'pocket' for '{folder}', which has no chat template, got 'chat'"
            )

    def prompt(self, task: Task) -> str:
        """A task as this model is asked it."""
        return prompts.pocket_form(task) if self.form == "pocket" else self.chat(prompts.chat_form(task))

    def chat(self, request: str) -> str:
        """A request as the chat template puts it."""
        turns = [{"role": "user", "content": request}]
        text: str = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return text

    def written(self, tasks: Sequence[Task], complete: Callable[[Sequence[str]], Sequence[str]]) -> list[Draft]:
        """The drafts of these tasks; `complete` gives what the model writes after each prompt."""
        asked = [self.prompt(task) for task in tasks]
        return [
            Draft(prompt, text, prompts.extract_program(self._begun(task) + text), parents(task))
            for prompt, text, task in zip(asked, complete(asked), tasks, strict=True)
        ]

    def _begun(self, task: Task) -> str:
        """What of the program is in the prompt already."""
        return prompts.pocket_hint(task.hint) if self.form == "pocket" else ""


def parents(task: Task) -> tuple[str, ...]:
    """Ids of the programs that a task shows."""
    return tuple(candidate.program.id for candidate in task.shown)
