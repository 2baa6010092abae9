"""Configs of anything but plain LoRA are refused, each in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from merges.adapters import Adapted
from merges.checkpoints import Checkpoint
from merges.errors import CheckpointError
from tests.merges.written_adapters import K, factors, flat, written

CONFIG_REFUSALS = {
    "kind": ({"peft_type": "IA3"}, r"expected an adapter of peft_type 'LORA', got 'IA3'; merge it into its model with peft first$"),
    "kind_missing": ({"peft_type": None}, r"expected an adapter of peft_type 'LORA', got None; merge it"),
    "dora": ({"use_dora": True}, r"expected plain LoRA, got use_dora = True; merge it into its model with peft first$"),
    "qalora": ({"use_qalora": True}, r"expected plain LoRA, got use_qalora = True; merge"),
    "lora_bias": ({"lora_bias": True}, r"expected plain LoRA, got lora_bias = True; merge"),
    "tokens": ({"trainable_token_indices": [3]}, r"expected plain LoRA, got trainable_token_indices = \[3\]; merge"),
    "parameters": ({"target_parameters": ["experts.up"]}, r"expected plain LoRA, got target_parameters = .*; merge"),
    "replication": ({"layer_replication": [[0, 2], [1, 3]]}, r"expected plain LoRA, got layer_replication = .*; merge"),
    "later_peft": ({"use_new_thing": {"a": 1}}, r"expected plain LoRA, got use_new_thing = {'a': 1}; merge"),
    "pissa": ({"init_lora_weights": "pissa"}, r"expected factors that add to the model as it was, got init_lora_weights = 'pissa', .*; save the"),
    "olora": ({"init_lora_weights": "olora"}, r".*got init_lora_weights = 'olora', which changes the model too; save the adapter again"),
    "no_rank": ({"r": 0}, r"expected r to be a whole number from 1 on, got 0; save the adapter again$"),
    "rank_true": ({"r": True}, r"expected r to be a whole number from 1 on, got True; save"),
    "alpha_infinite": ({"lora_alpha": float("inf")}, r"expected lora_alpha to be a finite number, got inf; save"),
    "alpha_nan": ({"lora_alpha": float("nan")}, r"expected lora_alpha to be a finite number, got nan; save"),
    "alpha_huge": ({"lora_alpha": 10**400}, r"expected lora_alpha to be a finite number, got 1000+…?0*.*; save"),
    "alpha_text": ({"lora_alpha": "16"}, r"expected lora_alpha to be a finite number, got '16'; save"),
    "rslora_text": ({"use_rslora": "yes"}, r"expected use_rslora to be true or false, got 'yes'; save"),
    "turned_text": ({"fan_in_fan_out": 2}, r"expected fan_in_fan_out to be true or false, got 2; save"),
    "rank_pattern_list": ({"rank_pattern": [4]}, r"expected rank_pattern to be an object of whole numbers from 1 on, got \[4\]; save"),
    "rank_pattern_zero": ({"rank_pattern": {"a": 0}}, r"expected rank_pattern to be an object of whole numbers from 1 on, got {'a': 0}; save"),
    "alpha_pattern_text": ({"alpha_pattern": {"a": "b"}}, r"expected alpha_pattern to be an object of finite numbers, got {'a': 'b'}; save"),
    "pattern_broken": ({"rank_pattern": {"(": 4}}, r"expected regular expressions as patterns, got '\(' \(.*\); save the adapter again$"),
    "pattern_overflows": ({"alpha_pattern": {"a{99999999999999999999}": 4}}, r"expected regular expressions as patterns, got 'a{9+}' \(.*\); save"),
    "saved_text": ({"modules_to_save": "lm_head"}, r"expected modules_to_save to be a list of names, got 'lm_head'; save"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFIG_REFUSALS)
def test_config_of_something_else_is_refused_in_one_line(tmp_path: Path, base: Checkpoint, case: str) -> None:
    config, message = CONFIG_REFUSALS[case]
    folder = written(tmp_path / "adapter", factors(K, 8, 16), **config)
    with pytest.raises(CheckpointError, match=rf"^{folder}/adapter_config.json: {message}") as caught:
        Adapted.open(folder, base)
    assert "\n" not in str(caught.value)


def test_settings_that_decide_nothing_are_passed_over(tmp_path: Path, base: Checkpoint) -> None:
    config = {
        "bias": "lora_only",
        "lora_dropout": 0.1,
        "init_lora_weights": "gaussian",
        "use_new_thing": None,
        "r": None,
        "rank_pattern": None,
    }
    folder = written(tmp_path / "adapter", factors(K, 8, 16, rank=8), lora_alpha=8, **config)
    known = Adapted.open(folder, base).change(f"{K}.weight", 0, 128, base)
    tensors = factors(K, 8, 16, rank=8)
    down, up = (tensors[f"base_model.model.{K}.lora_{side}.weight"] for side in "AB")
    torch.testing.assert_close(known, flat(up @ down))
