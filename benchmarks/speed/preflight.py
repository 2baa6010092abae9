"""How long a merge takes that has many small tensors. `python -m benchmarks.speed.preflight FOLDER [--tensors N] [--runs N]`

Makes a base and three experts in the shape of a mixture of experts in FOLDER (20,000 tensors of a few hundred bytes, eight shards each; kept for
the next run) and prints, as seconds of CPU time, the best of some runs in one process:

- `plan_merge` and `plan_recipe`: headers of all inputs, the plan, and what `apply --dry-run` says of it;
- `apply`: all of it with one thread, and that for each tensor.

Some 160 MB of disk. Headers are in the page cache after the first run.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file

from merges import library
from merges.apply import apply_plan, open_named, plan_merge
from merges.mergekit import plan_recipe
from merges.plan import Plan
from merges.preflight import described
from merges.recipes import read_recipe

HIDDEN, INNER, VOCABULARY = 16, 8, 64
LAYERS = 50
EXPERTS = 3
SHARDS = 8


def shapes(tensors: int) -> dict[str, tuple[int, ...]]:
    """Parameter name -> shape, about as many as wanted."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        place = f"model.layers.{layer}."
        found |= {f"{place}self_attn.{x}_proj.weight": (HIDDEN, HIDDEN) for x in "qkvo"}
        found |= {f"{place}{x}_layernorm.weight": (HIDDEN,) for x in ("input", "post_attention")}
        for expert in range(max(1, (tensors // LAYERS - 6) // 3)):
            part = f"{place}mlp.experts.{expert}."
            found |= {f"{part}gate_proj.weight": (INNER, HIDDEN), f"{part}up_proj.weight": (INNER, HIDDEN), f"{part}down_proj.weight": (HIDDEN, INNER)}  # fmt: skip
    return {**found, "model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}


def make_model(folder: Path, tensors: int, number: int) -> None:
    """The base (number 0) or an expert near it, unless it is there."""
    if (folder / "config.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    weight_map: dict[str, str] = {}
    table = list(shapes(tensors).items())
    generator = torch.Generator()
    for shard in range(SHARDS):
        part = {}
        for place in range(shard * len(table) // SHARDS, (shard + 1) * len(table) // SHARDS):
            name, shape = table[place]
            part[name] = torch.randn(shape, generator=generator.manual_seed(place)).mul_(0.02)
            if number:
                part[name] += torch.randn(shape, generator=generator.manual_seed(len(table) * number + place)).mul_(0.002)  # fmt: skip
        file = f"model-{shard + 1:05d}-of-{SHARDS:05d}.safetensors"
        save_file({name: tensor.to(torch.bfloat16) for name, tensor in part.items()}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    config = {"model_type": "mixtral", "num_hidden_layers": LAYERS, "vocab_size": VOCABULARY}
    (folder / "config.json").write_text(json.dumps(config))


def recipe_file(folder: Path, models: list[Path]) -> Path:
    """TIES with a gradient and a filter, so that parameters differ between layers and tensors."""
    settings = {"weight": [{"filter": "down_proj", "value": [0.2, 0.5]}, {"value": 0.3}], "density": 0.5}
    recipe = {
        "merge_method": "ties",
        "base_model": str(models[0]),
        "models": [{"model": str(model), "parameters": settings} for model in models[1:]],
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def cpu_seconds(work: Callable[[], object], runs: int) -> float:
    """The best of some runs."""
    found = []
    for _ in range(runs):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tensors", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only-plan", action="store_true", help="do not apply")
    given = parser.parse_args()
    if given.tensors < LAYERS or given.runs < 1:
        sys.exit(f"expected --tensors of {LAYERS} at least and --runs of 1 at least; give more")
    torch.set_num_threads(1)
    models = [given.folder / str(given.tensors) / name for name in ("base", *(f"expert_{i}" for i in range(EXPERTS)))]
    for number, model in enumerate(models):
        make_model(model, given.tensors, number)
    out = given.folder / "out"
    recipe = recipe_file(given.folder, models)
    experts = {model.name: model for model in models[1:]}
    plans: dict[str, Callable[[], Plan]] = {
        "plan_merge": lambda: plan_merge(library.source("ties"), base=models[0], experts=experts),
        "plan_recipe": lambda: plan_recipe(read_recipe(recipe), open_named),
    }
    tensors = len(shapes(given.tensors))
    print(f"{tensors} tensors, {EXPERTS} experts on a base; seconds of CPU time, best of {given.runs}")
    for name, plan in plans.items():
        print(f"{name:12s} {cpu_seconds(plan, given.runs):7.3f}   with described: {cpu_seconds(lambda plan=plan: described(plan(), out), given.runs):7.3f}")  # type: ignore[misc]  # fmt: skip
    if given.only_plan:
        return
    for name, plan in plans.items():

        def applied(plan: Callable[[], Plan] = plan) -> None:
            shutil.rmtree(out, ignore_errors=True)
            apply_plan(plan(), out, None, workers=1)

        seconds = cpu_seconds(applied, given.runs)
        print(f"apply of {name:12s} {seconds:7.3f}, {1e6 * seconds / tensors:6.0f} microseconds a tensor")
    shutil.rmtree(out, ignore_errors=True)


if __name__ == "__main__":
    main()
