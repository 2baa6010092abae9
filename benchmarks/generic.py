"""Any transformers causal LM behind the decoder contract: the slower way, for what `llama.py` does not cover."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class TransformersDecoder:
    """One batch through the model's own forward and `DynamicCache`; see `decoding.Decoder` for the contract.

    Left padding, with positions that count only a row's own tokens. A shared prefix is read once per row like the rest.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    @torch.inference_mode()
    def start(self, prompts: Sequence[Sequence[int]], prefix: int, budget: int) -> Tensor:
        """Logits [rows, vocabulary] after the prompts."""
        from transformers import DynamicCache

        device = self._model.device
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        self._mask = torch.zeros(len(prompts), longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            self._mask[row, longest - len(prompt) :] = 1
        self._mask = self._mask.to(device)
        self._cache = DynamicCache(config=self._model.config)
        positions = (self._mask.cumsum(-1) - 1).clamp(min=0)
        self._positions = positions[:, -1:]
        return self._forward(ids.to(device), positions)

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
