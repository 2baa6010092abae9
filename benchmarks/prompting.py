"""What a model is asked, as token ids: the same for every evaluator, so that two of them are asked the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks.decoding import Texts
from benchmarks.errors import ModelFolderError, PromptTooLongError, SwapError

if TYPE_CHECKING:
    from benchmarks.evaluators import Chat, Prompt


class Prompting:
    """One tokenizer and one context.

    Args:
        tokenizer: a Hugging Face tokenizer.
        texts: the same tokenizer's ids to text and back.
        context: tokens of prompt and answer together that the model can read.
    """

    def __init__(self, tokenizer: Any, texts: Texts, context: int) -> None:
        self._tokenizer = tokenizer
        self._texts = texts
        self._context = context

    def encode(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[list[int]]:
        """Token ids of each prompt; a `Chat` goes through the model's template.

        Raises:
            ModelFolderError: a `Chat`, and the tokenizer has no template.
            PromptTooLongError: the longest prompt and `max_new_tokens` exceed the context.
        """
        encoded = self._encode(prompts)
        self.check(encoded, max_new_tokens)
        return encoded

    def check(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
        """Raises PromptTooLongError where the longest of these token ids and `max_new_tokens` exceed the context."""
        longest = max((len(ids) for ids in prompts), default=0)
        if longest + max_new_tokens > self._context:
            raise PromptTooLongError(
                f"prompts: expected at most {self._context - max_new_tokens} tokens ({self._context} of context less "
                f"{max_new_tokens} to answer), got {longest}; use fewer worked examples or shorter answers"
            )

    def _encode(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        plain = [prompt for prompt in prompts if isinstance(prompt, str)]
        if len(plain) == len(prompts):
            return self._texts.encode(plain)
        if not self._tokenizer.chat_template:
            raise ModelFolderError(
                "tokenizer: expected a chat template, got a tokenizer without one; score in plain mode (chat off)"
            )
        return [self._texts.encode([one])[0] if isinstance(one, str) else self._chat(one) for one in prompts]

    def _chat(self, prompt: Chat) -> list[int]:
        turns = [{"role": role, "content": content} for role, content in prompt.turns]
        text = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer: those of the model's generation config, and the tokenizer's own."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    several = configured if isinstance(configured, list) else [configured]
    return frozenset(i for i in [*several, tokenizer.eos_token_id] if i is not None)


def check_tokenizer(folder: str | Path, tokenizer: Any, rows: int) -> None:
    """Does every token have a row in the embedding?

    Raises:
        ModelFolderError: the tokenizer has more tokens than the embedding rows.
    """
    if len(tokenizer) > rows:
        raise ModelFolderError(
            f"model '{folder}': expected at most {rows} tokens, the rows of its embedding, got a tokenizer "
            f"with {len(tokenizer)}; give the model its own tokenizer"
        )


def check_swap(tensors: Mapping[str, Tensor], views: Mapping[str, Tensor]) -> None:
    """Do tensors fit the resident weights? `views`: name -> memory; tied names share theirs.

    Raises:
        SwapError: an unknown name, a wrong shape, or different values for two names of one memory.
    """
    owners: dict[int, str] = {}
    for name, tensor in tensors.items():
        view = views.get(name)
        if view is None:
            raise SwapError(
                f"tensor '{name}': expected a weight of the resident model, got an unknown name; "
                "merge checkpoints of the base's architecture"
            )
        if view.shape != tensor.shape:
            raise SwapError(
                f"tensor '{name}': expected shape {tuple(view.shape)} as in the base, got {tuple(tensor.shape)}; "
                "resize it before merging or leave it out of the merge"
            )
        other = owners.setdefault(view.data_ptr(), name)
        if other != name and not torch.allclose(tensors[other], tensor, rtol=0, atol=0, equal_nan=True):
            raise SwapError(
                f"tensors '{other}' and '{name}': expected equal values, as the base ties them, "
                "got different ones; give only one of the two"
            )
