"""What a program does, in numbers that do not ask how well: descriptors, from its text and from what it makes of the probe tensors.

Some are read off the answers to the probes (`merges/probes.py`), others off how these change when one thing about the probes is changed and nothing else:
the task vectors doubled, the experts in another order, the entries shuffled, another depth, name, base or seed. `NUMBERS` says of each what it means and in
which range it lies, so that a campaign may choose any as an axis of its archive.
"""

from __future__ import annotations

import ast
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from blake3 import blake3
from torch import Tensor

from engine.effect import effect
from sandbox import ExecutionResult, TensorJob
from sandbox.gate import parse

Floats = npt.NDArray[np.float64]

Run = Callable[[Sequence[TensorJob]], ExecutionResult]
"""One execution of the program in question on some tensors."""

SKETCH_NUMBERS = 8
"""Numbers of a sketch for each probe tensor."""


@dataclass(frozen=True)
class Number:
    """What one numeric descriptor means.

    Attributes:
        low, high: where its values lie; those beyond count as the bound where it is an axis.
        meaning: in a line.
    """

    low: float
    high: float
    meaning: str


NUMBERS: Mapping[str, Number] = {
    "scale": Number(-1.0, 3.0, "sum of the weights in the weighted sum of task vectors that comes nearest"),
    "balance": Number(0.0, 1.0, "how evenly these weights fall on the experts: 1 all alike, 0 all on one (entropy)"),
    "variation": Number(0.0, 1.0, "how much the weights change from tensor to tensor (spread over size)"),
    "rest": Number(0.0, 1.0, "share of the result's squared norm that no weighted sum explains"),
    "size": Number(0.0, 4.0, "norm of the result over the mean norm of the task vectors"),
    "sparsity": Number(0.0, 1.0, "share of the result's entries that are 0"),
    "agreement": Number(0.0, 1.0, "share of its other entries whose sign is that of the task vectors' sum"),
    "scaling": Number(0.0, 1.0, "how far twice the task vectors give anything but twice the result; 0: it is homogeneous"),
    "order": Number(0.0, 1.0, "how far the result changes with the order of the experts"),
    "entries": Number(0.0, 1.0, "how far shuffled entries give anything but the shuffled result; 0: entries are treated alike"),
    "depth": Number(0.0, 1.0, "how far the result changes with the layer's depth"),
    "name": Number(0.0, 1.0, "how far it changes with the parameter's name"),
    "base": Number(0.0, 1.0, "how far it changes with the seed model's tensor"),
    "randomness": Number(0.0, 1.0, "how far it changes with the seed of the random generators"),
    "nodes": Number(20.0, 500.0, "size of the text: nodes of its syntax tree"),
}  # fmt: skip
"""The numeric descriptors. Those that say "how far" are relative differences, 0 none to 1 another result altogether, or none at all. None depends on the
machine: what a program costs in seconds and bytes is in its assessment, and its size here."""


@dataclass(frozen=True)
class Descriptors:
    """What a program does.

    Attributes:
        numbers: name → value, as in `NUMBERS`; not bounded but where the meaning bounds it.
        weights: mean weight of each expert, in their order, in the nearest weighted sum.
        operations: names of the methods and functions that its text calls, sorted.
        sketch: random projections of its answers to the probes; see `distance`.
    """

    numbers: Mapping[str, float]
    weights: tuple[float, ...]
    operations: tuple[str, ...]
    sketch: tuple[float, ...]


def describe(source: str, probes: Sequence[TensorJob], answer: ExecutionResult, run: Run) -> Descriptors:
    """The descriptors of a program that works on the probes.

    Args:
        source: its text.
        probes: as `merges.probes.probe_jobs` gives them.
        answer: what it made of them.
        run: how it is run on others; what fails there counts as another result altogether.
    """
    assert answer.outputs is not None, "a program that fails on the probes does nothing that could be described"
    results = answer.outputs
    effects = [effect(job, results[job.name]) for job in probes]
    weights = np.array([list(one.weights.values()) for one in effects])
    tree = parse(source)
    numbers = {
        "scale": float(weights.sum(axis=1).mean()),
        "balance": _balance(weights),
        "variation": _variation(weights),
        "rest": _mean(one.rest for one in effects),
        "size": _mean(one.size for one in effects),
        "sparsity": 1.0 - _mean(one.density for one in effects),
        "agreement": _mean(_agreement(job, results[job.name]) for job in probes),
        **{name: _changed(name, probes, results, run, tree) for name in _CHANGES},
        "nodes": float(sum(1 for _ in ast.walk(tree))),
    }
    return Descriptors(
        numbers={name: round(numbers[name], 6) for name in NUMBERS},
        weights=tuple(round(float(weight), 6) for weight in weights.mean(axis=0)),
        operations=_operations(tree),
        sketch=sketch(results),
    )


def sketch(results: Mapping[str, Tensor]) -> tuple[float, ...]:
    """Random projections of the answers to the probes, the same on every machine: what is alike lies near.

    Distances between sketches are those between the answers, to a tenth or so (Johnson and Lindenstrauss 1984).
    """
    numbers = []
    for name in sorted(results):
        values = results[name].detach().to(torch.float64).reshape(-1).numpy()
        directions = _directions(name, values.size)
        numbers += [round(float(number), 9) for number in directions @ values]
    return tuple(numbers)


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """How far two programs' answers to the probes lie apart, 0 (alike) to 1 (nothing in common, or more), from their sketches.

    It is the relative difference of each probe's part, and the mean over the probes: a tensor of small numbers counts as much as one of large ones.
    """
    a, b = (np.asarray(numbers).reshape(-1, SKETCH_NUMBERS) for numbers in (one, other))
    apart = np.linalg.norm(a - b, axis=1)
    sizes = np.maximum(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    shares = np.divide(apart, sizes, out=np.zeros_like(apart), where=sizes > 0)
    return float(np.minimum(shares, 1.0).mean())


# what is changed about the probes: each gives the changed probes, and what a program that does not care makes of them

_Changed = tuple[list[TensorJob], dict[str, Tensor]]


def _doubled(probes: Sequence[TensorJob], results: Mapping[str, Tensor]) -> _Changed:
    jobs = [replace(job, vectors={k: 2 * v for k, v in job.vectors.items()}) for job in probes]
    return jobs, {name: 2 * result for name, result in results.items()}


def _reordered(probes: Sequence[TensorJob], results: Mapping[str, Tensor]) -> _Changed:
    return [replace(job, vectors=dict(reversed(list(job.vectors.items())))) for job in probes], dict(results)


def _shuffled(probes: Sequence[TensorJob], results: Mapping[str, Tensor]) -> _Changed:
    jobs, expected = [], {}
    for job in probes:
        result = results[job.name]
        order = torch.from_numpy(np.argsort(_noise(f"order of {job.name}", result.numel()), kind="stable"))

        def moved(tensor: Tensor, order: Tensor = order) -> Tensor:
            return tensor.reshape(-1)[order].reshape(tensor.shape)

        base = None if job.base is None else moved(job.base)
        jobs.append(replace(job, vectors={k: moved(v) for k, v in job.vectors.items()}, base=base))
        expected[job.name] = moved(result)
    return jobs, expected


def _elsewhere(probes: Sequence[TensorJob], results: Mapping[str, Tensor]) -> _Changed:
    return [replace(job, depth=1.0 - job.depth) for job in probes], dict(results)


def _renamed(probes: Sequence[TensorJob], results: Mapping[str, Tensor]) -> _Changed:
    names = [job.name for job in probes]
    other = dict(zip(names, names[1:] + names[:1], strict=True))
    return [replace(job, name=other[job.name]) for job in probes], {other[name]: t for name, t in results.items()}


def _over_another_base(probes: Sequence[TensorJob], results: Mapping[str, Tensor]) -> _Changed:
    jobs = [replace(job, base=None if job.base is None else 2 * job.base.flatten().flip(0).reshape(job.base.shape)) for job in probes]  # fmt: skip
    return jobs, dict(results)


def _drawn_anew(probes: Sequence[TensorJob], results: Mapping[str, Tensor]) -> _Changed:
    return [replace(job, seed=job.seed ^ 1) for job in probes], dict(results)


_CHANGES: Mapping[str, Callable[[Sequence[TensorJob], Mapping[str, Tensor]], _Changed]] = {
    "scaling": _doubled,
    "order": _reordered,
    "entries": _shuffled,
    "depth": _elsewhere,
    "name": _renamed,
    "base": _over_another_base,
    "randomness": _drawn_anew,
}
_GIVEN_BY_NAME = frozenset({"depth", "name", "base"})
"""What a program gets only if its entry point declares it."""


def _changed(
    name: str, probes: Sequence[TensorJob], results: Mapping[str, Tensor], run: Run, tree: ast.Module
) -> float:
    if name in _GIVEN_BY_NAME and name not in _declared(tree):
        return 0.0
    jobs, expected = _CHANGES[name](probes, results)
    answer = run(jobs)
    if answer.outputs is None:
        return 1.0
    return _mean(_apart(answer.outputs[job.name], expected[job.name]) for job in jobs)


def _apart(found: Tensor, expected: Tensor) -> float:
    """Relative difference, at most 1."""
    norm = float(expected.norm())
    difference = float((found.to(expected.dtype) - expected).norm())
    if not difference:
        return 0.0
    return min(1.0, difference / norm) if norm else 1.0


def _declared(tree: ast.Module) -> frozenset[str]:
    """Parameters of the entry point."""
    entry = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "merge_models"][-1]
    return frozenset(one.arg for one in (*entry.args.posonlyargs, *entry.args.args, *entry.args.kwonlyargs))


def _operations(tree: ast.Module) -> tuple[str, ...]:
    """`v.abs()`, `torch.linalg.svd(v)` and `from torch import topk; topk(v)`: abs, svd, topk."""
    imported = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Attribute):
                found.add(called.attr)
            elif isinstance(called, ast.Name) and called.id in imported:
                found.add(imported[called.id])
    return tuple(sorted(found - _OF_DICTIONARIES))


_OF_DICTIONARIES = frozenset({"values", "items", "keys", "get", "append", "extend", "copy", "format", "join"})
"""What a text does with its arguments and lists: no operation on tensors."""


def _agreement(job: TensorJob, result: Tensor) -> float:
    """Of the entries that are not 0; 1 where all are."""
    total = torch.stack(list(job.vectors.values())).sum(dim=0)
    there = result != 0
    if not bool(there.any()):
        return 1.0
    return float((result.sign() == total.sign())[there].double().mean())


def _balance(weights: Floats) -> float:
    """Entropy of the sizes of the mean weights, over its largest value; 1 where all are 0, or there is one expert."""
    sizes = np.abs(weights.mean(axis=0))
    if not sizes.sum() or len(sizes) < 2:
        return 1.0
    shares = sizes / sizes.sum()
    return float(-(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares))).sum() / math.log(len(shares)))


def _variation(weights: Floats) -> float:
    """Root mean square distance of the tensors' weights from their mean, over the root mean square of the weights; 0 where all are 0."""
    size = float(np.sqrt((weights**2).mean()))
    return float(np.sqrt(((weights - weights.mean(axis=0)) ** 2).mean())) / size if size else 0.0


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


@functools.lru_cache(maxsize=64)
def _directions(name: str, size: int) -> Floats:
    rows = np.stack([_noise(f"sketch {row} of {name}", size) for row in range(SKETCH_NUMBERS)])
    return rows / math.sqrt(SKETCH_NUMBERS)


def _noise(label: str, size: int) -> Floats:
    """Fixed numbers of mean 0 and variance 1, the same on every machine."""
    raw = np.frombuffer(blake3(label.encode()).digest(length=4 * size), dtype="<u4")
    return (raw / 2**32 - 0.5) * math.sqrt(12)
