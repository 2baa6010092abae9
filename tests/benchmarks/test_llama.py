import pytest
import torch

from benchmarks import llama as fast
from tests.benchmarks.conftest import WORDS, grouped_llama, llama

MODELS = {"tied": llama, "grouped, untied, scaled rotary": grouped_llama}


def prompts_with(prefix: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(prefix)
    head = torch.randint(2, len(WORDS), (prefix,), generator=generator).tolist()
    lengths = (23, 17, 17, 9, 1)
    return [head + torch.randint(2, len(WORDS), (n,), generator=generator).tolist() for n in lengths]


@torch.no_grad()
def reference(model, rows):
    return torch.stack([model(torch.tensor([row])).logits[0, -1] for row in rows])


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("prefix", [0, 30])
def test_logits_are_transformers_at_every_step_also_after_rows_were_dropped(build, prefix, monkeypatch):
    monkeypatch.setattr(fast, "PREFILL_TOKENS", 40)  # so that the prompts are read in several groups
    model, rows = build(), prompts_with(prefix)
    decoder = fast.LlamaDecoder(fast.LlamaWeights(model))
    logits = decoder.start(rows, prefix, 6)
    for step in range(6):
        assert torch.allclose(logits, reference(model, rows), atol=2e-4, rtol=1e-4)
        tokens = logits.argmax(-1)
        if step == 2:
            kept = torch.tensor([0, 2, 4])
            decoder.keep(kept)
            tokens, rows = tokens[kept], [rows[at] for at in kept.tolist()]
        rows = [[*row, token] for row, token in zip(rows, tokens.tolist(), strict=True)]
        logits = decoder.step(tokens)


def test_groups_keep_the_order_and_fit_the_limit(monkeypatch):
    monkeypatch.setattr(fast, "PREFILL_TOKENS", 40)
    assert fast._groups([23, 17, 17, 9, 1]) == [[0], [1, 2], [3, 4]]
    assert fast._groups([100, 1]) == [[0], [1]]


@pytest.mark.parametrize(
    "changes",
    [
        {"attention_bias": True},
        {"mlp_bias": True},
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
    ],
)
def test_what_is_not_covered_is_left_to_transformers(changes):
    assert fast.supports(llama().config)
    assert not fast.supports(llama(**changes).config)
