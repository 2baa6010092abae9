"""Texts that are hard on whoever reads them. The host reads them without limits, so it refuses them by cheap signs."""

from __future__ import annotations

from sandbox import Reason as R
from tests.attacks.attack import Attack, body, unreadable

_SLOW = "a" + "\u0301" * 15000 + "\u0316" * 15000

ATTACKS: dict[str, Attack] = {
    "nested_minus": unreadable("x = " + "-" * 60000 + "1"),
    "nested_not": unreadable("x = " + "not " * 15000 + "1"),
    "nested_calls": unreadable("x = " + "f(" * 190 + ")" * 190 + "\n" + "y = " + "-" * 60000 + "1"),
    "nested_lambdas": unreadable("x = " + "lambda: " * 8000 + "1"),
    "nested_subscripts": unreadable("x = a" + "[0]" * 20000),
    "nested_attributes": unreadable("x = a" + ".b" * 30000),
    "nested_calls_in_a_row": unreadable("x = a" + "()" * 30000),
    "nested_conditions": unreadable("x = " + "1 if a else " * 5000 + "1"),
    "nested_elif": unreadable("if a:\n pass\n" + "elif a:\n pass\n" * 4000),
    "nested_powers": unreadable("x = " + "2 ** " * 12000 + "2"),
    "chained_operators": unreadable("x = " + "+".join(["1"] * 30000)),
    "chained_texts": unreadable("x = " + "+".join(["'a'"] * 15000)),
    "dotted_import": unreadable("import a" + ".b" * 32000),
    "combining_marks": unreadable(_SLOW + "+b c"),
    "expressions_in_a_text": Attack("compile", body("y = f'" + "{1}" * 20000 + "'"), (R.SYNTAX,), "returns", frozenset({"gate"})),
    "surrogate": unreadable("x = '\ud800'"),
    "long_source": Attack("compile", "#" * 70000 + "\n" + body(""), (R.SOURCE_SIZE,), "returns", frozenset({"size"})),
    "long_program": Attack("compile", body("\n".join(f"y{i} = {i}" for i in range(8000))), (R.SOURCE_SIZE,), "returns", frozenset({"size", "gate"})),
    "many_nodes": Attack("compile", body("a = 1\ny = [" + "a," * 21000 + "]"), (R.SYNTAX,), "returns", frozenset({"gate"})),
    "many_statements": Attack("compile", body("a=1;" * 12000), (R.SYNTAX,), "returns", frozenset({"gate"})),
    "constant_bomb": Attack("compile", "y = 'a' * 600000000\n" + body(""), (R.MEMORY,), "returns", frozenset({"rlimits", "cgroups"})),
    "folded_constant_bomb": Attack("compile", "y = (1 << 2000000000) + 1\n" + body(""), (R.MEMORY,), "returns", frozenset({"rlimits", "cgroups", "clock"})),
}  # fmt: skip
