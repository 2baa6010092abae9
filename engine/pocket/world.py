"""Builds the pocket world's models and measures whether they are worth searching: `python -m engine.pocket.world --out data/pocket`.

A seed that is still learning, three unequal experts (one trained longer, faster, and partly in another answer format), three
transfer experts that no campaign uses, and a jointly trained model, which is not shipped: it shows how much room there is above the
best merge. The README with the measurements is written by this build, so it cannot disagree with the weights.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import pocket
from engine.pocket.training import Recipe, build_model, build_tokenizer, load, save, train

GROUP_A = ("sums", "differences", "comparisons")
GROUP_B = ("products", "shares", "money")
GROUP_C = ("rates", "percentages", "remainders")

SEED = Recipe(steps=660, decay_steps=100, learning_rate=1.7e-3, seed=1)
EXPERTS: Mapping[str, Recipe] = {
    "expert_a": Recipe(steps=170, learning_rate=7e-4, seed=11, families=GROUP_A, own_share=0.95),
    "expert_b": Recipe(steps=120, learning_rate=5e-4, seed=12, families=GROUP_B, own_share=0.95),
    "expert_c": Recipe(steps=220, learning_rate=9e-4, seed=13, families=GROUP_C, own_share=0.9, side_share=0.15),
}
TRANSFERS: Mapping[str, Recipe] = {
    "transfer_a": Recipe(
        steps=150, learning_rate=6e-4, seed=21, families=("sums", "products", "percentages"), own_share=0.85
    ),
    "transfer_b": Recipe(
        steps=120, learning_rate=6e-4, seed=22, families=("differences", "shares", "remainders"), own_share=0.85
    ),
    "transfer_c": Recipe(
        steps=200,
        learning_rate=9e-4,
        seed=23,
        families=("comparisons", "money", "rates"),
        own_share=0.85,
        side_share=0.15,
    ),
}
JOINT = Recipe(steps=600, learning_rate=1e-3, seed=31)

RECIPE_FILE = "recipe.json"  # beside a model in the work folder: a build that was interrupted goes on

LAMBDAS = tuple(round(0.1 + 0.05 * i, 2) for i in range(23))

MIN_EXPERT_GAIN = 0.15
MIN_MERGE_OVER_EXPERT = 0.03
MIN_MERGE_OVER_SEED = 0.10
MIN_ROOM = 0.10


@dataclass(frozen=True)
class Measured:
    """Strict share on test, whole and by family."""

    share: float
    families: Mapping[str, float]

    def own(self, recipe: Recipe) -> float:
        """Mean share over a recipe's own families."""
        return sum(self.families[f] for f in recipe.families) / len(recipe.families)


def build(out: Path, log: Callable[[str], None]) -> bool:
    """Train everything, write it below `out`, measure it. True where every acceptance line holds."""
    tokenizer = build_tokenizer()
    for name, recipe in {"seed": SEED, **EXPERTS, **TRANSFERS, "joint": JOINT}.items():
        folder, done = out / name, json.dumps(asdict(recipe))
        if (folder / RECIPE_FILE).is_file() and (folder / RECIPE_FILE).read_text() == done:
            log(f"{name}: as built before")
            continue
        log(name)
        model = build_model(tokenizer, SEED.seed) if name == "seed" else load(out / "seed")
        train(model, tokenizer, recipe, log)
        save(model, tokenizer, folder)
        (folder / RECIPE_FILE).write_text(done)
    text, good = measure(out, log)
    (out / "README.md").write_text(text, encoding="utf-8")
    return good


def measure(out: Path, log: Callable[[str], None]) -> tuple[str, bool]:
    """The README of the world, and whether it is worth searching."""
    from benchmarks.benchmark import load_benchmark
    from benchmarks.evaluators import TransformersEvaluator
    from benchmarks.scores import score
    from merges.checkpoints import Checkpoint

    benchmark = load_benchmark("pocket")
    evaluator = TransformersEvaluator(out / "seed", threads=max(1, torch.get_num_threads()))
    base = Checkpoint.open(out / "seed")

    def tensors(folder: Path) -> dict[str, torch.Tensor]:
        checkpoint = Checkpoint.open(folder)
        return {name: checkpoint.read(name).float() for name in checkpoint.names}

    def scored(weights: Mapping[str, torch.Tensor], split: str) -> Measured:
        evaluator.swap({name: tensor.to(torch.bfloat16) for name, tensor in weights.items()})
        result = score(evaluator, benchmark.problems(split), benchmark)
        return Measured(result.strict, dict(result.families))

    seed = tensors(out / "seed")
    assert set(seed) == set(base.names)

    def task_arithmetic(names: Mapping[str, Recipe]) -> tuple[float, Measured]:
        vectors = [{k: v - seed[k] for k, v in tensors(out / name).items()} for name in names]
        merged = {
            lam: {k: seed[k] + lam * sum((v[k] for v in vectors[1:]), vectors[0][k]) for k in seed} for lam in LAMBDAS
        }
        best = max(LAMBDAS, key=lambda lam: scored(merged[lam], "dev").share)
        return best, scored(merged[best], "test")

    figures: dict[str, Any] = {"seed": scored(seed, "test"), "joint": scored(tensors(out / "joint"), "test")}
    for name in (*EXPERTS, *TRANSFERS):
        figures[name] = scored(tensors(out / name), "test")
        log(f"  {name}: {figures[name].share:.3f}")
    norms = {
        name: sum(float((v - seed[k]).square().sum()) for k, v in tensors(out / name).items()) ** 0.5
        for name in (*EXPERTS, *TRANSFERS)
    }
    merges = {"experts": task_arithmetic(EXPERTS), "transfer": task_arithmetic(TRANSFERS)}
    evaluator.close()
    checks = _checks(figures, merges["experts"][1])
    for line, good in checks:
        log(f"  {'ok ' if good else 'NOT'} {line}")
    return _readme(figures, norms, merges, checks), all(good for _, good in checks)


def _checks(figures: Mapping[str, Measured], merge: Measured) -> list[tuple[str, bool]]:
    seed, best = figures["seed"], max(figures[name].share for name in EXPERTS)
    checks = []
    for name, recipe in EXPERTS.items():
        gain = figures[name].own(recipe) - seed.own(recipe)
        checks.append(
            (
                f"{name} beats the seed on its own families by {100 * gain:.1f} points (at least 15)",
                gain >= MIN_EXPERT_GAIN,
            )
        )
    for what, gain, least in (
        ("Task Arithmetic tuned on dev beats the best expert", merge.share - best, MIN_MERGE_OVER_EXPERT),
        ("Task Arithmetic tuned on dev beats the seed", merge.share - seed.share, MIN_MERGE_OVER_SEED),
        ("the jointly trained model beats that merge", figures["joint"].share - merge.share, MIN_ROOM),
    ):
        checks.append((f"{what} by {100 * gain:.1f} points (at least {100 * least:.0f})", gain >= least))
    return checks


def _readme(
    figures: Mapping[str, Measured],
    norms: Mapping[str, float],
    merges: Mapping[str, tuple[float, Measured]],
    checks: list[tuple[str, bool]],
) -> str:
    recipes = {"seed": SEED, **EXPERTS, **TRANSFERS, "joint": JOINT}
    lines = [
        "# The pocket world",
        "",
        "Llama models of about a million parameters, a GSM8K-format benchmark of word problems, and a generator of merge programs:",
        "all made by `make pocket` from nothing, with fixed seeds. Apache-2.0, as the whole project. This file is written by the build.",
        "",
        f"Strict share of right answers on the {pocket.SPLIT_SIZES['test']} test problems, in per cent:",
        "",
        "| model | all | own families | families | steps | peak rate | other format | norm of task vector |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in ("seed", *EXPERTS, *TRANSFERS, "joint"):
        recipe, figure = recipes[name], figures[name]
        own = (
            "–"
            if recipe.families == pocket.FAMILIES
            else f"{100 * figure.own(recipe):.1f} (seed {100 * figures['seed'].own(recipe):.1f})"
        )
        families = (
            "all"
            if recipe.families == pocket.FAMILIES
            else f"{', '.join(recipe.families)} ({100 * recipe.own_share:.0f} %)"
        )
        norm = f"{norms[name]:.2f}" if name in norms else "–"
        lines.append(
            f"| {name} | {100 * figure.share:.1f} | {own} | {families} | {recipe.steps} | {recipe.learning_rate:g} | {100 * recipe.side_share:.0f} % | {norm} |"
        )
    for label, title in (("experts", "experts"), ("transfer", "transfer experts")):
        lam, figure = merges[label]
        lines.append(
            f"| Task Arithmetic of the {title}, λ = {lam:g} (tuned on dev, {len(LAMBDAS)} values) | {100 * figure.share:.1f} | – | – | – | – | – | – |"
        )
    lines += [
        "",
        "`joint` is the seed trained on all families together; it is not shipped and shows the room above the merge.",
        "",
        "What the world has to be, checked by the build:",
        "",
    ]
    lines += [f"- [{'x' if good else ' '}] {line}" for line, good in checks]
    lines += ["", "The generator has a page of its own: `generator/README.md`.", ""]
    return "\n".join(lines)


def main() -> int:
    """Build in a hidden sibling folder, then replace the shipped models: a build that dies leaves the old world, and goes on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/pocket"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    began = time.monotonic()
    pocket.freeze(arguments.out)  # training must know what it may not see
    work = arguments.out.parent / ".pocket-build"
    work.mkdir(parents=True, exist_ok=True)
    good = build(work, lambda line: print(f"[{time.monotonic() - began:6.0f} s] {line}", flush=True))
    arguments.out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(work / "joint")
    for made in work.iterdir():
        (made / RECIPE_FILE).unlink(missing_ok=True)
        target = arguments.out / made.name
        if target.is_dir():
            shutil.rmtree(target)
        made.replace(target)
    work.rmdir()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
