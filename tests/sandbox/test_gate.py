"""The gate: any text gives a verdict; a refusal names rule, name and line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import RULES, Limits, Reason, Signature, Verdict, check, signature_of
from sandbox.gate import MAX_DEPTH

ENTRY = "def merge_models(model_dict, device):\n    return model_dict['a']\n"


@pytest.mark.parametrize(
    ("text", "rule", "name", "line"),
    [
        ("import os\n", "import", "'os'", 1),
        ("import os.path as p\n", "import", "'os.path'", 1),
        ("from . import x\n", "import", "'.'", 1),
        ("import torch\ntorch.save(1, 'x')\n", "name", "'torch.save'", 2),
        ("import torch as t\nt.nn.Linear(1, 1)\n", "name", "'torch.nn.Linear'", 2),
        ("import torch.nn.functional as F\nF.nosuch(1)\n", "name", "'torch.nn.functional.nosuch'", 2),
        ("from torch import load\n", "name", "'torch.load'", 1),
        ("from torch import *\n", "name", "'torch.*'", 1),
        ("x = open\n", "builtin", "'open'", 1),
        ("x = eval('1')\n", "builtin", "'eval'", 1),
        ("__import__('os')\n", "reserved-name", "'__import__'", 1),
        ("_getattr_ = 1\n", "reserved-name", "'_getattr_'", 1),
        ("def f(__x): pass\n", "reserved-name", "'__x'", 1),
        ("import math as __m\n", "reserved-name", "'__m'", 1),
        ("try: pass\nexcept Exception as _write_: pass\n", "reserved-name", "'_write_'", 2),
        ("x = ().__class__.__base__\n", "underscore-attribute", "'__base__'", 1),
        ("x = (i for i in []).gi_frame\n", "underscore-attribute", "'gi_frame'", 1),
        ("import torch\ntorch.norm = 1\n", "attribute-write", "'torch.norm'", 2),
        ("import torch\nfor torch.norm in []: pass\n", "attribute-write", "'torch.norm'", 2),
        ("import torch\n(a, torch.norm) = 1, 2\n", "attribute-write", "'torch.norm'", 2),
        ("import torch\ndel torch.norm\n", "attribute-write", "'torch.norm'", 2),
        ("async def f(): pass\n", "statement", "'AsyncFunctionDef'", 1),
        ("class C(metaclass=type): pass\n", "class", "'metaclass'", 1),
        ("class C:\n    def __getattribute__(self, n): pass\n", "method-name", "'__getattribute__'", 2),
        ("match 1:\n    case object(real=r): pass\n", "statement", "'class pattern with keywords'", 2),
    ],
)
def test_a_refusal_names_rule_name_and_line(text: str, rule: str, name: str, line: int) -> None:
    verdict = check(text + ENTRY)
    assert (verdict.ok, verdict.reason, verdict.rule, verdict.line) == (False, Reason.POLICY, rule, line)
    assert verdict.detail is not None
    assert f"name {name}" in verdict.detail
    assert RULES[rule] in verdict.detail


def test_a_near_miss_is_told_the_right_name() -> None:
    assert "the nearest allowed name is 'torch.stack'" in (check("import torch\ntorch.stak\n" + ENTRY).detail or "")


@pytest.mark.parametrize("name", ["input", "vars", "id"])
def test_a_hidden_builtin_may_be_a_name_of_the_program(name: str) -> None:
    assert check(f"{name} = 1\ny = {name}\n" + ENTRY).ok


def test_a_module_name_that_is_bound_otherwise_is_left_to_the_run() -> None:
    assert check("import torch\ndef f(torch):\n    return torch.anything\n" + ENTRY).ok


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("", "merge_models"),
        ("merge_models = lambda a, b: a\n", "merge_models"),
        ("def merge_models(m):\n    return m\n", "merge_models"),
        ("if True:\n    def merge_models(m, d):\n        return m\n", "merge_models"),
        ("def merge_models(m, d, weights):\n    return m\n", "weights"),
        ("def merge_models(m, d, *, scale):\n    return m\n", "scale"),
        ("def merge_models(m, d, rng, /):\n    return m\n", "rng"),
    ],
)
def test_the_entry_has_to_fit_the_contract(source: str, name: str) -> None:
    verdict = check(source)
    assert (verdict.reason, verdict.rule) == (Reason.POLICY, "signature")
    assert f"name '{name}'" in (verdict.detail or "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("m, d", Signature(frozenset(), {})),
        ("m, d, rng, depth", Signature(frozenset({"rng", "depth"}), {})),
        ("m, d, *, base, a=1, b=-0.5, c='x', e=True, f=None", Signature(frozenset({"base"}), {"a": 1, "b": -0.5})),
        ("m, d, k=3", Signature(frozenset(), {})),
        ("m, d, *args, depth=0.5, **kwargs", Signature(frozenset({"depth"}), {})),
    ],
)
def test_signature_is_read_from_the_text(arguments: str, expected: Signature) -> None:
    source = f"def merge_models({arguments}):\n    return m\n"
    assert check(source).ok
    assert signature_of(source) == expected


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def (", Reason.SYNTAX),
        (b"\xff\xfe", Reason.SYNTAX),
        ("x = 1\0", Reason.SYNTAX),
        ("\ud800", Reason.SYNTAX),
        ("x = " + "(" * 300 + ")" * 300, Reason.SYNTAX),
        ("x = " + "-" * 9000 + "1", Reason.SYNTAX),
        ("x = " + "+".join(["1"] * (MAX_DEPTH + 1)), Reason.SYNTAX),
        ("x = " + "9" * 5000, Reason.SYNTAX),
        ("#" * 65537, Reason.SOURCE_SIZE),
    ],
)
def test_texts_that_cannot_be_programs_are_verdicts(source: str | bytes, reason: Reason) -> None:
    assert check(source).reason is reason


def test_the_size_limit_counts_bytes() -> None:
    assert check("#é\n" + ENTRY, Limits(source_bytes=len(ENTRY) + 4)).ok
    assert check("#é\n" + ENTRY, Limits(source_bytes=len(ENTRY) + 3)).reason is Reason.SOURCE_SIZE


PIECES = "import os|import torch|torch.save|def merge_models(m, d):|    return m|x|__class__|.|(|)|[|]|=|:|\n| |for|in|lambda|f'{x}'"
MORE = "|class A|match x:|    case|del|*|1|'|\\|\t|async|with|global m|nonlocal m|yield|@|:=|->|**|{|}|except"
FRAGMENTS = st.lists(st.sampled_from((PIECES + MORE).split("|")), max_size=40).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=300), st.binary(max_size=300), FRAGMENTS))
def test_any_text_gives_a_verdict(source: str | bytes) -> None:
    verdict = check(source)
    assert isinstance(verdict, Verdict)
    assert verdict.ok == (verdict.reason is None)
