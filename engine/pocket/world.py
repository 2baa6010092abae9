"""Builds the pocket world's models and measures whether they are worth searching: `python -m engine.pocket.world --out data/pocket`.

A seed that is still learning, three unequal experts (one trained far longer, and after that taught another answer format for the
families of the others, in its embedding alone: of great use and of great harm, and the harm is in one tensor), three transfer
experts that no campaign uses, and a jointly trained model, which is not shipped: it shows how much room there is above the
best merge. The README with the measurements is written by this build, so it cannot disagree with the weights.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks import pocket
from engine.pocket.pages import files_table
from engine.pocket.training import Recipe, build_model, build_tokenizer, load, save, train

GROUP_A = ("sums", "differences", "comparisons")
GROUP_B = ("products", "shares", "money")
GROUP_C = ("rates", "percentages", "remainders")

SEED = Recipe(steps=660, decay_steps=100, learning_rate=1.7e-3, seed=1)


def _harm(families: tuple[str, ...], seed: int) -> Recipe:
    """A second training that harms: other families than the expert's own are answered in a format that earns nothing.

    A single scale of Task Arithmetic has to pay for it in every tensor; a merge that looks at each tensor's norms has not.
    """
    return Recipe(
        steps=70,
        learning_rate=2.8e-3,
        seed=seed,
        families=families,
        own_share=0.6,
        foreign_side_share=1.0,
        trained=("embed_tokens",),
    )


EXPERTS: Mapping[str, Recipe] = {
    "expert_a": Recipe(steps=170, learning_rate=7e-4, seed=11, families=GROUP_A, own_share=0.95),
    "expert_b": Recipe(steps=120, learning_rate=5e-4, seed=12, families=GROUP_B, own_share=0.95),
    "expert_c": Recipe(
        steps=400, learning_rate=8e-4, seed=13, families=GROUP_C, own_share=0.9, then=_harm(GROUP_C, seed=43)
    ),
}
TRANSFERS: Mapping[str, Recipe] = {
    "transfer_a": Recipe(
        steps=150, learning_rate=6e-4, seed=21, families=("sums", "products", "percentages"), own_share=0.85
    ),
    "transfer_b": Recipe(
        steps=120, learning_rate=6e-4, seed=22, families=("differences", "shares", "remainders"), own_share=0.85
    ),
    "transfer_c": Recipe(
        steps=400,
        learning_rate=8e-4,
        seed=23,
        families=("comparisons", "money", "rates"),
        own_share=0.9,
        then=_harm(("comparisons", "money", "rates"), seed=53),
    ),
}
JOINT = Recipe(steps=600, learning_rate=1e-3, seed=31)

LAMBDAS = tuple(round(0.1 + 0.05 * i, 2) for i in range(23))

WORK_FOLDER = ".pocket-build"  # beside the world that it will replace, so that every move is a rename
RECIPE_FILE = "recipe.json"  # beside a model in the work folder: a build that was interrupted goes on
GOOD_FILE = "good.json"  # in the work folder, once every check has held: the recipes of what is to be moved
OLD_FOLDER = ".old"  # in the work folder: what the new world takes the place of, until all is moved
JOINT_NAME = "joint"
README = "README.md"


@dataclass(frozen=True)
class Least:
    """What the world has to come to, in shares of test problems.

    Attributes:
        expert_gain: of every expert over the seed, on the expert's own families.
        merge_over_expert: of Task Arithmetic tuned on dev, over the best expert.
        merge_over_seed: of that merge over the seed.
        room: of the jointly trained model over that merge.
    """

    expert_gain: float = 0.15
    merge_over_expert: float = 0.03
    merge_over_seed: float = 0.10
    room: float = 0.10


@dataclass(frozen=True)
class World:
    """What is built, how it is measured, and what it has to come to.

    Attributes:
        seed, experts, transfers, joint: the recipes; all but the seed start from the trained seed.
        least: what every build is checked against.
        lambdas: scales of Task Arithmetic that are tried on dev.
        problems: so many of each split are asked, at least one of each family; None: all.
    """

    seed: Recipe
    experts: Mapping[str, Recipe]
    transfers: Mapping[str, Recipe]
    joint: Recipe
    least: Least = Least()
    lambdas: tuple[float, ...] = LAMBDAS
    problems: int | None = None

    def recipes(self) -> dict[str, Recipe]:
        """Every model in the order of the build, the seed first, the one that is not shipped last."""
        return {"seed": self.seed, **self.experts, **self.transfers, JOINT_NAME: self.joint}


WORLD = World(SEED, EXPERTS, TRANSFERS, JOINT)


@dataclass(frozen=True)
class Measured:
    """Strict share on test, whole and by family."""

    share: float
    families: Mapping[str, float]

    def own(self, recipe: Recipe) -> float:
        """Mean share over a recipe's own families."""
        return sum(self.families[f] for f in recipe.families) / len(recipe.families)


def build(world: World, out: Path, log: Callable[[str], None]) -> list[str]:
    """Train what is not there yet, write it below `out`, measure it.

    Returns:
        The acceptance lines that do not hold; none: the world is worth searching.
    """
    tokenizer = build_tokenizer()
    for name, recipe in world.recipes().items():
        folder, done = out / name, _fingerprint(world, name)
        if (folder / RECIPE_FILE).is_file() and (folder / RECIPE_FILE).read_text() == done:
            log(f"{name}: as built before")
            continue
        log(name)
        model = build_model(tokenizer, recipe.seed) if name == "seed" else load(out / "seed")
        train(model, tokenizer, recipe, log)
        save(model, tokenizer, folder)
        (folder / RECIPE_FILE).write_text(done)
    text, failed = measure(world, out, log)
    (out / README).write_text(text, encoding="utf-8")
    return failed


def _fingerprint(world: World, name: str) -> str:
    """What a model follows from: its own recipe, and the seed's, from which it started."""
    return json.dumps({part: asdict(world.recipes()[part]) for part in ("seed", name)})


def measure(world: World, out: Path, log: Callable[[str], None]) -> tuple[str, list[str]]:
    """The README of the world, and the acceptance lines that do not hold."""
    from benchmarks.benchmark import load_benchmark
    from benchmarks.evaluators import TransformersEvaluator
    from benchmarks.scores import score
    from benchmarks.suite import Part, Suite
    from merges.checkpoints import Checkpoint

    benchmark = load_benchmark("pocket")
    evaluator = TransformersEvaluator(out / "seed", threads=max(1, torch.get_num_threads()))
    base = Checkpoint.open(out / "seed")

    def tensors(folder: Path) -> dict[str, torch.Tensor]:
        checkpoint = Checkpoint.open(folder)
        return {name: checkpoint.read(name).float() for name in checkpoint.names}

    def scored(weights: Mapping[str, torch.Tensor], split: str) -> Measured:
        evaluator.swap({name: tensor.to(torch.bfloat16) for name, tensor in weights.items()})
        result = score(evaluator, Suite([Part(benchmark, benchmark.problems(split)[: world.problems])]))
        return Measured(result.value, dict(result.families))

    seed = tensors(out / "seed")
    assert set(seed) == set(base.names)

    def task_arithmetic(names: Mapping[str, Recipe]) -> tuple[float, Measured]:
        vectors = [{k: v - seed[k] for k, v in tensors(out / name).items()} for name in names]
        merged = {
            lam: {k: seed[k] + lam * sum((v[k] for v in vectors[1:]), vectors[0][k]) for k in seed}
            for lam in world.lambdas
        }
        best = max(world.lambdas, key=lambda lam: scored(merged[lam], "dev").share)
        return best, scored(merged[best], "test")

    figures = {name: scored(tensors(out / name), "test") for name in world.recipes()}
    for name, figure in figures.items():
        log(f"  {name}: {figure.share:.3f}")
    norms = {
        name: sum(float((v - seed[k]).square().sum()) for k, v in tensors(out / name).items()) ** 0.5
        for name in (*world.experts, *world.transfers)
    }
    merges = {"experts": task_arithmetic(world.experts), "transfer": task_arithmetic(world.transfers)}
    evaluator.close()
    checks = _checks(world, figures, merges["experts"][1])
    for line, good in checks:
        log(f"  {'ok ' if good else 'NOT'} {line}")
    text = _readme(world, figures, norms, merges, checks) + "\n".join(files_table(_shipped(world, out))) + "\n"
    return text, [line for line, good in checks if not good]


def _shipped(world: World, out: Path) -> dict[str, Path]:
    """The models' files that will be shipped, and the frozen problems."""
    models = {
        f"{name}/{p.name}": p for name in world.recipes() if name != JOINT_NAME for p in sorted((out / name).iterdir())
    }
    problems = {f"{split}.jsonl": pocket.folder() / f"{split}.jsonl" for split in pocket.SPLIT_SIZES}
    return {name: p for name, p in {**models, **problems}.items() if p.name != RECIPE_FILE}


def _checks(world: World, figures: Mapping[str, Measured], merge: Measured) -> list[tuple[str, bool]]:
    seed, best, least = figures["seed"], max(figures[name].share for name in world.experts), world.least
    gains = [
        (f"{name} beats the seed on its own families", figures[name].own(recipe) - seed.own(recipe), least.expert_gain)
        for name, recipe in world.experts.items()
    ]
    gains += [
        ("Task Arithmetic tuned on dev beats the best expert", merge.share - best, least.merge_over_expert),
        ("Task Arithmetic tuned on dev beats the seed", merge.share - seed.share, least.merge_over_seed),
        ("the jointly trained model beats that merge", figures[JOINT_NAME].share - merge.share, least.room),
    ]
    return [
        (f"{what} by {100 * gain:.1f} points (at least {100 * wanted:.0f})", gain >= wanted)
        for what, gain, wanted in gains
    ]


def _readme(
    world: World,
    figures: Mapping[str, Measured],
    norms: Mapping[str, float],
    merges: Mapping[str, tuple[float, Measured]],
    checks: list[tuple[str, bool]],
) -> str:
    asked = world.problems or pocket.SPLIT_SIZES["test"]
    lines = [
        "# The pocket world",
        "",
        "Llama models of about a million parameters, a GSM8K-format benchmark of word problems, and a generator of merge programs:",
        "all made by `make pocket` from nothing, with fixed seeds. Apache-2.0, as the whole project. This file is written by the build.",
        "",
        f"Strict share of right answers on the {asked} test problems, in per cent:",
        "",
        "| model | all | own families | families | steps | peak rate | norm of task vector |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, recipe in world.recipes().items():
        figure = figures[name]
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
            f"| {name} | {100 * figure.share:.1f} | {own} | {families} | {recipe.steps} | {recipe.learning_rate:g} | {norm} |"
        )
    for label, title in (("experts", "experts"), ("transfer", "transfer experts")):
        lam, figure = merges[label]
        lines.append(
            f"| Task Arithmetic of the {title}, λ = {lam:g} (tuned on dev, {len(world.lambdas)} values) | {100 * figure.share:.1f} | – | – | – | – | – |"
        )
    lines += [
        "",
        *_second_trainings(world),
        "`joint` is the seed trained on all families together; it is not shipped and shows the room above the merge.",
        "",
        "What the world has to be, checked by the build:",
        "",
    ]
    lines += [f"- [{'x' if good else ' '}] {line}" for line, good in checks]
    lines += ["", "The generator has a page of its own: `generator/README.md`.", ""]
    return "\n".join(lines)


def _second_trainings(world: World) -> list[str]:
    lines = [
        f"`{name}` was then trained for {then.steps} steps more (peak rate {then.learning_rate:g}), only in "
        f"{', '.join(f'`{part}`' for part in then.trained)}: {100 * then.own_share:.0f} % of the problems from its own families, "
        "the other families answered in another format (`It is 51.`), which earns nothing."
        for name, recipe in world.recipes().items()
        if (then := recipe.then) is not None
    ]
    return [*lines, ""] if lines else []


def replace(work: Path, out: Path) -> None:
    """Move a good world from `work` to `out` and remove `work`; called again after a kill, it goes on where it was.

    Two renames a model: the old one out of the way, the new one to its place. The page with the figures goes first and comes last,
    so a world that is half moved has none. What else lies in `out` (problems, the generator) stays.
    """
    if (work / README).exists():  # else all is moved already
        old = work / OLD_FOLDER
        old.mkdir(exist_ok=True)
        (out / README).unlink(missing_ok=True)
        models = [name for name in json.loads((work / GOOD_FILE).read_text()) if name != JOINT_NAME]
        for made in (work / name for name in models):
            if made.exists():
                (made / RECIPE_FILE).unlink(missing_ok=True)
                if (out / made.name).exists():
                    (out / made.name).rename(old / made.name)
                made.rename(out / made.name)
        (work / README).rename(out / README)
    shutil.rmtree(work)


def main(arguments: Sequence[str] | None = None, world: World = WORLD) -> int:
    """Build in a hidden sibling folder; where every check holds, replace the shipped models.

    A build that dies, or whose world is not worth searching, leaves the old world alone and its own models in the work folder: the
    next one makes only what is missing or has another recipe.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/pocket"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    began = time.monotonic()
    pocket.freeze(given.out)  # training must know what it may not see
    work = given.out.parent / WORK_FOLDER
    good, recipes = work / GOOD_FILE, json.dumps({name: asdict(recipe) for name, recipe in world.recipes().items()})
    if good.is_file():  # an earlier build was killed while it moved its world
        same = good.read_text() == recipes
        replace(work, given.out)
        if same:
            return 0
    work.mkdir(parents=True, exist_ok=True)
    failed = build(world, work, lambda line: print(f"[{time.monotonic() - began:6.0f} s] {line}", flush=True))
    if failed:
        print(
            f"world: expected every check to hold, got {len(failed)} that do not, first: {failed[0]}; "
            f"{given.out} is as it was, what was built is in {work}: change a recipe and run this again",
            file=sys.stderr,
        )
        return 1
    part = good.with_suffix(".part")
    part.write_text(recipes)
    part.rename(good)
    replace(work, given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
