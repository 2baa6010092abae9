"""Ids and normal form of programs."""

from __future__ import annotations

import ast
import random
import textwrap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from merges import library
from merges.contract import CONTRACT, EXAMPLE, canonical, program_id, signature_of
from merges.errors import ProgramError
from sandbox import check

PLAIN = "import torch\n\n\ndef merge_models(model_dict, device):\n    return sum(model_dict.values()) * 0.5\n"
ALL = [EXAMPLE, PLAIN, *(library.source(name) for name in library.names())]


def test_example_is_accepted_and_runs_for_any_number_of_models(run):
    assert check(EXAMPLE).ok
    assert signature_of(EXAMPLE).parameters == {"w0": 0.4, "w1": 0.3, "w2": 0.3}
    ones = [torch.full((2, 3), float(i + 1)) for i in range(5)]
    assert run(EXAMPLE, ones).flatten()[0].item() == pytest.approx(0.4 + 0.6 + 0.9 + 1.2 + 1.5)
    assert run(EXAMPLE, ones[:2], w1=1.0).flatten()[0].item() == pytest.approx(2.4)


def test_what_the_contract_promises_is_there(run):
    source = (
        "import math\nimport numpy as np\nimport torch\n\n\n"
        "def mean(vectors):\n    return sum(vectors) / len(vectors)\n\n\n"
        "def merge_models(model_dict, device, name, depth, base, rng, *, scale=2.0):\n"
        "    merged = mean(list(model_dict.values())).to(device)\n"
        "    merged += math.log(1.0) + float(np.zeros(1)[0]) + 0 * torch.rand(base.shape, generator=rng)\n"
        "    return scale * merged if name and depth < 1 else base\n"
    )
    assert torch.equal(run(source, [torch.ones(2, 3), torch.zeros(2, 3)]), torch.ones(2, 3))


def test_contract_names_every_input_and_its_signatures_are_python():
    for word in ("model_dict", "device", "name", "depth", "base", "rng", "float32", "Keyword-only", "1-D"):
        assert word in CONTRACT
    definitions = [line for line in CONTRACT.splitlines() if line.strip().startswith("def ")]
    assert len(definitions) == 2
    for definition in definitions:
        ast.parse(textwrap.dedent(definition) + " return None")


def test_id_is_pinned():
    # An archive names programs by these ids: a change of the algorithm is a change of every archive.
    assert program_id(PLAIN) == "a96d0149b834"
    assert program_id("def broken(:") == "35910da36a9a"


def test_ids_of_the_library_are_distinct_hex():
    ids = {program_id(source) for source in ALL}
    assert len(ids) == len(ALL)
    assert all(len(i) == 12 and int(i, 16) >= 0 for i in ids)


@pytest.mark.parametrize("source", ALL)
def test_formatting_comments_and_docstrings_do_not_matter(source):
    assert program_id(canonical(source)) == program_id(source)
    assert program_id("# why\n" + source.replace("\n\n", "\n\n\n# because\n")) == program_id(source)
    assert program_id('"""Other words."""\n' + canonical(source)) == program_id(source)
    assert canonical(canonical(source)) == canonical(source)
    assert '"""' not in canonical(source)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = 'None'", "x = None"),
        ("x = [1, [2]]", "x = [[1], 2]"),
        ("x = [1, [2]]", "x = [1, 2]"),
        ("x = a - (b - c)", "x = a - b - c"),
        ("x = 1", "y = 1"),
        ("x = {**a}", "x = {None: a}"),
        ("def f(a, *, b=1): pass", "def f(a, b=1): pass"),
        ("x = ''", "x = b''"),
        ("x[1:]", "x[:1]"),
        ("def f():\n 'doc'\n return 1", "def f():\n 'doc'\n return 2"),
    ],
)
def test_different_trees_have_different_ids(one, other):
    assert program_id(one) != program_id(other)


def test_names_of_locals_matter_and_string_statements_after_the_docstring_too():
    assert program_id(PLAIN.replace("device", "where")) != program_id(PLAIN)
    assert program_id("def f():\n 'a'\n 'b'\n return 1") != program_id("def f():\n 'a'\n return 1")


def test_docstring_alone_equals_pass():
    assert program_id("def f():\n 'doc'") == program_id("def f():\n pass")
    assert canonical("'only words'") == "\n"


@pytest.mark.parametrize(
    "text",
    [
        "def f(:",
        "x = (" * 50,
        "-" * 60_000 + "1",
        "a" + ".b" * 20_000,
        "x = 0x" + "f" * 60_000,
        "x\x00y",
        "\ud800",
        "",
        "x = 1\n" * 100_000,
    ],
)
def test_every_text_has_an_id(text):
    assert len(program_id(text)) == 12
    assert program_id(text) == program_id(text)


@given(st.text(max_size=200))
def test_any_text_has_an_id(text):
    assert len(program_id(text)) == 12


@given(st.integers(0, 2**32))
def test_id_of_random_expressions_survives_reprinting(seed):
    rng = random.Random(seed)

    def expression(depth: int) -> str:
        if depth == 0:
            return rng.choice(["a", "b", "1", "2.5", "1e-9", "None", "'s'", "f'{a!r:>{b}}'", "-3", "..."])
        left, right = expression(depth - 1), expression(depth - 1)
        form = rng.choice(["({} + {})", "f({}, k={})", "[{}, *{}]", "{{{}: {}}}", "({} if a else {})", "a[{}:{}]"])
        return form.format(left, right)

    source = f"x = {expression(rng.randint(0, 4))}"
    assert program_id(ast.unparse(ast.parse(source))) == program_id(source)


def test_canonical_of_broken_text_says_where():
    with pytest.raises(
        ProgramError, match=r"^program: expected Python source, got SyntaxError .*mend the syntax$"
    ) as info:
        canonical("x = 1\ndef f(:\n  pass")
    assert (info.value.reason, info.value.line) == ("syntax", 2)


def test_invalid_escape_of_a_candidate_warns_nobody(recwarn):
    program_id("x = '\\d'")
    assert not recwarn.list
