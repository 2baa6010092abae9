"""The greedy loop: prompts in, answers out, with the rows that are finished thrown out on the way.

Greedy decoding only: scores must be repeatable, and a search over merge programs must not confuse luck with skill.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor

from benchmarks.answers import FINAL_MARK

SHRINK_BELOW = 0.7
"""Rows are dropped from the cache once fewer than this share of them is still unfinished: dropping copies the cache."""

MIN_SHARED_PREFIX = 24
"""Shorter shared prefixes are read row by row: attending to them apart costs more than it saves."""


@dataclass(frozen=True)
class Stop:
    """When an answer is over, besides the tokenizer's end tokens. It applies to the answer's text alone.

    Attributes:
        strings: the answer ends before the first of them.
        final_line: the answer ends after the line that holds `#### `, once that line is over.
    """

    strings: tuple[str, ...] = ()
    final_line: bool = False

    def end(self, text: str) -> int | None:
        """Where the answer ends in `text`; None while it is not over."""
        ends = [at for at in (text.find(string) for string in self.strings) if at >= 0]
        mark = text.find(FINAL_MARK + " ") if self.final_line else -1
        if mark >= 0 and (line_end := text.find("\n", mark)) >= 0:
            ends.append(line_end)
        return min(ends, default=None)

    def cut(self, text: str) -> str:
        """The answer without what comes after its end."""
        end = self.end(text)
        return text if end is None else text[:end]

    @property
    def characters(self) -> frozenset[str]:
        """A text can only become over by a token that holds one of these."""
        return frozenset(string[-1] for string in self.strings if string) | ({"\n"} if self.final_line else frozenset())


class Decoder(Protocol):
    """A model reading a batch of prompts and then one token per row at a time; it owns its cache."""

    def start(self, prompts: Sequence[Sequence[int]], prefix: int, budget: int) -> Tensor:
        """Logits [rows, vocabulary] after the prompts; `prefix` leading tokens are the same in all of them."""

    def step(self, tokens: Tensor) -> Tensor:
        """Logits [rows, vocabulary] after one more token per row."""

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but these (ascending indices)."""


class Texts:
    """Token ids to text and back, and which tokens can end an answer; one per evaluator."""

    def __init__(self, tokenizer: Any, end_ids: frozenset[int], vocabulary: int) -> None:
        self._tokenizer = tokenizer
        self.end_ids = end_ids
        self._vocabulary = vocabulary
        self.triggers = lru_cache(maxsize=8)(self._triggers)

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt, with the tokenizer's own special tokens."""
        encoded: list[list[int]] = self._tokenizer(list(prompts))["input_ids"] if prompts else []
        return encoded

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer, special tokens left out."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _triggers(self, stop: Stop) -> frozenset[int]:
        """Ids after which the text must be looked at: those whose own text holds a character that can end an answer."""
        characters = stop.characters
        # A lone token may lose its leading space, or show as a replacement mark: then only looking each time is safe.
        if any(not (c == "\n" or (c.isascii() and c.isprintable() and c != " ")) for c in characters):
            return frozenset(range(self._vocabulary))
        known = min(self._vocabulary, len(self._tokenizer))
        texts = self._tokenizer.batch_decode([[i] for i in range(known)], clean_up_tokenization_spaces=False)
        return frozenset(i for i, text in enumerate(texts) if not characters.isdisjoint(text))


def shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Leading tokens that all prompts share, at least one of each prompt left over; 0 where it is not worth it."""
    if len(prompts) < 2:
        return 0
    low, high = min(map(list, prompts)), max(map(list, prompts))
    length = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    length = min(length, min(len(prompt) for prompt in prompts) - 1)
    return length if length >= MIN_SHARED_PREFIX else 0


@torch.inference_mode()
def greedy(
    decoder: Decoder, prompts: Sequence[Sequence[int]], texts: Texts, *, prefix: int, max_new_tokens: int, stop: Stop
) -> list[str]:
    """Answers to one batch of prompts (token ids), cut where they are over, in the order of the prompts."""
    triggers = texts.triggers(stop)
    answers: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))  # Which prompt each row of the decoder belongs to.
    running = set(rows)
    logits = decoder.start(prompts, prefix, max_new_tokens - 1)
    for left in range(max_new_tokens - 1, -1, -1):
        tokens = logits.max(dim=-1).indices  # as argmax, in a quarter of its time
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if row not in running:
                continue
            if token in texts.end_ids:
                running.discard(row)
                continue
            answers[row].append(token)
            if token in triggers and stop.end(texts.decode(answers[row])) is not None:
                running.discard(row)
        if not running or not left:
            break
        if len(running) < SHRINK_BELOW * len(rows):
            kept = torch.tensor([at for at, row in enumerate(rows) if row in running], device=tokens.device)
            decoder.keep(kept)
            tokens = tokens[kept]
            rows = [row for row in rows if row in running]
        logits = decoder.step(tokens)
    return [stop.cut(texts.decode(answer)) for answer in answers]
