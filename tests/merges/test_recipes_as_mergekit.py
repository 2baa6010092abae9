"""Recipes as mergekit 0.1.5 makes them: the same YAML, run there and here, tensor by tensor."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from merges.apply import apply_recipe
from merges.recipes import read_recipe
from merges.tokenizer_files import read_vocabulary
from tests.environments import outside

pytestmark = pytest.mark.full

RUN = """\
import sys, yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
for name in sys.argv[1:]:
    recipe = MergeConfiguration.model_validate(yaml.safe_load(open(name + ".yaml")))
    run_merge(recipe, "theirs/" + name, MergeOptions(quiet=True, lora_merge_cache="loras"))
"""


def models(*parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"model": f"DIR/expert_{i}", "parameters": dict(given)} for i, given in enumerate(parameters)]


def layers(model: str, first: int, last: int, **parameters: Any) -> dict[str, Any]:
    return {"model": f"DIR/{model}", "layer_range": [first, last], **({"parameters": parameters} if parameters else {})}


BASE = {"base_model": "DIR/base"}
RECIPES: Mapping[str, dict[str, Any]] = {
    "linear": {"merge_method": "linear", "models": models({"weight": 1.0}, {"weight": 0.5}, {"weight": -0.2})},
    "linear_unnormalised": {"merge_method": "linear", "models": models({"weight": 0.4}, {"weight": 0.5}), "parameters": {"normalize": False}},
    "gradients": {"merge_method": "task_arithmetic", **BASE, "parameters": {"lambda": 0.8},
                  "models": models({"weight": [0, 0.5, 1]}, {"weight": [{"filter": "mlp", "value": [1, 0]}, {"value": 0.3}]})},
    "ties": {"merge_method": "ties", **BASE, "parameters": {"normalize": True, "int8_mask": True},
             "models": models({"weight": 0.5, "density": 0.7}, {"weight": [0.2, 1.0], "density": [1, 0.7, 0.1]}, {"weight": {"value": 1.0}, "density": 0.3})},
    "breadcrumbs": {"merge_method": "breadcrumbs", **BASE, "models": models({"weight": 0.5, "density": 0.7, "gamma": 0.05}, {"weight": 1.0})},
    "breadcrumbs_ties": {"merge_method": "breadcrumbs_ties", **BASE, "models": models({"weight": 0.5, "density": 0.7, "gamma": 0.05}, {"weight": 1.0, "density": 0.4})},
    "slerp": {"merge_method": "slerp", "base_model": "DIR/expert_0", "slices": [{"sources": [layers("expert_0", 0, 4), layers("expert_1", 0, 4)]}],
              "parameters": {"t": [{"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]}, {"filter": "mlp", "value": [1, 0.5, 0.7, 0.3, 0]}, {"value": 0.5}]}},
    "slerp_of_models": {"merge_method": "slerp", "base_model": "DIR/expert_1", "models": [{"model": "DIR/expert_0"}, {"model": "DIR/expert_1"}], "parameters": {"t": 0.3}},
    "passthrough": {"merge_method": "passthrough", "slices": [{"sources": [layers("expert_0", 0, 3)]},
                    {"sources": [layers("expert_1", 1, 4, scale=[{"filter": "o_proj", "value": 0.5}, {"value": 1.0}])]}]},
    "nuslerp": {"merge_method": "nuslerp", "models": models({"weight": 0.5}, {"weight": 0.9})},
    "nuslerp_by_rows": {"merge_method": "nuslerp", **BASE, "models": models({"weight": 0.5}, {"weight": 0.9}), "parameters": {"nuslerp_flatten": False}},
    "nuslerp_by_columns": {"merge_method": "nuslerp", **BASE, "models": models({"weight": 0.5}, {"weight": 0.9}),
                           "parameters": {"nuslerp_flatten": False, "nuslerp_row_wise": True}},
    "model_stock": {"merge_method": "model_stock", **BASE, "models": models({}, {}, {})},
    "model_stock_of_small_changes": {"merge_method": "model_stock", "base_model": "DIR/expert_2",
                                     "models": [{"model": "DIR/expert_2"}, {"model": "DIR/near_0"}, {"model": "DIR/near_1"}]},
    "model_stock_by_filter": {"merge_method": "model_stock", **BASE, "models": models({}, {}, {}), "parameters": {"filter_wise": True}},
    "karcher": {"merge_method": "karcher", "models": models({}, {}, {}), "parameters": {"max_iter": 5}},
    "multislerp": {"merge_method": "multislerp", **BASE, "models": models({"weight": 0.3}, {"weight": 0.5}, {"weight": 1})},
    "sce": {"merge_method": "sce", **BASE, "models": models({}, {}, {}), "parameters": {"select_topk": [0.2, 1.0]}},
    "nearswap": {"merge_method": "nearswap", **BASE, "models": models({}), "parameters": {"t": 0.01}},
    "arcee_fusion": {"merge_method": "arcee_fusion", **BASE, "models": models({})},
    "ram": {"merge_method": "ram", **BASE, "models": models({}, {})},
    "ramplus": {"merge_method": "ramplus_tl", **BASE, "models": models({}, {}), "parameters": {"alpha": 0.5}},
    "slices": {"merge_method": "ties", **BASE, "slices": [
        {"sources": [layers("base", 0, 2), layers("expert_0", 0, 2, weight=1, density=0.5)]},
        {"sources": [layers("base", 2, 4), layers("expert_1", 1, 3, weight=[0.2, 0.9], density=0.5)]}]},
    "module": {"merge_method": "linear", "modules": {"default": {"models": models({"weight": 1.0}, {"weight": 3.0})}}},
    "dtypes": {"merge_method": "linear", "models": models({"weight": 1.0}, {"weight": 0.5}), "dtype": "float32", "out_dtype": "bfloat16"},
    "adapter": {"merge_method": "task_arithmetic", **BASE, "models": [{"model": "DIR/base+DIR/adapter", "parameters": {"weight": 0.7}}, *models({"weight": 0.4})]},
    "vocabulary": {"merge_method": "linear", **BASE, "models": [*models({"weight": 0.5}, {"weight": 0.25}), {"model": "DIR/base", "parameters": {"weight": 0.25}}],
                   "tokenizer_source": "base"},
    "union": {"merge_method": "task_arithmetic", **BASE, "models": models({"weight": 0.5}, {"weight": 0.5}), "tokenizer_source": "union", "chat_template": "chatml"},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(mergekit_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models, and with what mergekit made of every recipe under theirs/."""
    folder = tmp_path_factory.mktemp("recipes")
    _make_models(folder)
    for name, recipe in RECIPES.items():
        text = yaml.safe_dump({"dtype": "float32", **recipe}).replace("DIR/", f"{folder}/")
        (folder / f"{name}.yaml").write_text(text)
    command = [str(mergekit_python), "-c", RUN, *RECIPES]
    done = subprocess.run(command, cwd=folder, env=outside(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def _make_models(folder: Path) -> None:
    """base, expert_0 to expert_2 near it, two of them with tokens of their own; and an adapter on the base."""
    from peft import LoraConfig, get_peft_model
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers import models as kinds
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    seed: dict[str, Tensor] = {}
    shared = ["<unk>", "<s>", "</s>", *"abcdefghij"]
    for number, name in enumerate(("base", "expert_0", "expert_1", "expert_2")):
        words = [*shared, *("+-", "*/", "+=", "-%")[number]]
        torch.manual_seed(number)
        config = LlamaConfig(vocab_size=len(words), hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2,
                             num_key_value_heads=1, max_position_embeddings=64, bos_token_id=1, eos_token_id=2)  # fmt: skip
        model = LlamaForCausalLM(config)
        for key, value in model.named_parameters():
            near = seed.get(key, torch.zeros_like(value))
            rows = min(len(near), len(value))
            value.data += 0.05 * torch.randn_like(value)
            if number:
                value.data[:rows] = near[:rows] + 0.3 * (value.data[:rows] - near[:rows])
        seed = seed or {key: value.data.clone() for key, value in model.named_parameters()}
        model.save_pretrained(folder / name)
        plain = Tokenizer(kinds.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
        plain.pre_tokenizer = pre_tokenizers.Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", bos_token="<s>", eos_token="</s>").save_pretrained(folder / name)  # fmt: skip
        for near in (0, 1) if number == 3 else ():
            model.eval()
            torch.manual_seed(10 + near)
            shifted = LlamaForCausalLM(config)
            shifted.load_state_dict(
                {key: value + 1e-5 * torch.randn_like(value) for key, value in model.state_dict().items()}
            )
            shifted.save_pretrained(folder / f"near_{near}")
        if number == 0:
            base = LlamaForCausalLM.from_pretrained(folder / "base")
            adapted = get_peft_model(base, LoraConfig(r=3, lora_alpha=7, target_modules=["q_proj", "down_proj"]))
            for key, value in adapted.named_parameters():
                if "lora_B" in key:
                    value.data = 0.1 * torch.randn_like(value)
            adapted.save_pretrained(folder / "adapter")


def tensors(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "union"])
def test_a_recipe_gives_mergekits_model(name: str, made: Path, tmp_path: Path) -> None:
    apply_recipe(read_recipe(made / f"{name}.yaml"), out=tmp_path / "ours")
    ours, theirs = tensors(tmp_path / "ours"), tensors(made / "theirs" / name)
    assert ours.keys() == theirs.keys()
    for tensor, expected in theirs.items():
        got = ours[tensor]
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype), tensor
        if got.dtype is torch.bfloat16:  # both computed in float32 and rounded once
            assert (got.view(torch.int16).int() - expected.view(torch.int16).int()).abs().max() <= 1, tensor
        else:
            assert (got - expected).abs().max() <= 1e-6 * expected.abs().max().clamp(min=1e-3), tensor
    configs = [
        json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "ours", made / "theirs" / name)
    ]
    for key in ("num_hidden_layers", "vocab_size"):
        assert configs[0][key] == configs[1][key]


def test_a_union_of_vocabularies_has_mergekits_rows(made: Path, tmp_path: Path) -> None:
    """Token by token: in which order mergekit appends tokens changes from run to run."""
    apply_recipe(read_recipe(made / "union.yaml"), out=tmp_path / "ours")
    ours, theirs = tensors(tmp_path / "ours"), tensors(made / "theirs" / "union")
    mine, other = read_vocabulary(tmp_path / "ours").tokens, read_vocabulary(made / "theirs" / "union").tokens
    assert set(mine) == set(other)
    assert len(mine) == 18
    order, reference = list(mine.values()), [other[token] for token in mine]
    for name, expected in theirs.items():
        got = ours[name]
        if len(expected) == len(other) and name != "model.norm.weight":
            got, expected = got[order], expected[reference]
        assert (got - expected).abs().max() <= 1e-6, name
    text = (tmp_path / "ours" / "chat_template.jinja").read_text()
    assert text == (made / "theirs" / "union" / "chat_template.jinja").read_text() or "<|im_start|>" in text
