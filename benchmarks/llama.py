"""A Llama forward for greedy decoding of many short answers, reading the weights where the evaluator keeps them.

Why not the transformers forward: for a model of a million parameters most of its time is Python and memory traffic,
not arithmetic (`benchmarks/speed/scoring.py` prints the ratio). What is different here:

- q/k/v and gate/up are one matrix each, so a layer is four products;
- the cache is laid out once per batch; a step writes one column and never concatenates;
- prompts are read in small groups that fit the processor's cache, in the last layer only where it is needed;
- a prefix that all prompts share (worked examples) is read once and attended to by all rows from one copy.

What is the same: the numbers, up to the order of floating-point sums (logits and answers equal to transformers' are
tests). Covered: `model_type` llama with SiLU, no biases, tied or untied head, rotary scaling independent of the length.
Not covered, and left to transformers by `supports`: everything else.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

PREFILL_TOKENS = 1024
"""Tokens read at a time while prompts are taken in; activations of this many tokens still fit a core's cache."""

_LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}


def supports(config: Any) -> bool:
    """Can `LlamaDecoder` run a model of this transformers config and give transformers' numbers?"""
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        config.model_type == "llama"
        and config.hidden_act == "silu"
        and not getattr(config, "attention_bias", False)
        and not getattr(config, "mlp_bias", False)
        and rope.get("rope_type", "default") not in _LENGTH_DEPENDENT_ROPE
    )


@dataclass(frozen=True)
class _Layer:
    qkv: Tensor
    out: Tensor
    gate_up: Tensor
    down: Tensor
    attention_norm: Tensor
    mlp_norm: Tensor


class LlamaWeights:
    """The resident weights. `views` maps every checkpoint name to the memory that the forward reads.

    Writing into a view is the swap: nothing is copied again, nothing is rebuilt.
    """

    def __init__(self, model: Any) -> None:
        config = model.config
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.epsilon: float = config.rms_norm_eps
        self.context: int = config.max_position_embeddings
        state: Mapping[str, Tensor] = model.state_dict()
        self.views: dict[str, Tensor] = {}
        self.embedding = self._own(state, "model.embed_tokens.weight")
        self.norm = self._own(state, "model.norm.weight")
        tied = state["lm_head.weight"].data_ptr() == state["model.embed_tokens.weight"].data_ptr()
        self.head = self.embedding if tied else self._own(state, "lm_head.weight")
        if tied:
            self.views["lm_head.weight"] = self.embedding
        self.layers = tuple(self._layer(state, f"model.layers.{i}.") for i in range(config.num_hidden_layers))
        self.rotary = model.model.rotary_emb

    def _own(self, state: Mapping[str, Tensor], *names: str) -> Tensor:
        joined = torch.cat([state[name].detach() for name in names]).contiguous()
        start = 0
        for name in names:
            rows = state[name].shape[0]
            self.views[name] = joined[start : start + rows]
            start += rows
        return joined

    def _layer(self, state: Mapping[str, Tensor], at: str) -> _Layer:
        attention, mlp = at + "self_attn.", at + "mlp."
        return _Layer(
            qkv=self._own(state, *(f"{attention}{part}_proj.weight" for part in "qkv")),
            out=self._own(state, attention + "o_proj.weight"),
            gate_up=self._own(state, mlp + "gate_proj.weight", mlp + "up_proj.weight"),
            down=self._own(state, mlp + "down_proj.weight"),
            attention_norm=self._own(state, at + "input_layernorm.weight"),
            mlp_norm=self._own(state, at + "post_attention_layernorm.weight"),
        )


class LlamaDecoder:
    """One batch of prompts being answered; see `decoding.Decoder` for the contract.

    Rows are laid out as [shared prefix | own prompt | gap up to the longest prompt | answer so far]. The gap is masked;
    the rotary position of a row counts only its own tokens, so it does not matter how wide the gap is.
    """

    def __init__(self, weights: LlamaWeights) -> None:
        self._w = weights

    @torch.inference_mode()
    def start(self, prompts: Sequence[Sequence[int]], prefix: int, budget: int) -> Tensor:
        """Reads the prompts; returns the logits [rows, vocabulary] of the first answer tokens.

        Args:
            prompts: token ids, at least `prefix` + 1 each.
            prefix: how many leading tokens all prompts share.
            budget: greatest number of `step` calls that will follow.
        """
        w = self._w
        self._device = w.embedding.device
        longest = max(len(prompt) for prompt in prompts) - prefix
        self._rope_tables(prefix + longest + budget)
        self._prefix = self._read_prefix(prompts[0][:prefix]) if prefix else None
        rows, layers = len(prompts), len(w.layers)
        shape = (layers, rows, w.kv_heads, longest + budget, w.head_dim)
        # Zeros: masked memory is still multiplied by a weight of zero, and what lies there by chance may be NaN.
        self._keys, self._values = (torch.zeros(shape, dtype=w.embedding.dtype, device=self._device) for _ in range(2))
        lengths = torch.tensor([len(prompt) - prefix for prompt in prompts], device=self._device)
        self._positions = lengths + prefix
        self._used = longest
        gap = torch.arange(longest + budget, device=self._device)[None] >= lengths[:, None]
        gap[:, longest:] = False
        self._mask = torch.zeros(gap.shape, dtype=w.embedding.dtype, device=self._device)
        self._mask = self._mask.masked_fill(gap, float("-inf"))[:, None, None]
        last = torch.cat([self._read(group, prompts, prefix) for group in _groups(lengths.tolist())])
        return self._logits(last)

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        """Adds one token to every row [rows]; returns the next logits [rows, vocabulary]."""
        w, at = self._w, self._used
        x = F.embedding(tokens, w.embedding)
        cos, sin = self._cos[self._positions], self._sin[self._positions]
        for index, layer in enumerate(w.layers):
            q, k, v = self._qkv(layer, x, cos, sin)
            self._keys[index, :, :, at] = k
            self._values[index, :, :, at] = v
            q = q.view(len(x), w.kv_heads, -1, w.head_dim)
            x = self._mlp(layer, torch.addmm(x, self._attend(index, q, at + 1), layer.out.t()))
        self._used += 1
        self._positions = self._positions + 1
        return self._logits(x)

    def keep(self, rows: Tensor) -> None:
        """Goes on with these rows only (indices, ascending)."""
        self._keys, self._values = self._keys[:, rows], self._values[:, rows]
        self._mask, self._positions = self._mask[rows], self._positions[rows]

    def _attend(self, index: int, q: Tensor, end: int) -> Tensor:
        """Attention of one new token per row; q is [rows, kv heads, query heads per kv head, head size]."""
        w = self._w
        keys, values, mask = self._keys[index, :, :, :end], self._values[index, :, :, :end], self._mask[..., :end]
        if self._prefix is None:  # reads the cache where it lies, which a product of matrices would copy first
            mixed = F.scaled_dot_product_attention(
                q.flatten(1, 2)[:, :, None], keys, values, attn_mask=mask, enable_gqa=w.heads != w.kv_heads
            )
            return mixed.view(len(q), -1)
        q = q * (1 / math.sqrt(w.head_dim))
        scores = torch.matmul(q, keys.transpose(-1, -2)).add_(mask)
        return self._attend_with_prefix(index, q, scores, values)

    def _attend_with_prefix(self, index: int, q: Tensor, scores: Tensor, values: Tensor) -> Tensor:
        assert self._prefix is not None
        rows, kv_heads, group, size = q.shape
        prefix_keys, prefix_values = (part[index] for part in self._prefix)
        by_head = q.transpose(0, 1).reshape(kv_heads, rows * group, size)
        before = torch.bmm(by_head, prefix_keys.transpose(-1, -2)).view(kv_heads, rows, group, -1).transpose(0, 1)
        weights = torch.softmax(torch.cat([before, scores], dim=-1), dim=-1, dtype=torch.float32).to(q.dtype)
        split = before.shape[-1]
        mixed = torch.matmul(weights[..., split:], values)
        on_prefix = weights[..., :split].transpose(0, 1).reshape(kv_heads, rows * group, split)
        mixed += torch.bmm(on_prefix, prefix_values).view(kv_heads, rows, group, size).transpose(0, 1)
        return mixed.reshape(rows, -1)

    def _read(self, group: Sequence[int], prompts: Sequence[Sequence[int]], prefix: int) -> Tensor:
        """Reads one group of neighbouring rows into the cache; returns their last hidden states [rows, hidden]."""
        own = [torch.tensor(prompts[row][prefix:], device=self._device) for row in group]
        ids = torch.nn.utils.rnn.pad_sequence(own, batch_first=True)
        lengths = torch.tensor([len(one) for one in own], device=self._device)
        first, width = group[0], ids.shape[1]
        x, keys, values = self._forward(ids, prefix, lengths - 1, self._prefix)
        rows = slice(first, first + len(group))
        for index in range(len(self._w.layers)):
            self._keys[index, rows, :, :width] = keys[index]
            self._values[index, rows, :, :width] = values[index]
        return x

    def _read_prefix(self, ids: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
        tokens = torch.tensor([list(ids)], device=self._device)
        _, keys, values = self._forward(tokens, 0, torch.tensor([len(ids) - 1], device=self._device), None)
        return [key[0] for key in keys], [value[0] for value in values]

    def _forward(
        self, ids: Tensor, offset: int, last: Tensor, prefix: tuple[list[Tensor], list[Tensor]] | None
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Whole prompts, right-padded: (hidden states at `last` [rows, hidden], keys, values per layer).

        Padding stands behind the real tokens, so a causal mask alone keeps it out of them.
        """
        w = self._w
        rows, width = ids.shape
        x = F.embedding(ids, w.embedding).flatten(0, 1)
        cos = self._cos[offset : offset + width].repeat(rows, 1, 1)
        sin = self._sin[offset : offset + width].repeat(rows, 1, 1)
        mask = None if prefix is None else _prefix_mask(prefix[0][0].shape[1], width, x)
        picked = torch.arange(rows, device=ids.device) * width + last
        all_keys, all_values = [], []
        for index, layer in enumerate(w.layers):
            parts = self._qkv(layer, x, cos, sin)
            q, k, v = (part.view(rows, width, -1, w.head_dim).transpose(1, 2) for part in parts)
            all_keys.append(k)
            all_values.append(v)
            if prefix is not None:
                k, v = (
                    torch.cat([part[index].expand(rows, -1, -1, -1), own], dim=2)
                    for part, own in zip(prefix, (k, v), strict=True)
                )
            mixed = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=w.heads != w.kv_heads
            )
            mixed = mixed.transpose(1, 2).reshape(rows * width, -1)
            if index == len(w.layers) - 1:  # Of the last layer only one position per row is ever used.
                x, mixed = x[picked], mixed[picked]
            x = self._mlp(layer, torch.addmm(x, mixed, layer.out.t()))
        return x, all_keys, all_values

    def _qkv(self, layer: _Layer, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated q and k, and v, each [tokens, heads, head size]; cos and sin are [tokens, 1, head size]."""
        w = self._w
        fused = F.linear(self._norm(x, layer.attention_norm), layer.qkv).view(len(x), -1, w.head_dim)
        turned = w.heads + w.kv_heads
        plain, half = fused[:, :turned], w.head_dim // 2
        rotated = plain * cos
        rotated[..., :half].addcmul_(plain[..., half:], sin[..., :half], value=-1)
        rotated[..., half:].addcmul_(plain[..., :half], sin[..., half:])
        return rotated[:, : w.heads], rotated[:, w.heads :], fused[:, turned:]

    def _mlp(self, layer: _Layer, x: Tensor) -> Tensor:
        gate, up = F.linear(self._norm(x, layer.mlp_norm), layer.gate_up).chunk(2, dim=-1)
        return torch.addmm(x, F.silu(gate).mul_(up), layer.down.t())

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        wide = x.float()
        scale = torch.linalg.vecdot(wide, wide).div_(x.shape[-1]).add_(self._w.epsilon).rsqrt_()
        normed: Tensor = (wide * scale[:, None]).to(x.dtype)
        return normed.mul_(weight)

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(self._norm(x, self._w.norm), self._w.head)

    def _rope_tables(self, length: int) -> None:
        positions = torch.arange(length, device=self._device)[None]
        cos, sin = self._w.rotary(self._w.embedding, positions)
        self._cos, self._sin = cos[0][:, None], sin[0][:, None]


def _groups(lengths: Sequence[int]) -> list[list[int]]:
    """Neighbouring rows, about PREFILL_TOKENS tokens a group."""
    groups: list[list[int]] = [[]]
    for row, length in enumerate(lengths):
        if groups[-1] and (len(groups[-1]) + 1) * max(length, *(lengths[r] for r in groups[-1])) > PREFILL_TOKENS:
            groups.append([])
        groups[-1].append(row)
    return groups


def _prefix_mask(prefix: int, width: int, like: Tensor) -> Tensor:
    """Additive mask [width, prefix + width]: all of the prefix, and of the own tokens those up to oneself."""
    seen = torch.ones(width, prefix + width, dtype=torch.bool, device=like.device).tril(prefix)
    return torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill(~seen, float("-inf"))
