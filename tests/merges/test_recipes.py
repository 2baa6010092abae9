"""mergekit's YAML here: what is read, what is refused, and what a recipe makes without mergekit at hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from merges.apply import apply_recipe, open_named
from merges.errors import CheckpointError, MergeUserError, OptionError, ShapeError
from merges.mergekit import plan_recipe
from merges.provenance import verify_folder
from merges.recipes import parameter, read_recipe

Write = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """written(recipe as a dict or text) -> the file."""

    def write(recipe: Any) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(recipe if isinstance(recipe, str) else yaml.safe_dump(recipe))
        return path

    return write


def linear(llamas: Mapping[str, Path], **more: Any) -> dict[str, Any]:
    names = ("expert_a", "expert_b")
    return {
        "merge_method": "linear",
        "models": [{"model": str(llamas[name]), "parameters": {"weight": 1}} for name in names],
        **more,
    }


def made(recipe: Path, out: Path) -> dict[str, Tensor]:
    apply_recipe(read_recipe(recipe), out=out)
    return load_file(out / "model.safetensors")


@pytest.mark.parametrize(
    ("setting", "tensor", "t", "value"),
    [
        (0.3, "a", 0.5, 0.3),
        ("1e-1", "a", 0.5, 0.1),
        ([0, 1], "a", 0.25, 0.25),
        ([0, 1, 3], "a", 0.75, 2.0),
        ([4], "a", 1.0, 4.0),
        ([{"filter": "mlp", "value": [0, 1]}, {"value": 0.7}], "x.mlp.y", 0.5, 0.5),
        ([{"filter": "mlp", "value": [0, 1]}, {"value": 0.7}], "x.attn.y", 0.5, 0.7),
        ([{"filter": "*", "value": 2}], "a", 0.0, 2.0),
        ([{"filter": "mlp", "value": 2}], "a", 0.0, None),
        ({"value": 5}, "a", 0.0, 5.0),
        ({"filter": "b", "value": 5}, "a", 0.0, None),
    ],
)
def test_parameters_are_numbers_gradients_or_filtered(
    setting: Any, tensor: str, t: float, value: float | None, written: Write, llamas: Mapping[str, Path]
) -> None:
    recipe = read_recipe(written({**linear(llamas), "parameters": {"weight": setting}}))
    assert parameter("weight", [recipe.parameters], tensor, t, float) == (
        None if value is None else pytest.approx(value)
    )


def test_the_narrowest_scope_that_has_a_value_counts() -> None:
    assert parameter("weight", [None, {"density": 1}, {"weight": 2}, {"weight": 3}], "a", 0, float) == 2
    assert parameter("normalize", [{"normalize": ["true", False]}], "a", 0.9, bool) is True
    assert parameter("weight", [], "a", 0, float) is None


def test_a_recipe_makes_a_model_that_verifies(written: Write, llamas: Mapping[str, Path], tmp_path: Path) -> None:
    merged = made(written(linear(llamas, dtype="float32", out_dtype="bfloat16")), tmp_path / "out")
    a, b = (load_file(llamas[name] / "model.safetensors") for name in ("expert_a", "expert_b"))
    for name, value in merged.items():
        assert torch.equal(value, ((a[name].float() + b[name].float()) / 2).to(torch.bfloat16))
    assert verify_folder(tmp_path / "out") == []
    assert "linear" in (tmp_path / "out" / "README.md").read_text()


def test_layers_are_rearranged(written: Write, llamas: Mapping[str, Path], tmp_path: Path) -> None:
    def layers(name: str, first: int, last: int) -> dict[str, Any]:
        return {"sources": [{"model": str(llamas[name]), "layer_range": [first, last]}]}

    recipe = {
        "merge_method": "passthrough",
        "slices": [layers("expert_a", 0, 2), layers("expert_b", 1, 2), layers("expert_a", 1, 2)],
    }
    merged = made(written(recipe), tmp_path / "out")
    a, b = (load_file(llamas[name] / "model.safetensors") for name in ("expert_a", "expert_b"))
    for out, (model, layer) in enumerate([(a, 0), (a, 1), (b, 1), (a, 1)]):
        key = "model.layers.{}.mlp.up_proj.weight"
        assert torch.equal(merged[key.format(out)], model[key.format(layer)])
    assert torch.equal(merged["model.embed_tokens.weight"], a["model.embed_tokens.weight"])
    assert torch.equal(merged["model.norm.weight"], a["model.norm.weight"])
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.num_hidden_layers == 4
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_hidden_layers"] == 4


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("merge_method: linear\nmodels: [", r"recipe '.*': expected YAML, got"),
        ("- 1\n", r"expected a mapping with merge_method, got list"),
        ("merge_method: linear\n", r"exactly one of models, slices and modules has to be there"),
        ("merge_method: linear\nmodels: []\n", r"models or slices: at least one has to be there"),
        ("merge_method: linear\nmodels: [{model: a}]\nslices: [{sources: [{model: a}]}]\n", r"exactly one of models, slices and modules"),
        ("merge_method: linear\nmodules: {a: {models: [{model: a}]}, b: {models: [{model: a}]}}\n", r"one module can be merged here, not 2 \(a, b\)"),
        ("merge_method: linear\nmodels: [{model: a}]\nparametres: {}\n", r"recipe '.*', parametres: expected a mergekit recipe"),
        ("merge_method: linear\nmodels: [{model: a}]\ntokenizer: {}\ntokenizer_source: base\n", r"exclude each other"),
        ("merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [2, 1]}]}]\n", r"layer_range \[2, 1\] has to be"),
        ("merge_method: linear\nmodels: [{model: {model: {path: a}, override_architecture: x}}]\n", r"override_architecture is not known here"),
        ("merge_method: linear\nmodels: [{model: {model: null}}]\n", r"a model has to have a path"),
        ("merge_method: linear\nmodels: [{model: +a}]\n", r"a model has to have a path"),
        ("merge_method: linear\nmodels: [{model: {model: a, revision: b}}]\n", r"a model may have the keys model and lora"),
        ("merge_method: linear\nmodels: [{model: a, layer_range: [0, 1]}]\n", r"models are merged whole: layer_range belongs under slices"),
        ("merge_method: linear\nmodules: {a: {models: [{model: a}], slices: [{sources: [{model: a}]}]}}\n", r"exactly one of models and slices"),
        ("name: 2024-13-45\n", r"expected YAML, got month must be"),
        ("name: !!bool maybe\n", r"expected YAML, got 'maybe'"),
        ("name: !!timestamp x\n", r"expected YAML"),
        ("a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nd: &d [*c, *c, *c]\nmodels: [*d]\nmerge_method: a\n", r"expected a mergekit recipe, got .{0,90}\(Input should"),
    ],
)  # fmt: skip
def test_what_is_no_recipe_is_refused_in_a_line(recipe: str, said: str, written: Write) -> None:
    with pytest.raises(OptionError, match=said) as caught:
        read_recipe(written(recipe))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"merge_method": "linaer"}, OptionError, r"merge_method 'linaer': expected one of linear, task_arithmetic"),
        ({"parameters": {"wieght": 1}}, OptionError, r"parameter 'wieght': expected one of .*weight"),
        ({"dtype": "int4"}, OptionError, r"dtype 'int4': expected one of bfloat16"),
        ({"merge_method": "ties"}, OptionError, r"base_model: expected one for ties"),
        ({"merge_method": "nearswap", "base_model": "base", "parameters": {"t": 1}}, OptionError, r"nearswap: expected 1 models"),
        ({"merge_method": "slerp"}, OptionError, r"base_model: expected one of the two models"),
        ({"merge_method": "ties", "base_model": "base", "parameters": {"rescale": True}}, OptionError, r"'rescale': expected false for this method"),
        ({"models": [{"model": "expert_a"}]}, OptionError, r"parameter 'weight' of .*expert_a: expected a value for tensor"),
        ({"models": [{"model": "expert_a", "parameters": {"weight": "much"}}]}, OptionError, r"parameter 'weight': expected a finite number, got 'much'"),
        ({"models": [{"model": "expert_a", "parameters": {"weight": float("nan")}}]}, OptionError, r"'weight': expected a finite number, got nan"),
        ({"models": [{"model": "expert_a", "parameters": {"weight": 10**400}}]}, OptionError, r"'weight': expected a finite number"),
        ({"merge_method": "karcher", "parameters": {"max_iter": 1.7}}, OptionError, r"'max_iter': expected a whole number, got 1.7"),
        ({"models": [{"model": "expert_a", "parameters": {"weight": 1}}] * 2}, OptionError, r"models: expected each once"),
        ({"models": [{"model": "/nowhere"}]}, CheckpointError, r"/nowhere: expected a model folder"),
        ({"chat_template": "unheard-of"}, OptionError, r"chat_template 'unheard-of': expected auto, chatml"),
        ({"models": None, "slices": [{"sources": [{"model": "expert_a", "layer_range": [0, 9]}]}]}, OptionError, r"slices.0: expected layers of .* up to 2, got \[0, 9\]"),
        ({"models": None, "slices": [{"sources": [{"model": "expert_a", "layer_range": [0, 1]}, {"model": "expert_b", "layer_range": [0, 2]}]}]}, OptionError,
         r"slices.0: expected as many layers from every source, got \[1, 2\]"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_in_a_line(
    change: dict[str, Any], kind: type[Exception], said: str, written: Write, llamas: Mapping[str, Path]
) -> None:
    text = yaml.safe_dump({key: value for key, value in {**linear(llamas), **change}.items() if value is not None})
    for name, folder in llamas.items():
        text = text.replace(f"model: {name}\n", f"model: {folder}\n")
    with pytest.raises(kind, match=said) as caught:
        plan_recipe(read_recipe(written(text)), open_named)
    assert isinstance(caught.value, MergeUserError)
    assert "\n" not in str(caught.value)


def test_every_misfit_is_in_the_plan(written: Write, llamas: Mapping[str, Path], edited: Callable[..., Path]) -> None:
    def wider(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: torch.cat([value, value]) if "embed" in name or "lm_head" in name else value
            for name, value in tensors.items()
        }

    recipe = linear(llamas)
    recipe["models"][1]["model"] = str(edited(llamas["expert_b"], wider))
    plan = plan_recipe(read_recipe(written(recipe)), open_named)
    assert [type(problem) for problem in plan.problems] == [ShapeError, ShapeError]
    assert {str(problem).split("'")[1] for problem in plan.problems} == {"model.embed_tokens.weight", "lm_head.weight"}


def test_auto_takes_the_template_of_most(
    written: Write, llamas: Mapping[str, Path], edited: Callable[..., Path], tmp_path: Path
) -> None:
    models = []
    for number, template in enumerate(["{{ one }}", "{{ two }} ", "{{ two }}"]):
        folder = edited(llamas["expert_a"], name=f"m{number}")
        if number:
            (folder / "chat_template.jinja").write_text(template)
        else:
            settings = json.loads((folder / "tokenizer_config.json").read_text())
            (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": template}))
        models.append({"model": str(folder), "parameters": {"weight": 1}})
    made(written({"merge_method": "linear", "models": models, "chat_template": "auto"}), tmp_path / "out")
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == "{{ two }}"
    assert "chat_template" not in json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())


def test_an_adapters_tensors_keep_the_models_dtype_and_its_files(
    written: Write, llamas: Mapping[str, Path], tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(llamas["base"]), LoraConfig(r=2, target_modules=["q_proj"])
    )
    adapted.save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter" / "tokenizer.json").write_text("not the model's")
    recipe = {"merge_method": "passthrough", "models": [{"model": f"{llamas['base']}+{tmp_path / 'adapter'}"}]}
    merged = made(written(recipe), tmp_path / "out")
    assert {value.dtype for value in merged.values()} == {torch.bfloat16}
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (llamas["base"] / "tokenizer.json").read_bytes()


def test_float64_is_added_in_float64(written: Write, llamas: Mapping[str, Path], tmp_path: Path) -> None:
    recipe = linear(llamas, dtype="float64")
    recipe |= {"merge_method": "task_arithmetic", "base_model": str(llamas["base"])}
    merged = made(written(recipe), tmp_path / "out")
    assert {value.dtype for value in merged.values()} == {torch.float64}


def test_a_tensor_that_no_source_has_is_a_problem(
    written: Write, llamas: Mapping[str, Path], edited: Callable[..., Path]
) -> None:
    def poorer(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value for name, value in tensors.items() if name != "model.norm.weight"}

    source = {"model": str(edited(llamas["expert_a"], poorer)), "layer_range": [0, 2]}
    recipe = {"merge_method": "passthrough", "base_model": str(llamas["base"]), "slices": [{"sources": [source]}]}
    (problem,) = plan_recipe(read_recipe(written(recipe)), open_named).problems
    assert str(problem).startswith("tensor 'model.norm.weight': expected in ")
