"""Which learning methods there are."""

from __future__ import annotations

from engine.learning.dpo import Dpo
from engine.learning.kto import Kto
from engine.learning.lesson import Method
from engine.learning.rest_em import RestEm
from engine.learning.self_rewarding import SelfRewarding


def method_named(name: str) -> Method:
    """The learning method of `LearnSection.method`, but for "none", which is not to learn."""
    methods: dict[str, type[Method]] = {"dpo": Dpo, "rest-em": RestEm, "kto": Kto, "self-rewarding": SelfRewarding}
    return methods[name]()
