"""A model kept resident, whose weights are overwritten in place: the part of a campaign that costs the time.

Saving every merged model and starting a process to load it, the usual way, costs seconds before the first token. Here a
candidate is a swap (a memory copy) and a batched greedy decode; nothing touches the disk.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from benchmarks import llama
from benchmarks.decoding import Decoder, Stop, Texts, greedy, shared_prefix
from benchmarks.errors import SwapError
from benchmarks.generic import TransformersDecoder
from benchmarks.host import is_want_of_memory, memory_for, usable_device
from benchmarks.model_folder import reading
from benchmarks.prompting import Prompting, check_swap, check_tokenizer, end_ids

DEFAULT_BATCH_SIZE = 100
"""Prompts decoded together; on a CPU more only spoils the caches. Part of the conditions: it orders float sums."""


@dataclass(frozen=True)
class Chat:
    """A prompt as turns, for models with a chat template. `turns`: (role, content) pairs, the last one the user's."""

    turns: tuple[tuple[str, str], ...]


Prompt = str | Chat


class Evaluator(Protocol):
    """A resident model that answers prompts. One caller at a time.

    To add one: pass `tests/benchmarks/test_evaluators.py`'s contract suite.
    """

    batch: int | None
    """Prompts decoded together: as many as asked for, or fewer where memory did not suffice. None: not ours to say."""

    @property
    def engine(self) -> str:
        """What computes, with its version."""

    @property
    def incidents(self) -> Mapping[str, int]:
        """What went wrong and was mended, by kind ("batch halved", "restarted"), with counts."""

    def swap(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrites the named weights, cast to the resident dtype; every weight not named becomes the base's again.

        Raises:
            SwapError: an unknown name or a wrong shape; the resident weights are then as before.
        """

    def restore(self) -> None:
        """The base's weights again: `swap` of nothing."""

    def check(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> None:
        """Whether the prompts could be asked; no model reads them.

        Raises:
            PromptTooLongError: a prompt and `max_new_tokens` exceed the context.
            ModelFolderError: a chat, and the tokenizer has no template for it.
        """

    def answer(self, prompts: Sequence[Prompt], *, max_new_tokens: int, stop: Stop) -> list[str]:
        """Greedy answers, in the order of the prompts, each cut where `stop` says or before an end token.

        Raises:
            PromptTooLongError: a prompt and `max_new_tokens` exceed the context.
        """

    def close(self) -> None:
        """Frees the model. Nothing else may be called afterwards."""


class TransformersEvaluator:
    """A Hugging Face causal LM in this process, on CPU or CUDA.

    Llama models run on the forward of `llama.py`, all others on their own. Prompts are sorted by length and cut into
    batches of a fixed size, so answers do not depend on how many threads work on them. Where memory does not suffice the batches are
    halved, from then on, down to one prompt.

    Args:
        folder: model folder or hub id; safetensors only, never with remote code.
        dtype: resident dtype. float32 unless the machine is fast in something smaller.
        threads: batches worked on at once on a CPU, each by one core. Two cores do two batches in less time than one
            batch with two threads each product.
        batch_size: prompts per batch.
        device: "cpu" or "cuda"; on a GPU one batch at a time.

    Raises:
        DeviceError: this machine has no such device.
        BenchmarkError: the model does not fit into memory.
        ModelFolderError: the model or its tokenizer cannot be loaded, or they do not fit each other.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        threads: int = 1,
        batch_size: int = DEFAULT_BATCH_SIZE,
        device: str = "cpu",
    ) -> None:
        assert threads >= 1
        assert batch_size >= 1
        self._device = usable_device(device)
        with memory_for(f"loading '{folder}'", "free some, or choose a smaller models.dtype"):
            model, tokenizer = _load(folder, dtype, self._device)
        rows = model.get_input_embeddings().weight.shape[0]
        check_tokenizer(folder, tokenizer, rows)
        self._texts = Texts(tokenizer, end_ids(model, tokenizer), rows)
        context: int = getattr(model.config, "max_position_embeddings", None) or 1 << 30
        self._prompting = Prompting(tokenizer, self._texts, context)
        self._llama = llama.LlamaWeights(model) if llama.supports(model.config) else None
        self._model = None if self._llama else model
        self._views: dict[str, Tensor] = dict(self._llama.views if self._llama else model.state_dict())
        # In host memory: on a GPU the model alone may fill the card.
        self._base = {name: view.detach().to("cpu", copy=True) for name, view in self._views.items()}
        self._dirty: set[str] = set()
        self._threads = threads if self._device.type == "cpu" else 1
        self.engine = f"transformers {version('transformers')}"
        self._incidents: dict[str, int] = {}
        self.batch: int | None = batch_size
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="evaluator")

    @property
    def incidents(self) -> Mapping[str, int]:
        """See `Evaluator.incidents`."""
        return dict(self._incidents)

    @torch.inference_mode()
    def swap(self, tensors: Mapping[str, Tensor]) -> None:
        """See `Evaluator.swap`."""
        check_swap(tensors, self._views)
        memory = {self._views[name].data_ptr() for name in tensors}
        for name in self._dirty - set(tensors):
            if self._views[name].data_ptr() not in memory:  # Tied weights: it may be given under its other name.
                self._views[name].copy_(self._base[name])
        self._dirty = set(tensors)
        for name, tensor in tensors.items():
            self._views[name].copy_(tensor)

    def restore(self) -> None:
        """See `Evaluator.restore`."""
        self.swap({})

    def check(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> None:
        """See `Evaluator.check`."""
        self._prompting.encode(prompts, max_new_tokens)

    def answer(self, prompts: Sequence[Prompt], *, max_new_tokens: int, stop: Stop) -> list[str]:
        """See `Evaluator.answer`."""
        assert max_new_tokens >= 1
        encoded = self._prompting.encode(prompts, max_new_tokens)
        while True:
            try:
                return self._answers(encoded, max_new_tokens, stop)
            except (MemoryError, RuntimeError) as error:
                if self.batch == 1 or not is_want_of_memory(error):
                    raise
            # outside the handler: the traceback holds the tensors of the batch that was too large
            self.batch = min(self.batch or 1, len(encoded)) // 2 or 1
            self._incidents["batch halved"] = self._incidents.get("batch halved", 0) + 1
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _answers(self, encoded: Sequence[Sequence[int]], max_new_tokens: int, stop: Stop) -> list[str]:
        prefix = shared_prefix(encoded)
        order = sorted(range(len(encoded)), key=lambda at: (-len(encoded[at]), at))
        size = self.batch or len(order)
        batches = [order[at : at + size] for at in range(0, len(order), size)]

        def work(batch: Sequence[int]) -> list[str]:
            if self._device.type == "cpu":
                torch.set_num_threads(1)
            chosen = [encoded[at] for at in batch]
            return greedy(self._decoder(), chosen, self._texts, prefix=prefix, max_new_tokens=max_new_tokens, stop=stop)

        answers = [""] * len(encoded)
        futures = [self._pool.submit(work, batch) for batch in batches]
        try:
            for batch, future in zip(batches, futures, strict=True):
                for at, text in zip(batch, future.result(), strict=True):
                    answers[at] = text
        finally:
            for future in futures:
                future.cancel()
            wait(futures)
        return answers

    def close(self) -> None:
        """See `Evaluator.close`."""
        self._pool.shutdown()
        self._model = self._llama = None
        self._views, self._base = {}, {}

    def _decoder(self) -> Decoder:
        return llama.LlamaDecoder(self._llama) if self._llama else TransformersDecoder(self._model)


def _load(folder: str | Path, dtype: torch.dtype, device: torch.device) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # Loading takes a moment; a bar per model only tears the campaign's own display.
    with reading(folder):
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
        model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=dtype, use_safetensors=True)
    return model.to(device).eval(), tokenizer


class ScriptedEvaluator:
    """The deterministic double: answers come from a function of the prompt and of the tensors last swapped in.

    For tests of whatever stands on an evaluator; loads nothing.
    """

    def __init__(self, script: "Script", shapes: Mapping[str, tuple[int, ...]] | None = None) -> None:
        self._script = script
        self._shapes = shapes
        self._tensors: Mapping[str, Tensor] = {}
        self.engine = "scripted"
        self.batch: int | None = None
        self.incidents: Mapping[str, int] = {}

    def check(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> None:
        """See `Evaluator.check`; all prompts fit."""

    def swap(self, tensors: Mapping[str, Tensor]) -> None:
        """See `Evaluator.swap`; names and shapes are checked if shapes were given."""
        for name, tensor in tensors.items():
            if self._shapes is not None and self._shapes.get(name) != tuple(tensor.shape):
                raise SwapError(
                    f"tensor '{name}': expected shape {self._shapes.get(name)}, got {tuple(tensor.shape)}; "
                    "merge checkpoints of the base's architecture"
                )
        self._tensors = dict(tensors)

    def restore(self) -> None:
        """See `Evaluator.restore`."""
        self._tensors = {}

    def answer(self, prompts: Sequence[Prompt], *, max_new_tokens: int, stop: Stop) -> list[str]:
        """See `Evaluator.answer`."""
        return [stop.cut(self._script(prompt, self._tensors)) for prompt in prompts]

    def close(self) -> None:
        """See `Evaluator.close`."""


class Script(Protocol):
    """What a `ScriptedEvaluator` says."""

    def __call__(self, prompt: Prompt, tensors: Mapping[str, Tensor]) -> str:
        """The text that follows the prompt."""
