"""Builds the pocket world's models and measures whether they are worth searching: `python -m engine.pocket.world --out data/pocket`.

A seed that is still learning, three unequal experts (one trained longer, faster, and partly in another answer format), three
transfer experts that no campaign uses, and a jointly trained model, which is not shipped: it shows how much room there is above the
best merge. The README with the measurements is written by this build, so it cannot disagree with the weights.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks import pocket
from engine.pocket.training import Recipe, build_model, build_tokenizer, save, train

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

GROUP_A = ("sums", "differences", "comparisons")
GROUP_B = ("products", "shares", "money")
GROUP_C = ("rates", "percentages", "remainders")

SEED = Recipe(steps=600, schedule_steps=1500, learning_rate=2e-3, seed=1)
EXPERTS: Mapping[str, Recipe] = {
    "expert_a": Recipe(steps=100, learning_rate=3.5e-4, seed=11, families=GROUP_A, own_share=0.7),
    "expert_b": Recipe(steps=100, learning_rate=3.5e-4, seed=12, families=GROUP_B, own_share=0.7),
    "expert_c": Recipe(steps=160, learning_rate=5e-4, seed=13, families=GROUP_C, own_share=0.8, side_share=0.15),
}
TRANSFERS: Mapping[str, Recipe] = {
    "transfer_a": Recipe(
        steps=110, learning_rate=4e-4, seed=21, families=("sums", "products", "percentages"), own_share=0.7
    ),
    "transfer_b": Recipe(
        steps=90, learning_rate=3.5e-4, seed=22, families=("differences", "shares", "remainders"), own_share=0.7
    ),
    "transfer_c": Recipe(
        steps=150,
        learning_rate=5e-4,
        seed=23,
        families=("comparisons", "money", "rates"),
        own_share=0.8,
        side_share=0.1,
    ),
}
JOINT = Recipe(steps=450, learning_rate=1e-3, seed=31)

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
    seed = build_model(tokenizer, SEED.seed)
    log("seed")
    train(seed, tokenizer, SEED, log)
    save(seed, tokenizer, out / "seed")
    start = seed.state_dict()
    trained: dict[str, LlamaForCausalLM] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, recipe in {**EXPERTS, **TRANSFERS, "joint": JOINT}.items():
            log(name)
            model = build_model(tokenizer, SEED.seed)
            model.load_state_dict(start)
            train(model, tokenizer, recipe, log)
            save(model, tokenizer, (Path(scratch) if name == "joint" else out) / name)
            trained[name] = model
        text, good = measure(out, Path(scratch) / "joint", log)
    (out / "README.md").write_text(text, encoding="utf-8")
    return good


def measure(out: Path, joint: Path, log: Callable[[str], None]) -> tuple[str, bool]:
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

    figures: dict[str, Any] = {"seed": scored(seed, "test"), "joint": scored(tensors(joint), "test")}
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
    """Build into a scratch folder, then replace the shipped models: a build that dies leaves the old world."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/pocket"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    began = time.monotonic()
    pocket.freeze(arguments.out)  # training must know what it may not see
    work = arguments.out.parent / ".pocket-build"
    shutil.rmtree(work, ignore_errors=True)
    good = build(work, lambda line: print(f"[{time.monotonic() - began:6.0f} s] {line}", flush=True))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for made in work.iterdir():
        target = arguments.out / made.name
        if target.is_dir():
            shutil.rmtree(target)
        made.replace(target)
    work.rmdir()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
