"""Batched sampling from a causal language model: reproducible per prompt, and quick for a small model on a CPU.

Every prompt has a seed of its own, and its noise is drawn before the first step, so what a prompt yields does not depend on its
place in a batch (up to the rounding of another batch shape). `transformers.generate` draws from one global generator, decodes
finished rows to the end of the batch, and reads a shared prompt once for every row; this loop does none of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

BATCH = 64  # prompts decoded together; larger is no quicker on two cores and holds more cache
GROWTH = 128  # tokens by which the cache grows
KEEP_SHARE = 0.8  # finished rows are dropped from the batch when fewer than this share are still running


def sample_texts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    temperature: float,
    seeds: Sequence[int],
    max_new_tokens: int,
    *,
    top_p: float = 1.0,
    top_k: int = 0,
    batch: int = BATCH,
    special_tokens: bool = True,
) -> list[str]:
    """Sample one continuation for every prompt, in order; the text after the prompt, without the end token.

    Args:
        model: a causal language model of transformers, in evaluation mode; left where it is.
        tokenizer: its tokenizer, with an end token.
        temperature: above 0; 1.0 samples from the model as it is.
        seeds: one per prompt, any integers.
        max_new_tokens: a continuation that has not ended by then is cut.
        top_p: share of the probability kept, the likeliest tokens first; 1.0 keeps all.
        top_k: only so many tokens, the likeliest ones, before top_p is looked at; 0: all.
        batch: prompts decoded together.
        special_tokens: put the tokenizer's own special tokens (as a begin token) around each prompt. A chat template
            has put them already, so its prompts go without.
    """
    assert len(seeds) == len(prompts), (len(seeds), len(prompts))
    assert temperature > 0, temperature
    texts: list[str] = []
    ids = {prompt: tokenizer(prompt, add_special_tokens=special_tokens).input_ids for prompt in set(prompts)}
    for start in range(0, len(prompts), batch):
        part = slice(start, start + batch)
        noise = torch.stack([_noise(seed, max_new_tokens) for seed in seeds[part]])
        for tokens in _decode(
            model, tokenizer.eos_token_id, [ids[p] for p in prompts[part]], temperature, noise, top_p, top_k
        ):
            texts.append(tokenizer.decode(tokens, skip_special_tokens=True))
    return texts


def _noise(seed: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed % 2**63)
    return torch.rand(count, generator=generator, dtype=torch.float64)


@torch.inference_mode()
def _decode(
    model: Any, end: int, prompts: Sequence[Sequence[int]], temperature: float, noise: Tensor, top_p: float, top_k: int
) -> list[list[int]]:
    device = model.device
    logits, cache, mask = _read_prompts(model, end, prompts)
    position = mask.sum(1, keepdim=True)
    alive = torch.arange(len(prompts))
    written: list[list[int]] = [[] for _ in prompts]
    for step in range(noise.shape[1]):
        chosen = choose(logits, temperature, noise[alive, step].to(device), top_p, top_k)
        running = chosen != end
        for row, token, goes_on in zip(alive.tolist(), chosen.tolist(), running.tolist(), strict=True):
            if goes_on and (not written[row] or written[row][-1] >= 0):
                written[row].append(token)
            elif not goes_on:
                written[row].append(-1)  # ended: later tokens of this row are not kept
        ended = torch.tensor([bool(written[row]) and written[row][-1] < 0 for row in alive.tolist()])
        if bool(ended.all()) or step + 1 == noise.shape[1]:
            break
        if int((~ended).sum()) < KEEP_SHARE * len(alive):
            kept = (~ended).nonzero().flatten()
            alive = alive[kept]
            kept = kept.to(device)
            cache.batch_select_indices(kept)
            chosen, mask, position = chosen[kept], mask[kept], position[kept]
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
        logits = model(
            input_ids=chosen[:, None], attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True
        ).logits[:, -1]
        position = position + 1
    return [[token for token in tokens if token >= 0] for tokens in written]


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A cache layer with room to spare: appending writes in place. `DynamicLayer` copies all it holds for every token, which took
    most of the time of sampling from a small model.
    """

    def __init__(self) -> None:
        super().__init__()
        self.length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[-2]
        if end > self.keys.shape[-2]:
            self.keys, self.values = self._grown(self.keys, end), self._grown(self.values, end)
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def _grown(self, held: Tensor, needed: int) -> Tensor:
        size = (held.shape[0], held.shape[1], -(-needed // GROWTH) * GROWTH, held.shape[3])
        larger = held.new_empty(size)
        larger[:, :, : self.length] = held[:, :, : self.length]
        return larger

    def get_seq_length(self) -> int:
        return self.length


def _padded(prompts: Sequence[Sequence[int]], filler: int) -> tuple[Tensor, Tensor]:
    """Ids and mask, prompts flush right. The mask hides the filler, so any id will do: not every tokenizer has one for it."""
    width = max(len(ids) for ids in prompts)
    rows = torch.tensor([[filler] * (width - len(ids)) + list(ids) for ids in prompts], dtype=torch.long)
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], dtype=torch.long)
    return rows, mask


def _read_prompts(model: Any, end: int, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Cache, Tensor]:
    """Logits after each prompt, the cache, the mask. A prompt that all rows share is read once."""
    shared = all(ids == prompts[0] for ids in prompts)
    ids, mask = (part.to(model.device) for part in _padded(prompts[:1] if shared else prompts, end))
    cache = Cache(layer_class_to_replicate=RoomyLayer)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    if shared:
        cache.batch_repeat_interleave(len(prompts))
        return logits.expand(len(prompts), -1), cache, mask.expand(len(prompts), -1)
    return logits, cache, mask


def choose(logits: Tensor, temperature: float, uniform: Tensor, top_p: float = 1.0, top_k: int = 0) -> Tensor:
    """One token per row by inverting the cumulative distribution at `uniform` (one number in [0, 1) per row)."""
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    probabilities = torch.softmax(logits.double() / temperature, dim=-1)
    if top_p < 1.0:
        ordered, places = probabilities.sort(dim=-1, descending=True)
        ordered[ordered.cumsum(-1) - ordered >= top_p] = 0.0
        probabilities = torch.zeros_like(probabilities).scatter(-1, places, ordered)
    cumulative = probabilities.cumsum(-1)
    target = uniform[:, None].to(cumulative.dtype) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True).clamp(max=logits.shape[-1] - 1).squeeze(1)
