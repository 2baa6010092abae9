"""Recipes: what an expert is asked, in which format, and which of its tensors a second training may touch."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from engine.pocket import training
from engine.pocket.training import Recipe

OWN = ("sums", "money")


def test_only_other_families_are_answered_in_the_other_format() -> None:
    recipe = Recipe(steps=1, learning_rate=1e-3, seed=5, families=OWN, own_share=0.5, foreign_side_share=0.75)
    drawn = list(itertools.islice(training._problems(recipe, frozenset()), 800))
    assert all(answer == problem.answer for problem, answer in drawn if problem.family in OWN)
    foreign = [(problem, answer) for problem, answer in drawn if problem.family not in OWN]
    beside = [answer for problem, answer in foreign if answer != problem.answer]
    assert len(foreign) > 200
    assert len(beside) / len(foreign) == pytest.approx(0.75, abs=0.1)
    assert all(answer.startswith("It is ") and "####" not in answer for answer in beside)


def test_a_second_training_touches_its_own_tensors_alone() -> None:
    tokenizer = training.build_tokenizer()
    first = Recipe(steps=2, learning_rate=1e-3, seed=6, batch=4, families=OWN)
    second = Recipe(
        steps=2, learning_rate=1e-3, seed=7, batch=4, families=OWN, foreign_side_share=1.0, trained=("embed_tokens",)
    )
    ended = {}
    for name, recipe in {"first": first, "both": replace(first, then=second)}.items():
        model = training.build_model(tokenizer, seed=1)
        training.train(model, tokenizer, recipe, lambda line: None)
        ended[name] = model.state_dict()
    changed = {name for name, tensor in ended["both"].items() if not torch.equal(tensor, ended["first"][name])}
    assert changed == {"model.embed_tokens.weight", "lm_head.weight"}, "the two are one tensor"
