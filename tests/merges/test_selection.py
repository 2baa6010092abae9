"""Which tensors a selection picks."""

from __future__ import annotations

import pytest

from merges.errors import SelectionError
from merges.selection import select

NAMES = (
    "model.embed_tokens.weight",
    "model.layers.0.mlp.up_proj.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.1.mlp.down_proj.weight",
    "model.layers.1.block_sparse_moe.experts.0.w1.weight",
    "decoder.layers.0.fc1.weight",
    "lm_head.weight",
)


def test_all_picks_everything_in_order():
    assert select(NAMES) == NAMES
    assert select(reversed(NAMES), "all") == NAMES[::-1]


def test_mlp_picks_the_feed_forward_layers_of_the_common_architectures():
    assert select(NAMES, "mlp") == (NAMES[1], NAMES[3], NAMES[4], NAMES[5])
    assert select(["transformer.h.0.mlp.c_fc.weight", "mlps.weight"], "mlp") == ("transformer.h.0.mlp.c_fc.weight",)


@pytest.mark.parametrize(
    ("selection", "picked"),
    [
        ("*.q_proj.*", NAMES[2:3]),
        ("model.layers.0.*", NAMES[1:3]),
        ("lm_head.weight, *embed*", (NAMES[0], NAMES[6])),
        (["lm_head.weight", "mlp"], (NAMES[1], NAMES[3], NAMES[4], NAMES[5], NAMES[6])),
        ("model.layers.[01].mlp.*", (NAMES[1], NAMES[3])),
    ],
)
def test_patterns_pick_in_the_order_of_the_names(selection, picked):
    assert select(NAMES, selection) == picked


@pytest.mark.parametrize("selection", ["nothing.*", "MLP", "", [], "Model.*"])
def test_selection_of_nothing_is_refused(selection):
    with pytest.raises(
        SelectionError, match=r"^selection '.*': expected 'all', 'mlp' or a pattern .* correct the pattern$"
    ):
        select(NAMES, selection)
