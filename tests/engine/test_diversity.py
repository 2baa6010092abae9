"""Descriptors: each is moved by the one thing that it speaks of, and stays where it should otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

import numpy as np
import pytest
import torch

from engine.bench import open_sandbox
from engine.config import CampaignConfig
from engine.descriptors import NUMBERS, Descriptors, distance
from engine.diversity import changed_probes, describe, sketch
from merges.probes import probe_jobs
from sandbox import ExecutionResult, Sandbox, TensorJob

PROBES = probe_jobs(3)
BEHAVIOUR = ("scaling", "order", "entries", "depth", "name", "base", "randomness")

SUM = "def merge_models(model_dict, device):\n    return 0.4 * sum(model_dict.values())\n"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with closing(open_sandbox(CampaignConfig())) as one:
        yield one


def described(sandbox: Sandbox, source: str) -> Descriptors:
    answer = sandbox.execute(source, PROBES)
    assert answer.ok, answer.detail
    return describe(source, PROBES, answer, lambda changes: sandbox.execute(source, changed_probes(PROBES, changes)))


def body(text: str, *also: str) -> str:
    """A program of one or several lines over the list `v` of task vectors."""
    lines = "".join(f"    {line}\n" for line in text.split("\n"))
    declared = ", ".join(("model_dict", "device", *also))
    return f"import torch\n\ndef merge_models({declared}):\n    v = list(model_dict.values())\n{lines}"


def test_a_plain_sum_is_described_by_its_weights_alone(sandbox: Sandbox) -> None:
    found = described(sandbox, SUM)
    assert found.weights == pytest.approx((0.4, 0.4, 0.4), abs=1e-5)
    numbers = dict(found.numbers)
    assert list(numbers) == list(NUMBERS)
    assert numbers.pop("size") == pytest.approx(0.4 * size_of_the_sum(), abs=1e-5)
    assert numbers.pop("nodes") == 17
    expected = {"scale": 1.2, "balance": 1.0, "agreement": 1.0}
    assert numbers == pytest.approx({name: expected.get(name, 0.0) for name in numbers}, abs=1e-5)
    assert found.operations == ()


def size_of_the_sum() -> float:
    """Norm of the sum over the mean norm of the task vectors, over the probes."""
    norms = [
        torch.stack(list(job.vectors.values())).sum(0).norm() / np.mean([v.norm() for v in job.vectors.values()])
        for job in PROBES
    ]
    return float(np.mean(norms))


@pytest.mark.parametrize(
    ("moved", "source"),
    [
        ("scaling", body("return sum(v) + 0.01 * sum(v).sign()")),
        ("order", body("return 0.6 * v[0] + 0.2 * v[1] + 0.2 * v[2]")),
        ("entries", body("s = sum(v)\nreturn s.flatten().cumsum(0).reshape(s.shape)")),
        ("depth", body("return (0.2 + depth) * sum(v)", "depth")),
        ("name", body("return (0.3 if 'mlp' in name else 0.6) * sum(v)", "name")),
        ("base", body("return base.norm() * sum(v)", "base")),
        ("randomness", body("s = sum(v)\nreturn s * (torch.rand(s.shape) > 0.2)")),
    ],
)
def test_each_change_of_the_probes_shows_what_a_program_depends_on(sandbox: Sandbox, moved: str, source: str) -> None:
    numbers = described(sandbox, source).numbers
    assert numbers[moved] > 0.05
    # a mask that is drawn for the places of a tensor does not follow its entries either
    also = {"entries"} if moved == "randomness" else set()
    assert {name: numbers[name] for name in BEHAVIOUR if name not in {moved, *also}} == pytest.approx(
        {name: 0.0 for name in BEHAVIOUR if name not in {moved, *also}}, abs=1e-5
    )


def test_what_is_declared_and_not_used_moves_nothing(sandbox: Sandbox) -> None:
    numbers = described(sandbox, body("return sum(v)", "depth", "name", "base", "rng")).numbers
    assert {name: numbers[name] for name in BEHAVIOUR} == dict.fromkeys(BEHAVIOUR, 0.0)


def test_a_program_that_fails_on_a_change_depends_on_it_altogether(sandbox: Sandbox) -> None:
    source = body("if list(model_dict)[0] != 'model_0':\n    raise ValueError('no')\nreturn sum(v)")
    assert described(sandbox, source).numbers["order"] == 1.0


@pytest.mark.parametrize(
    ("source", "name", "expected"),
    [
        (body("return v[1]"), "balance", 0.0),
        (body("return v[0] - v[1]"), "scale", 0.0),
        (body("return 0 * v[0]"), "sparsity", 1.0),
        (body("return 0 * v[0]"), "agreement", 1.0),
        (body("return -1 * sum(v)"), "agreement", 0.0),
        (body("s = sum(v)\nreturn s * (s > 0)"), "agreement", 1.0),
    ],
)
def test_the_edges_of_the_ranges(sandbox: Sandbox, source: str, name: str, expected: float) -> None:
    assert described(sandbox, source).numbers[name] == pytest.approx(expected, abs=1e-4)


def test_half_of_the_entries_cut_away_are_half_the_sparsity(sandbox: Sandbox) -> None:
    source = body("s = sum(v)\nreturn s * (s.abs() >= s.abs().flatten().median())")
    numbers = described(sandbox, source).numbers
    assert numbers["sparsity"] == pytest.approx(0.5, abs=0.04)
    assert 0.0 < numbers["rest"] < 0.5


def test_weights_that_change_with_the_depth_vary(sandbox: Sandbox) -> None:
    steady = described(sandbox, SUM).numbers["variation"]
    changing = described(sandbox, body("return depth * sum(v)", "depth")).numbers["variation"]
    depths = np.array([job.depth for job in PROBES])
    assert steady == pytest.approx(0.0, abs=1e-5)
    assert changing == pytest.approx(depths.std() / np.sqrt((depths**2).mean()), abs=1e-4)


def test_operations_are_named_as_they_are_called_whatever_they_were_imported_as(sandbox: Sandbox) -> None:
    source = (
        "import torch.nn.functional as F\nfrom torch import stack as pile\n\ndef merge_models(model_dict, device):\n"
        "    s = pile(list(model_dict.values()))\n    return F.relu(s).mean(0) - s.abs().median(dim=0).values\n"
    )
    assert described(sandbox, source).operations == ("abs", "mean", "median", "relu", "stack")


def test_numbers_lie_in_their_ranges_for_programs_of_all_kinds(sandbox: Sandbox) -> None:
    for source in (SUM, body("return v[0] * v[1]"), body("return torch.randn(v[0].shape)"), body("return 0 * v[0]")):
        for name, value in described(sandbox, source).numbers.items():
            if (NUMBERS[name].low, NUMBERS[name].high) == (0.0, 1.0) and name != "variation":
                assert 0.0 <= value <= 1.0, name


def test_the_same_program_is_described_the_same_again(sandbox: Sandbox) -> None:
    source = body("s = sum(v)\nreturn s * (torch.rand(s.shape) > 0.2)")
    assert described(sandbox, source) == described(sandbox, source)


def answers(sandbox: Sandbox, source: str) -> ExecutionResult:
    return sandbox.execute(source, PROBES)


def true_distance(one: ExecutionResult, other: ExecutionResult, probes: Sequence[TensorJob] = PROBES) -> float:
    assert one.outputs is not None
    assert other.outputs is not None
    shares = []
    for job in probes:
        a, b = one.outputs[job.name], other.outputs[job.name]
        shares.append(min(1.0, float((a - b).norm() / max(a.norm(), b.norm()))))
    return float(np.mean(shares))


def test_the_distance_of_sketches_is_nearly_that_of_the_answers(sandbox: Sandbox) -> None:
    sources = [
        SUM,
        SUM.replace("0.4", "0.42"),
        body("return 0.4 * sum(v) * (v[0].sign() == v[1].sign())"),
        body("return v[0]"),
        body("return -1 * v[2]"),
    ]
    found = [answers(sandbox, source) for source in sources]
    sketches = [sketch(one.outputs) for one in found if one.outputs is not None]
    for i, a in enumerate(found):
        for j, b in enumerate(found):
            near = distance(sketches[i], sketches[j])
            assert near == distance(sketches[j], sketches[i])
            assert near == pytest.approx(true_distance(a, b), abs=0.12)
    assert distance(sketches[0], sketches[0]) == 0.0
    assert distance(sketches[0], sketches[1]) == pytest.approx(0.02 / 0.42, abs=1e-4)  # a multiple: exact


def test_programs_that_give_nothing_are_alike_and_unlike_all_others(sandbox: Sandbox) -> None:
    nothing = answers(sandbox, body("return 0 * v[0]"))
    assert nothing.outputs is not None
    zero = sketch(nothing.outputs)
    assert distance(zero, zero) == 0.0
    assert distance(zero, described(sandbox, SUM).sketch) == 1.0
