"""The build of the pocket world, with recipes of two steps: what it replaces, what it leaves alone, where it goes on."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace as changed
from functools import cache
from pathlib import Path

import pytest
import torch
from blake3 import blake3
from transformers import AutoModelForCausalLM

from benchmarks import pocket
from engine.pocket import world as module
from engine.pocket.training import Recipe
from engine.pocket.world import GOOD_FILE, OLD_FOLDER, RECIPE_FILE, WORK_FOLDER, Least, World, main, replace


def tiny(seed: int, families: tuple[str, ...] = pocket.FAMILIES) -> Recipe:
    return Recipe(steps=2, learning_rate=1e-3, seed=seed, batch=4, families=families)


ALWAYS = Least(-1.0, -1.0, -1.0, -1.0)
NEVER = Least(merge_over_expert=1.5, expert_gain=-1.0, merge_over_seed=-1.0, room=-1.0)
HARM = changed(tiny(5, ("sums", "money")), foreign_side_share=1.0, trained=("embed_tokens",))
TINY = World(
    seed=tiny(1),
    experts={"expert_a": changed(tiny(2, ("sums", "money")), then=HARM)},
    transfers={"transfer_a": tiny(3, ("rates", "shares"))},
    joint=tiny(4),
    least=ALWAYS,
    lambdas=(0.5,),
    problems=len(pocket.FAMILIES),
)
SHIPPED = ("seed", "expert_a", "transfer_a")


@pytest.fixture(scope="module", autouse=True)
def _once() -> Iterator[None]:
    """One tokenizer for all builds; and the number of threads, which a build sets for the whole process, as it was."""
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "build_tokenizer", cache(module.build_tokenizer))
        yield
    torch.set_num_threads(before)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An old world: a model of it, one that no recipe makes any more, its page, and a generator."""
    folder = tmp_path / "data" / "pocket"
    for name in ("seed", "expert_old", "generator"):
        (folder / name).mkdir(parents=True)
        (folder / name / "model.safetensors").write_text(f"old {name}")
    (folder / "README.md").write_text("old page")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def build(out: Path, world: World) -> int:
    return main(["--out", str(out), "--threads", "1"], world)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work folder of a build that was not good enough."""
    out = tmp_path_factory.mktemp("made") / "pocket"
    assert build(out, changed(TINY, least=NEVER)) == 1
    return out.parent / WORK_FOLDER


@pytest.fixture
def work(made: Path, out: Path) -> Path:
    """The same beside the old world."""
    shutil.copytree(made, out.parent / WORK_FOLDER)
    return out.parent / WORK_FOLDER


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds of the recipes that are trained from now on."""
    seeds: list[int] = []
    train = module.train

    def watched(model: object, tokenizer: object, recipe: Recipe, log: object) -> None:
        seeds.append(recipe.seed)
        train(model, tokenizer, recipe, log)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "train", watched)
    return seeds


def test_a_failed_check_leaves_the_old_world_and_keeps_what_was_built(
    out: Path, work: Path, trained: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    pocket.freeze(out)
    before = contents(out)
    assert build(out, changed(TINY, least=NEVER)) == 1
    assert contents(out) == before
    assert trained == [], "the models that were there are used again"
    assert {p.name for p in work.iterdir()} == {*SHIPPED, "joint", "README.md"}
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.match(
        r"world: expected every check to hold, got 1 that do not, first: Task Arithmetic .*best expert", error
    )
    page = (work / "README.md").read_text()
    assert len(re.findall(r"^- \[ \] ", page, re.MULTILINE)) == 1
    assert len(re.findall(r"^- \[x\] ", page, re.MULTILINE)) == 3


def test_a_second_training_is_told_of_and_part_of_the_recipe(out: Path, work: Path, trained: list[int]) -> None:
    page = (work / "README.md").read_text()
    assert "`expert_a` was then trained for 2 steps more (peak rate 0.001), only in `embed_tokens`" in page
    harder = changed(TINY.experts["expert_a"], then=changed(HARM, steps=3))
    assert build(out, changed(TINY, experts={"expert_a": harder})) == 0
    assert trained == [2], "expert_a alone is trained anew"


def test_the_page_has_the_hash_of_every_file(out: Path, work: Path) -> None:
    assert build(out, TINY) == 0
    rows = dict(
        re.findall(r"^\| `([^`]+)` \| \d+ \| `([0-9a-f]{64})` \|$", (out / "README.md").read_text(), re.MULTILINE)
    )
    there = [p for name in SHIPPED for p in (out / name).iterdir()] + [
        out / f"{split}.jsonl" for split in pocket.SPLIT_SIZES
    ]
    assert rows == {str(p.relative_to(out)): blake3(p.read_bytes()).hexdigest() for p in there}


def test_a_good_build_replaces_the_models_and_nothing_else(out: Path, work: Path) -> None:
    fresh = contents(work)
    assert build(out, TINY) == 0
    now = contents(out)
    for name in SHIPPED:
        assert now[f"{name}/model.safetensors"] == fresh[f"{name}/model.safetensors"]
        assert {p.dtype for p in AutoModelForCausalLM.from_pretrained(out / name).parameters()} == {torch.bfloat16}
    assert "- [ ]" not in now["README.md"].decode()
    assert now["generator/model.safetensors"] == b"old generator"
    assert now["expert_old/model.safetensors"] == b"old expert_old"
    assert not any(RECIPE_FILE in name or name.startswith("joint") for name in now)
    assert not work.exists()
    for split in pocket.SPLIT_SIZES:
        assert now[f"{split}.jsonl"] == (pocket.folder() / f"{split}.jsonl").read_bytes()


class Killed(BaseException):
    """Stands for SIGKILL: the build catches nothing, so nothing of it runs after this."""


def test_a_build_that_was_killed_in_a_training_goes_on_with_it(
    out: Path, work: Path, made: Path, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("expert_a", "transfer_a", "joint"):
        shutil.rmtree(work / name)
    watched = module.train

    def killed(model: object, tokenizer: object, recipe: Recipe, log: object) -> None:
        if recipe == TINY.transfers["transfer_a"]:
            raise Killed
        watched(model, tokenizer, recipe, log)  # type: ignore[arg-type]

    before = contents(out)
    with monkeypatch.context() as patched:
        patched.setattr(module, "train", killed)
        with pytest.raises(Killed):
            build(out, TINY)
    assert trained == [TINY.experts["expert_a"].seed]
    assert {name: data for name, data in contents(out).items() if not name.endswith(".jsonl")} == before
    assert build(out, TINY) == 0
    assert trained == [TINY.experts["expert_a"].seed, TINY.transfers["transfer_a"].seed, TINY.joint.seed]
    for name in SHIPPED:
        assert (out / name / "model.safetensors").read_bytes() == (made / name / "model.safetensors").read_bytes()


def test_another_seed_recipe_makes_every_model_anew(out: Path, work: Path, trained: list[int]) -> None:
    assert build(out, changed(TINY, seed=tiny(9))) == 0
    assert trained == [9, 2, 3, 4]


# The moves, on folders of one small file: a kill between any two steps.


def good_work(out: Path) -> Path:
    work = out.parent / WORK_FOLDER
    for name in (*SHIPPED, "joint"):
        (work / name).mkdir(parents=True)
        (work / name / "model.safetensors").write_text(f"new {name}")
        (work / name / RECIPE_FILE).write_text("{}")
    (work / "README.md").write_text("new page")
    (work / GOOD_FILE).write_text(json.dumps({name: {} for name in (*SHIPPED, "joint")}))
    return work


NEW = {f"{name}/model.safetensors": f"new {name}".encode() for name in SHIPPED} | {
    "generator/model.safetensors": b"old generator",
    "expert_old/model.safetensors": b"old expert_old",
    "README.md": b"new page",
}


def test_a_kill_between_any_two_moves_is_made_good_by_the_next_run(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old_world, left, cut = contents(out), 0, 0

    def counted(step):
        def call(*arguments, **options):
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return step(*arguments, **options)

        return call

    for owner, name in ((Path, "rename"), (Path, "unlink"), (Path, "mkdir"), (shutil, "rmtree")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    while True:
        left = 10**6
        if out.parent.exists():
            shutil.rmtree(out.parent)
        for name, data in old_world.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(data)
        work = good_work(out)
        left = cut
        try:
            replace(work, out)
        except Killed:
            left = 10**6
            kept = {**contents(work / OLD_FOLDER), **contents(out)}
            assert set(kept) >= {"seed/model.safetensors", "expert_old/model.safetensors"}, "nothing is lost on the way"
            page = out / "README.md"
            if page.exists() and (out / "seed").exists():
                age = (out / "seed" / "model.safetensors").read_bytes()[:3]
                assert page.read_bytes()[:3] == age, "a page never stands beside models that it does not tell of"
            replace(work, out)
        else:
            break
        assert contents(out) == NEW, f"killed before step {cut}"
        assert not work.exists()
        cut += 1
    assert cut > 8, "no step was cut: the test proves nothing"


def test_a_world_that_was_killed_while_moved_is_not_built_again(out: Path, trained: list[int]) -> None:
    work = good_work(out)
    recipes = {name: module.asdict(recipe) for name, recipe in TINY.recipes().items()}
    (work / GOOD_FILE).write_text(json.dumps(recipes))
    assert build(out, TINY) == 0
    assert trained == []
    assert {name: data for name, data in contents(out).items() if not name.endswith(".jsonl")} == NEW
