"""Hostile programs, by class: one table."""

from __future__ import annotations

from tests.attacks.attack import Attack
from tests.attacks.programs import bombs, gate, hooks, native, outside, poison, results, texts

ATTACKS: dict[str, Attack] = {}
for _module in (outside, gate, hooks, poison, native, bombs, texts, results):
    assert not ATTACKS.keys() & _module.ATTACKS.keys()
    ATTACKS |= _module.ATTACKS
