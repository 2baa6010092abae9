"""An adapter on a model gives what peft gives when it loads the adapter and merges the two, whatever the cuts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from merges.adapters import Adapted
from merges.checkpoints import Checkpoint
from tests.merges.written_adapters import bits, flat

LINEARS = ["q_proj", "k_proj", "down_proj"]
VARIANTS: Mapping[str, tuple[str, dict[str, Any], set[str]]] = {
    "plain": ("base", {"r": 4, "lora_alpha": 6, "target_modules": LINEARS}, {"q_proj", "k_proj", "down_proj"}),
    "all_linear": ("base", {"r": 2, "target_modules": "all-linear", "bias": "none"}, {"gate_proj", "v_proj"}),
    "rslora": ("base", {"r": 5, "lora_alpha": 7, "use_rslora": True, "target_modules": LINEARS}, {"q_proj"}),
    "patterns": (
        "base",
        {
            "r": 4,
            "target_modules": [*LINEARS, "gate_proj"],
            "rank_pattern": {"^model.layers.0.self_attn.q_proj": 7, r"layers\.1\.self_attn\..*_proj": 3, "down_proj": 2},
            "alpha_pattern": {"proj": 99, "gate": 98, "[kq]_proj": 5, r".*\.1\.mlp\.down_proj": 1},
        },
        {"gate_proj"},
    ),
    "patterns_rslora": (
        "base",
        {"r": 4, "use_rslora": True, "target_modules": LINEARS, "rank_pattern": {"k_proj": 9}, "alpha_pattern": {"k_proj": 30}},
        {"k_proj"},
    ),
    "embedding": ("base", {"r": 3, "lora_alpha": 5, "target_modules": ["embed_tokens", "v_proj"]}, {"embed_tokens", "v_proj"}),
    "embedding_and_head": ("base", {"r": 3, "target_modules": ["embed_tokens", "lm_head"]}, {"embed_tokens", "lm_head"}),
    "saved_head": ("base", {"r": 4, "target_modules": LINEARS, "modules_to_save": ["lm_head", "norm"]}, {"q_proj"}),
    "tied_embedding": ("tied", {"r": 3, "target_modules": ["embed_tokens", "q_proj"]}, {"embed_tokens", "q_proj"}),
    "tied_head": ("tied", {"r": 3, "target_modules": ["lm_head"]}, {"embed_tokens"}),
    "conv1d": ("gpt2", {"r": 4, "target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}, {"c_attn", "c_proj", "c_fc"}),
    "conv1d_and_embedding": ("gpt2", {"r": 4, "target_modules": ["c_attn", "wte"], "fan_in_fan_out": True}, {"c_attn", "wte"}),
}  # fmt: skip
"""Name -> model, LoraConfig, last names of some modules that must change. A rank or alpha that a pattern gives differs from every other."""

PEFT_WARNS = pytest.mark.filterwarnings(
    "ignore:Setting `save_embedding_layers`",
    "ignore:Model with `tie_word_embeddings=True`",
    "ignore:.*tie_word_embeddings",
    "ignore:The following alpha_pattern keys did not match",  # "proj" and "gate" are no whole names
)
WHOLE = {"lm_head.weight", "model.norm.weight"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def models(llamas: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The llamas and a GPT-2, whose attention projects to a square weight."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(4)
    folder = tmp_path_factory.mktemp("gpt2")
    config = GPT2Config(vocab_size=19, n_positions=8, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return {**llamas, "gpt2": folder}


@pytest.fixture(scope="module")
def made(
    models: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Path, dict[str, Tensor]]]:
    """made(model, LoraConfig's arguments) -> what peft saves for random factors, and the tensors that it makes of that."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    def make(
        model: str, arguments: Mapping[str, Any], dtype: torch.dtype = torch.float32
    ) -> tuple[Path, dict[str, Tensor]]:
        torch.manual_seed(11)
        plain = AutoModelForCausalLM.from_pretrained(models[model], dtype=torch.float32)
        adapted = get_peft_model(plain, LoraConfig(**arguments))
        for name, parameter in adapted.named_parameters():
            if ".lora_" in name:
                parameter.data = (0.05 * torch.randn_like(parameter)).to(dtype)
            elif ".modules_to_save." in name:
                parameter.data += 0.05 * torch.randn_like(parameter)
        folder = tmp_path_factory.mktemp("adapter")
        adapted.save_pretrained(str(folder))
        again = AutoModelForCausalLM.from_pretrained(models[model], dtype=torch.float32)
        merged = PeftModel.from_pretrained(again, str(folder)).merge_and_unload().state_dict()
        return folder, {name: tensor.clone() for name, tensor in merged.items()}

    return make


@PEFT_WARNS
@pytest.mark.parametrize("variant", VARIANTS)
def test_tensors_are_those_that_peft_merges(
    variant: str, models: Mapping[str, Path], made: Callable[..., tuple[Path, dict[str, Tensor]]]
) -> None:
    model, arguments, touched = VARIANTS[variant]
    folder, merged = made(model, arguments)
    origin = Checkpoint.open(models[model])
    adapted = Adapted.open(folder, origin)
    assert (adapted.names, adapted.shapes, adapted.config) == (origin.names, origin.shapes, origin.config)
    changed = set()
    for name in origin.names:
        before, after, change = (
            origin.read(name),
            adapted.read(name),
            adapted.change(name, 0, origin.read(name).numel(), origin),
        )
        torch.testing.assert_close(after.float(), merged[name], rtol=0, atol=1e-6, msg=name)
        assert after.dtype is adapted.dtypes[name]
        assert after.shape == adapted.shapes[name]
        if variant == "saved_head" and (name in WHOLE or "layernorm" in name):
            assert torch.equal(after, merged[name])
            assert change is None
            continue
        assert change is not None
        torch.testing.assert_close(change, flat(merged[name] - before.float()), rtol=0, atol=1e-6, msg=name)
        if after.dtype is before.dtype and torch.equal(after, before):
            assert not change.any()
            continue
        assert after.dtype is torch.float32
        assert torch.equal(after, before.float() + change.reshape(before.shape))
        changed.add(name.split(".")[-2])
    assert touched <= changed
    if "lm_head.weight" in merged:
        torch.testing.assert_close(adapted.read("lm_head.weight").float(), merged["lm_head.weight"], rtol=0, atol=1e-6)


def test_factors_in_bfloat16_are_multiplied_in_float32(models: Mapping[str, Path], made: Callable[..., Any]) -> None:
    folder, _ = made("base", VARIANTS["plain"][1], torch.bfloat16)
    name = "model.layers.1.self_attn.k_proj"
    tensors = load_file(folder / "adapter_model.safetensors")
    down, up = (tensors[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
    assert down.dtype is torch.bfloat16
    origin = Checkpoint.open(models["base"])
    change = Adapted.open(folder, origin).change(f"{name}.weight", 0, 8 * 16, origin)
    torch.testing.assert_close(change, flat(1.5 * up.float() @ down.float()), rtol=0, atol=1e-8)


@PEFT_WARNS
@pytest.mark.parametrize("variant", ["patterns", "embedding", "saved_head", "conv1d"])
def test_parts_are_the_bits_of_the_whole_wherever_they_are_cut(
    variant: str, models: Mapping[str, Path], made: Callable[..., Any]
) -> None:
    model, arguments, _ = VARIANTS[variant]
    origin = Checkpoint.open(models[model])
    adapted = Adapted.open(made(model, arguments)[0], origin)
    for name in origin.names:
        whole = adapted.read(name)
        total = whole.numel()
        for step in (1, 7, 16, 33, 1000):
            cuts = [(start, min(start + step, total)) for start in range(0, total, step)]
            into = torch.empty(step + 3, dtype=adapted.dtypes[name])
            assert adapted.read_part(name, 0, 1, into).data_ptr() == into.data_ptr()
            assert torch.equal(bits(torch.cat([adapted.read_part(name, *cut) for cut in cuts])), bits(flat(whole)))
            assert torch.equal(
                bits(torch.cat([adapted.read_part(name, *cut, into).clone() for cut in cuts])), bits(flat(whole))
            )
            known = adapted.change(name, 0, total, origin)
            if known is not None:
                parts = [adapted.change(name, *cut, origin) for cut in cuts]
                assert torch.equal(bits(torch.cat([part for part in parts if part is not None])), bits(known))
