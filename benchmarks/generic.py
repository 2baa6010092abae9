"""Any transformers causal LM behind the decoder contract: the slower way, for what `llama.py` does not cover."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class TransformersDecoder:
    """One batch through the model's own forward and `DynamicCache`; see `decoding.Decoder` for the contract.

    Left padding, with positions that count only a row's own tokens. A shared prefix is read once, stands before the padding, and its part
    of the cache is repeated for every row.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    @torch.inference_mode()
    def start(self, prompts: Sequence[Sequence[int]], prefix: int, budget: int) -> Tensor:
        """Logits [rows, vocabulary] after the prompts."""
        from transformers import DynamicCache

        device, rows = self._model.device, len(prompts)
        own = [prompt[prefix:] for prompt in prompts]
        longest = max(map(len, own))
        ids = torch.zeros(rows, longest, dtype=torch.long)
        mask = torch.zeros(rows, longest, dtype=torch.long)
        for row, tokens in enumerate(own):
            ids[row, longest - len(tokens) :] = torch.tensor(tokens)
            mask[row, longest - len(tokens) :] = 1
        self._cache = DynamicCache(config=self._model.config)
        if prefix:
            self._mask = torch.ones(1, prefix, dtype=torch.long, device=device)
            self._forward(
                torch.tensor([list(prompts[0][:prefix])], device=device), torch.arange(prefix, device=device)[None]
            )
            self._cache.batch_repeat_interleave(rows)
        self._mask = torch.cat([torch.ones(rows, prefix, dtype=torch.long), mask], dim=1).to(device)
        positions = (self._mask.cumsum(-1) - 1).clamp(min=0)
        self._positions = positions[:, -1:]
        return self._forward(ids.to(device), positions[:, prefix:])

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        """Logits [rows, vocabulary] after one more token per row."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        self._positions = self._positions + 1
        return self._forward(tokens[:, None], self._positions)

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but these."""
        self._cache.batch_select_indices(rows)
        self._mask, self._positions = self._mask[rows], self._positions[rows]

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        out = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = out.logits[:, -1]
        return logits
