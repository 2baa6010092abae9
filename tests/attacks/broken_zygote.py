"""A sandbox broken on purpose, for the suite only: a zygote whose language gate is off, and whose layers are off by name.

Run in place of `sandbox/zygote.py`; the environment says what to switch off. It shows that an attack is real: what succeeds here and
fails in the real sandbox was stopped by the sandbox, not by a typo in the attack.
"""

from __future__ import annotations

import builtins
import os
import sys
from pathlib import Path
from types import CodeType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sandbox import runner, selftest, zygote
from sandbox.confinement import cgroups, namespaces
from sandbox.confinement.layers import LAYERS
from sandbox.guards import Guards

OFF = frozenset(os.environ.get("LAYERS_OFF", "").split())


def compile_anything(source: str) -> CodeType:
    return compile(source, "<candidate>", "exec", dont_inherit=True)


guarded_namespace = Guards.namespace


def plain_namespace(guards: Guards) -> dict[str, Any]:
    return {**guarded_namespace(guards), "__builtins__": builtins}


def measure() -> selftest.Findings:
    return selftest.Findings(tuple(layer.name for layer in LAYERS if layer.name not in OFF), tuple(sorted(OFF)))


if __name__ == "__main__":
    if os.environ.get("GATE") == "off":
        runner.compile_program = compile_anything
        Guards.namespace = plain_namespace  # type: ignore[method-assign]
    if "namespaces" in OFF:
        namespaces.enter = lambda close: None
    if "cgroups" in OFF:
        cgroups.enter = lambda: None
    selftest.measure = measure
    zygote.main(int(sys.argv[1]), sys.argv[2])
