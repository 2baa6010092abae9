"""A causal language model in vLLM, in a process and an environment of its own (`benchmarks/vllm_process.py`).

It writes there and is trained here: for an update the version before is opened with transformers, and what came of it is swapped into vLLM.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmarks.vllm_evaluator import Draw, VLLMEvaluator
from benchmarks.vllm_process import VLLMSettings
from engine.config import GeneratorSection
from engine.generators.language_model import Forms
from engine.generators.protocol import Draft
from engine.generators.resident import ResidentModel, open_tokenizer
from engine.records import Candidate, Sampling, Task


class VLLMGenerator:
    """See `Generator` and `Writer`.

    Args:
        folder: model folder or hub id.
        section: the campaign's generator section.
        settings: which Python has vLLM, and how it is run.

    Attributes:
        forms: how it is asked.

    Raises:
        ConfigError: the model cannot be loaded, has no end token, or has no chat template though the prompt form is "chat".
        BenchmarkUserError: that Python has no vLLM.
        BenchmarkError: the model does not fit into memory, or vLLM died twice.
    """

    origin = "generator"
    told = False

    def __init__(self, folder: str, section: GeneratorSection, settings: VLLMSettings) -> None:
        self._section, self._base = section, folder
        self._tokenizer = open_tokenizer(folder)
        self.forms = Forms(self._tokenizer, section.prompt, folder)
        self._vllm = VLLMEvaluator(folder, dtype=getattr(torch, section.dtype), settings=settings)
        self._holds = folder

    def write(self, places: Sequence[Sampling], tasks: Sequence[Task]) -> list[Draft]:
        """See `Generator.write`."""
        return self.forms.written(tasks, lambda asked: self.complete(asked, places))

    def complete(
        self, asked: Sequence[str], places: Sequence[Sampling], *, max_new_tokens: int | None = None
    ) -> list[str]:
        """See `Writer.complete`."""
        draws = [Draw(place.temperature, place.top_p, place.top_k, place.seed) for place in places]
        ids = [self._tokenizer(text, add_special_tokens=self.forms.special_tokens).input_ids for text in asked]
        written = self._vllm.sample(ids, draws, max_new_tokens=max_new_tokens or self._section.max_new_tokens)
        return [self._tokenizer.decode(tokens, skip_special_tokens=True) for tokens in written]

    def tell(self, assessed: Sequence[Candidate]) -> None:
        """See `Generator.tell`."""

    def adopt(self, folder: str) -> None:
        """See `Generator.adopt`; the weights are read here and swapped into vLLM."""
        if folder == self._holds:
            return
        version = ResidentModel(self._base, dtype=self._section.dtype)
        version.adopt(folder)
        self._vllm.swap(version.plain_weights())
        self._holds = folder

    def close(self) -> None:
        """See `Generator.close`."""
        self._vllm.close()
