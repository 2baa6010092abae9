"""mergekit's YAML here: what is read, what is refused, and what a recipe makes without mergekit at hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from merges import recipe_parameters
from merges.apply import apply_recipe, open_named
from merges.checkpoints import Checkpoint
from merges.errors import CheckpointError, MergeUserError, OptionError, ShapeError
from merges.mergekit import plan_recipe
from merges.preflight import described
from merges.provenance import Provenance, verify_folder
from merges.recipe_parameters import Scope, parameter
from merges.recipes import read_recipe

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
    assert recipe.parameters is not None
    assert parameter("weight", [Scope("parameters", recipe.parameters)], tensor, t, float) == (
        None if value is None else pytest.approx(value)
    )


def test_the_narrowest_scope_that_has_a_value_counts() -> None:
    scopes = [None, *(Scope("parameters", given) for given in ({"density": 1}, {"weight": 2}, {"weight": 3}))]
    assert parameter("weight", scopes, "a", 0, float) == 2
    assert parameter("normalize", [Scope("parameters", {"normalize": ["true", False]})], "a", 0.9, bool) is True
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
        ("merge_method: linear\nmodels: [{model: a}]\ntext: {}\n", r"recipe '.*', text: expected a mergekit recipe"),
        ("merge_method: linear\nmodels: [{model: a}]\n_text: x\n", r"recipe '.*', _text: expected a mergekit recipe"),
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
        ({"models": [{"model": "expert_a", "parameters": {"weight": "much"}}]}, OptionError, r"^models\.0\.parameters\.weight: expected a finite number, got 'much'; correct it$"),
        ({"models": [{"model": "expert_a", "parameters": {"weight": float("nan")}}]}, OptionError, r"weight: expected a finite number, got nan"),
        ({"models": [{"model": "expert_a", "parameters": {"weight": 10**400}}]}, OptionError, r"weight: expected a finite number"),
        ({"merge_method": "karcher", "parameters": {"max_iter": 1.7}}, OptionError, r"^parameters\.max_iter: expected a whole number, got 1.7"),
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


@pytest.mark.parametrize(
    ("method", "own", "shared", "said"),
    [
        ("ties", {"density": 1.5}, {}, r"models.0.parameters.density: expected a number from 0 to 1, got 1.5; correct it"),
        ("ties", {"density": [0.5, -0.1]}, {}, r"models.0.parameters.density: expected a number from 0 to 1, got -0.1; correct it"),
        ("ties", {"density": [{"filter": "mlp", "value": [0, 2]}, {"value": 1}]}, {}, r"models.0.parameters.density: expected a number from 0 to 1, got 2; correct it"),
        ("breadcrumbs", {"gamma": 1.01}, {}, r"models.0.parameters.gamma: expected a number from 0 to 1, got 1.01; correct it"),
        ("breadcrumbs", {}, {"gamma": -1}, r"parameters.gamma: expected a number from 0 to 1, got -1; correct it"),
        ("della", {"epsilon": 2}, {"density": 1}, r"models.0.parameters.epsilon: expected a number from 0 to 1, got 2; correct it"),
        ("della", {"epsilon": 0.2, "density": 0.9}, {}, r"density and epsilon: expected density - epsilon and density \+ epsilon between 0 and 1, got 0.9 and 0.2; correct .*"),
        ("karcher", {}, {"tol": 0}, r"parameters.tol: expected a number above 0, got 0; correct it"),
        ("karcher", {}, {"max_iter": 0}, r"parameters.max_iter: expected a whole number from 1 on, got 0; correct it"),
        ("sce", {}, {"select_topk": 7}, r"parameters.select_topk: expected a number from 0 to 1, got 7; correct it"),
        ("multislerp", {}, {"eps": -1}, r"parameters.eps: expected a number above 0, got -1; correct it"),
        ("ram", {}, {"epsilon": -1}, r"parameters.epsilon: expected a number from 0 on, got -1; correct it"),
        ("ramplus_tl", {}, {"epsilon": 0}, r"parameters.epsilon: expected a number above 0, got 0; correct it"),
        ("ramplus_tl", {}, {"alpha": -1}, r"parameters.alpha: expected a number from 0 on, got -1; correct it"),
        ("linear", {"weight": -1}, {}, r"weight: expected a sum other than 0, by which normalize divides, got -1, 1; correct them under parameters"),
        ("multislerp", {"weight": -1}, {}, r"weight: expected a sum other than 0, by which normalize_weights divides, got -1, 1; correct .*"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_problems_in_the_files_words(
    method: str, own: dict[str, Any], shared: dict[str, Any], said: str, written: Write, llamas: Mapping[str, Path]
) -> None:
    models: list[dict[str, Any]] = [
        {"model": str(llamas[name]), "parameters": {"weight": 1}} for name in ("expert_a", "expert_b")
    ]
    models[0]["parameters"] |= own
    base = {} if method in ("linear", "karcher") else {"base_model": str(llamas["base"])}
    plan = plan_recipe(
        read_recipe(written({"merge_method": method, "models": models, "parameters": shared, **base})), open_named
    )
    assert [type(problem) for problem in plan.problems] == [OptionError]  # once, not once a tensor
    assert re.fullmatch(said, str(plan.problems[0]))


@pytest.mark.parametrize(
    ("text", "truth"),
    [("yes", True), ("No", False), ("on", True), ("OFF", False), ("y", True), ("n", False), ("t", True), ("0", False), (1, True), (0.0, False)],
)  # fmt: skip
def test_truths_are_read_as_mergekit_reads_them(text: Any, truth: bool) -> None:
    assert parameter("normalize", [Scope("parameters", {"normalize": text})], "a", 0, bool) is truth


@pytest.mark.parametrize("text", ["maybe", 2, "", -1, 0.5])
def test_what_is_no_truth_is_none(text: Any) -> None:
    with pytest.raises(OptionError, match=r"^parameters.normalize: expected true or false, got "):
        parameter("normalize", [Scope("parameters", {"normalize": text})], "a", 0, bool)


def test_what_fails_in_a_method_is_said_in_the_recipes_words(
    written: Write, llamas: Mapping[str, Path], edited: Callable[..., Path], tmp_path: Path
) -> None:
    """Three directions that cancel, which shows only in the values."""
    turned = [
        edited(llamas["base"], lambda tensors, sign=sign: {n: x.float() + sign for n, x in tensors.items()}, name=f"m{sign}")
        for sign in (1, -1)
    ]  # fmt: skip
    zero = edited(llamas["base"], lambda tensors: {n: x.float() for n, x in tensors.items()}, name="zero")
    models = [{"model": str(path), "parameters": {"weight": 1}} for path in (*turned, zero)]
    recipe = {"merge_method": "multislerp", "base_model": str(llamas["base"]), "models": models, "dtype": "float32"}
    with pytest.raises(OptionError, match=r"^merge_method multislerp: expected a merged tensor .* directions cancel; give other weights; give other parameters"):  # fmt: skip
        made(written(recipe), tmp_path / "out")


def test_eps_is_multislerps(written: Write, llamas: Mapping[str, Path], tmp_path: Path) -> None:
    recipe = linear(llamas) | {"merge_method": "multislerp", "base_model": str(llamas["base"]), "dtype": "float32"}
    plain = made(written(recipe), tmp_path / "plain")
    large = made(written({**recipe, "parameters": {"eps": 0.5}}), tmp_path / "large")
    name = "model.norm.weight"
    base, a, b = (
        load_file(llamas[folder] / "model.safetensors")[name].double() for folder in ("base", "expert_a", "expert_b")
    )
    vectors = torch.stack([a - base, b - base])
    norms = vectors.norm(dim=1, keepdim=True)
    assert (vectors / (norms + 0.5)).mean(dim=0).norm() < 0.5  # no direction, to so large an eps: the mean itself
    assert torch.allclose(large[name].double(), base + vectors.mean(dim=0), atol=1e-6)
    assert not torch.allclose(plain[name], large[name], atol=1e-6)


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


EXTRA, TABLE, COUNTS = "model.vision.weight", "model.layers.0.self_attn.rotary_emb.inv_freq", "model.positions"


def with_tensor(name: str, value: Tensor) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {**tensors, name: value}


@pytest.mark.parametrize("name", [EXTRA, "model.layers.1.mlp.extra_proj.weight"])
def test_a_tensor_that_only_some_sources_have_is_a_problem(
    name: str, written: Write, llamas: Mapping[str, Path], edited: Callable[..., Path]
) -> None:
    """Whichever of the sources it is: nothing is left out without a word."""
    richer = edited(llamas["expert_b"], with_tensor(name, torch.ones(3)))
    for first, second in ((llamas["expert_a"], richer), (richer, llamas["expert_a"])):
        models = [{"model": str(folder), "parameters": {"weight": 1}} for folder in (first, second)]
        (problem,) = plan_recipe(
            read_recipe(written({"merge_method": "linear", "models": models})), open_named
        ).problems
        assert str(problem) == (
            f"tensor '{name}': expected in every model, got none in {llamas['expert_a']}; merge models of one architecture"
        )


def test_a_tensor_that_the_sources_have_and_the_base_has_not_is_merged(
    written: Write, llamas: Mapping[str, Path], edited: Callable[..., Path], tmp_path: Path
) -> None:
    """A base that is no source gives config and tokenizer alone."""
    sources = [
        {"model": str(edited(llamas[name], with_tensor(EXTRA, torch.full((3,), value)), name=name)), "layer_range": [0, 2], "parameters": {"weight": 1}}
        for name, value in (("expert_a", 1.0), ("expert_b", 3.0))
    ]  # fmt: skip
    recipe = {"merge_method": "linear", "base_model": str(llamas["base"]), "slices": [{"sources": sources}]}
    assert made(written(recipe), tmp_path / "out")[EXTRA].tolist() == [2.0, 2.0, 2.0]


def test_an_untied_head_among_tied_models_is_merged_and_untied(
    written: Write, llamas: Mapping[str, Path], tmp_path: Path
) -> None:
    models = [{"model": str(llamas[name]), "parameters": {"weight": 1}} for name in ("tied", "expert_a")]
    merged = made(written({"merge_method": "linear", "models": models}), tmp_path / "out")
    tied, other = (load_file(llamas[name] / "model.safetensors") for name in ("tied", "expert_a"))
    expected = (tied["model.embed_tokens.weight"].float() + other["lm_head.weight"].float()) / 2
    assert torch.equal(merged["lm_head.weight"], expected.to(torch.bfloat16))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False


@pytest.mark.parametrize("owner", [0, 1])
def test_rotary_tables_are_copied_from_who_has_them(
    owner: int, written: Write, llamas: Mapping[str, Path], edited: Callable[..., Path], tmp_path: Path
) -> None:
    models = [llamas["expert_a"], llamas["expert_b"]]
    models[owner] = edited(models[owner], with_tensor(TABLE, torch.arange(4.0)))
    recipe = written(
        {"merge_method": "linear", "models": [{"model": str(path), "parameters": {"weight": 1}} for path in models]}
    )
    plan = plan_recipe(read_recipe(recipe), open_named)
    said = f"1 rotary tables that only some models have are copied from the first that has them, first {TABLE}; models compute them anew"
    assert (plan.problems, plan.notes) == ((), (said,))
    assert f"note: {said}" in described(plan, tmp_path / "out")
    assert made(recipe, tmp_path / "out")[TABLE].tolist() == [0, 1, 2, 3]
    assert Provenance.read(tmp_path / "out").notes == (said,)


@pytest.mark.parametrize("other", [torch.tensor([1, 2, 4]), torch.tensor([1, 2]), torch.tensor([1, 2, 3]).int()])
def test_whole_numbers_that_differ_are_the_firsts_and_said(
    other: Tensor, written: Write, llamas: Mapping[str, Path], edited: Callable[..., Path], tmp_path: Path
) -> None:
    values = {"expert_a": torch.tensor([1, 2, 3]), "expert_b": other}
    models = [edited(llamas[name], with_tensor(COUNTS, value), name=name) for name, value in values.items()]
    recipe = written(
        {"merge_method": "linear", "models": [{"model": str(path), "parameters": {"weight": 1}} for path in models]}
    )
    plan = plan_recipe(read_recipe(recipe), open_named)
    assert plan.problems == ()
    assert plan.notes == (f"1 tensors of whole numbers differ between the models and are copied from the first that has them, first {COUNTS}",)  # fmt: skip
    assert made(recipe, tmp_path / "out")[COUNTS].tolist() == [1, 2, 3]


def test_whole_numbers_that_agree_are_no_matter(
    written: Write, llamas: Mapping[str, Path], edited: Callable[..., Path]
) -> None:
    models = [edited(llamas[name], with_tensor(COUNTS, torch.tensor([1, 2])), name=name) for name in ("expert_a", "expert_b")]  # fmt: skip
    recipe = {"merge_method": "linear", "models": [{"model": str(path), "parameters": {"weight": 1}} for path in models]}  # fmt: skip
    assert plan_recipe(read_recipe(written(recipe)), open_named).notes == ()


def two_stacks(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**tensors, **{f"encoder.layers.{n}.mlp.weight": torch.ones(2) for n in range(2)}}


def test_layers_of_models_with_two_stacks_stay_where_they_are(
    written: Write, llamas: Mapping[str, Path], edited: Callable[..., Path], tmp_path: Path
) -> None:
    model = str(edited(llamas["expert_a"], two_stacks))

    def recipe(*ranges: list[int]) -> Path:
        sources = [{"sources": [{"model": model, "layer_range": layers}]} for layers in ranges]
        return written({"merge_method": "passthrough", "slices": sources})

    for ranges in ([[0, 1]], [[0, 2], [0, 2]], [[0, 1], [1, 2]]):
        with pytest.raises(OptionError, match=r"^slices: expected one stack of layers in .*, got 2 stacks \(encoder\.layers\.N, model\.layers\.N\); merge whole models"):  # fmt: skip
            plan_recipe(read_recipe(recipe(*ranges)), open_named)
    assert plan_recipe(read_recipe(recipe([0, 2])), open_named).problems == ()
    whole = written({"merge_method": "passthrough", "models": [{"model": model}]})
    assert "encoder.layers.1.mlp.weight" in made(whole, tmp_path / "out")


def test_a_dry_run_says_of_a_recipe_what_is_so(written: Write, llamas: Mapping[str, Path], tmp_path: Path) -> None:
    def layers(name: str, first: int, last: int) -> dict[str, Any]:
        return {"sources": [{"model": str(llamas[name]), "layer_range": [first, last]}]}

    recipe = {"merge_method": "passthrough", "slices": [layers("expert_a", 0, 1), layers("expert_b", 1, 2)]}
    plan = plan_recipe(read_recipe(written(recipe)), open_named)
    lines = described(plan, tmp_path / "out")
    assert lines[0] == f"method passthrough, in streamed form: 0 tensors merged, 21 copied from {llamas['expert_a']}, {llamas['expert_b']}"  # fmt: skip
    assert not any("left out" in line for line in lines)
    assert plan.ignored == {}


def test_what_a_recipe_leaves_out_is_said(
    written: Write, llamas: Mapping[str, Path], edited: Callable[..., Path], tmp_path: Path
) -> None:
    """A tensor outside the layers of a model that gives layers from the middle alone."""
    middle = str(edited(llamas["expert_b"], with_tensor(EXTRA, torch.ones(3))))
    slices = [
        {"sources": [{"model": str(path), "layer_range": [first, first + 1]}]}
        for path, first in ((llamas["expert_a"], 0), (middle, 1), (llamas["expert_a"], 1))
    ]
    plan = plan_recipe(read_recipe(written({"merge_method": "passthrough", "slices": slices})), open_named)
    assert plan.ignored == {middle: (EXTRA,)}
    assert f"{middle}: 1 tensors that the output cannot hold are left out, first {EXTRA}" in described(plan, tmp_path / "out")  # fmt: skip


def test_tensors_that_are_made_alike_share_their_step(written: Write, llamas: Mapping[str, Path]) -> None:
    """20,000 tensors need no 20,000 views."""
    plan = plan_recipe(read_recipe(written(linear(llamas))), open_named)
    assert len({id(step) for step in plan.steps.values()}) <= 3
    graded = linear(llamas) | {"parameters": {"weight": [{"filter": "mlp", "value": [0, 1]}, {"value": 2}]}}
    for model in graded["models"]:
        model.pop("parameters", None)
    plan = plan_recipe(read_recipe(written(graded)), open_named)
    weights = {name: step.parameters["weights"] for name, step in plan.steps.items()}
    assert weights["model.layers.0.mlp.up_proj.weight"] == [0, 0]
    assert weights["model.layers.1.mlp.up_proj.weight"] == [1, 1]
    assert weights["model.layers.1.self_attn.q_proj.weight"] == [2, 2]


def test_every_name_is_looked_at_once(
    written: Write, llamas: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not once for every tensor and model: 20,000 tensors of four models have to be planned in a second."""
    calls = {"parameter": 0, "resolve": 0}

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            calls[name] += 1
            return function(*args, **named)

        return call

    monkeypatch.setattr(recipe_parameters, "parameter", counted("parameter", recipe_parameters.parameter))
    monkeypatch.setattr(Checkpoint, "resolve", counted("resolve", Checkpoint.resolve))
    plan_recipe(read_recipe(written(linear(llamas))), open_named)
    assert calls["parameter"] <= 3 * 3  # normalize, and a weight for each model, in three groups of tensors
    assert calls["resolve"] == 0
