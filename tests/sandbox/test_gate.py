"""The gate: any text gives a verdict; a refusal names rule, name and line."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import RULES, Limits, Reason, Signature, Verdict, check, signature_of
from sandbox.gate import MAX_DEPTH

ENTRY = "def merge_models(model_dict, device):\n    return model_dict['a']\n"


@pytest.mark.parametrize(
    ("text", "rule", "name", "line"),
    [
        ("import os\nos.getcwd()\n", "import", "'os'", 1),
        ("import os.path as p\np\n", "import", "'os.path'", 1),
        ("from . import x\nx()\n", "import", "'.'", 1),
        ("from os import *\n", "import", "'os'", 1),
        ("import torch._C as c\nc\n", "import", "'torch._C'", 1),
        ("import torch\ntorch.save(1, 'x')\n", "name", "'torch.save'", 2),
        ("import torch as t\nt.nn.Transformer(1, 1)\n", "name", "'torch.nn.Transformer'", 2),
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
        ("match 1:\n    case object(real=r): pass\n", "statement", "'class pattern with attributes'", 2),
        ("match 1:\n    case P(r): pass\n", "statement", "'class pattern with attributes'", 2),
        ("int = 3\nmatch 1:\n    case int(r): pass\n", "statement", "'class pattern with attributes'", 3),
        ("class C:\n    gi_frame = None\n", "reserved-name", "'gi_frame'", 2),
        ("class C:\n    __match_args__ = ()\n", "reserved-name", "'__match_args__'", 2),
        ("_cases_of_0 = 1\n", "reserved-name", "'_cases_of_0'", 1),
    ],
)
def test_a_refusal_names_rule_name_and_line(text: str, rule: str, name: str, line: int) -> None:
    verdict = check(text + ENTRY)
    assert (verdict.ok, verdict.reason, verdict.rule, verdict.line) == (False, Reason.POLICY, rule, line)
    assert verdict.detail is not None
    assert f"name {name}" in verdict.detail
    assert RULES[rule] in verdict.detail


@pytest.mark.parametrize(
    "text", ["import os\n", "import os, sys, json\n", "from tqdm import tqdm\n", "import torch.optim as optim\n"]
)
def test_an_import_that_is_never_used_is_no_attempt(text: str) -> None:
    assert check(text + ENTRY).ok


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
        ("m, d, *, a=" + "9" * 400 + ", b=1e999, c=-1e999, e=2", Signature(frozenset(), {"e": 2})),
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
        ("a" + "\u0301" * 15000 + "\u0316" * 15000 + "+b c", Reason.SYNTAX),
        ("import a" + ".b" * 32000, Reason.SYNTAX),
        ("x = " + " ".join("f'{a}'" for _ in range(8000)), Reason.SYNTAX),
        ("from torch import " + ",".join(f"arc{i}" for i in range(7000)), Reason.POLICY),
        ("import torch\n" + ";".join(f"torch.a{i}" for i in range(5000)), Reason.POLICY),
        ("import torch\ntorch." + "a" * 60000, Reason.POLICY),
    ],
)
def test_texts_that_cannot_be_programs_are_verdicts(source: str | bytes, reason: Reason) -> None:
    assert check(source).reason is reason


HARD_TEXTS = {
    "marks": "a" + "\u0301" * 15000 + "\u0316" * 15000 + "+b c",
    "dots": "import a" + ".b" * 32000,
    "dots_apart": "x = a" + " .\n b" * 12000,
    "braces": "x = f'" + "{a}" * 21000 + "'",
    "hints": "from torch import " + ",".join(f"arc{i}" for i in range(7000)),
    "attributes": "import torch\n" + ";".join(f"torch.a{i}" for i in range(5000)),
    "long_names": "import torch\ntorch." + "a" * 60000,
    "names": "x = " + "+".join(f"n{i}" for i in range(40)) + "\n" * 60000,
    "brackets": "x = " + "[{(" * 90,
    "backslashes": "x = '" + "\\\n" * 30000,
    "strings": "x = " + "'a' " * 16000,
    "lambdas": "x = " + "lambda: " * 8000 + "1",
    "comparisons": "x = " + "a<" * 30000 + "a",
    "digits": "x = 0x" + "f" * 65000,
    "decorators": "@a\n" * 20000 + "def f(): pass",
    "arguments": "def f(" + ",".join(f"a{i}=1" for i in range(7000)) + "): pass",
    "matches": "match x:\n" + "    case 1: pass\n" * 3500,
    "unpacking": "x = " + "*a, " * 15000,
    "keywords": "f(" + ",".join(f"a{i}=1" for i in range(7000)) + ")",
    "globals": "def f():\n global " + ",".join(f"a{i}" for i in range(9000)),
    "semicolons": ";" * 65000,
    "indents": "".join(" " * i + "if x:\n" for i in range(99)),
    "walrus": "x = " + "(a:=" * 150 + "1" + ")" * 150,
    "with": "with " + ", ".join("a as b" for _ in range(7000)) + ": pass",
    "not": "x = " + "not " * 16000 + "1",
    "await": "x = " + "await " * 10000 + "1",
    "bom": "\ufeff" * 20000,
    "nulls": "\0" * 65000,
    "encoding": "# -*- coding: utf-7 -*-\n+AGk-mport os",
    "form_feeds": "\f" * 65000,
    "types": "x: " + "list[" * 90 + "int" + "]" * 90 + " = 1",
}  # fmt: skip
"""Texts of at most 64 KiB that cost, or might cost, Python's parser or the gate far more than their length."""


@pytest.mark.parametrize("name", HARD_TEXTS)
def test_no_text_costs_the_host_much(name: str) -> None:
    """The host parses without limits, so no text may cost it seconds or hundreds of megabytes. In a process of its own, bounded
    at 400 MiB of memory and 5 s of processor time, some twenty times what the worst of these takes."""
    code = (
        "import resource, sys; from sandbox import check\n"
        "resource.setrlimit(resource.RLIMIT_AS, (400 << 20,) * 2); resource.setrlimit(resource.RLIMIT_CPU, (5, 5))\n"
        "verdict = check(sys.stdin.buffer.read()); sys.exit(0 if verdict.ok or len(verdict.detail) < 2048 else 3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=HARD_TEXTS[name].encode(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-300:]


def _disturbed(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    real, left = ast.parse, [times]

    def disturbed(text: str, filename: str) -> ast.Module:
        if left[0]:
            left[0] -= 1
            raise SystemError("AST constructor recursion depth mismatch (before=39, after=40)")
        return real(text, filename=filename)

    monkeypatch.setattr("sandbox.gate.ast.parse", disturbed)


def test_another_thread_that_disturbs_the_parser_costs_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    _disturbed(monkeypatch, 3)
    assert check(ENTRY) == Verdict(True)


def test_a_parser_that_is_always_disturbed_is_the_hosts_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    _disturbed(monkeypatch, 1_000)
    with pytest.raises(SystemError, match="mismatch"):
        check(ENTRY)


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
