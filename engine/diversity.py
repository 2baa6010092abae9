"""What a program does, in numbers that do not ask how well: descriptors, from its text and from what it makes of the probe tensors.

Some are read off the answers to the probes (`merges/probes.py`), others off how these change when one thing about the probes is changed and nothing else:
the task vectors doubled, the experts in another order, the entries shuffled, another depth, name, base or seed. `descriptors.NUMBERS` says of each what it means and in
which range it lies, so that a campaign may choose any as an axis of its archive.
"""

from __future__ import annotations

import ast
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from blake3 import blake3
from torch import Tensor

from engine.descriptors import DEPENDENCES, NUMBERS, SKETCH_NUMBERS, Descriptors
from engine.effect import effect
from sandbox import ExecutionResult, TensorJob
from sandbox.gate import parse

Floats = npt.NDArray[np.float64]

Changes = tuple[str, ...]
"""Some of `DEPENDENCES`."""

Run = Callable[[Changes], ExecutionResult]
"""What the program in question makes of `changed_probes` after these changes."""


def describe(source: str, probes: Sequence[TensorJob], answer: ExecutionResult, run: Run) -> Descriptors:
    """The descriptors of a program that works on the probes.

    Args:
        source: its text.
        probes: as `merges.probes.probe_jobs` gives them.
        answer: what it made of them.
        run: how it is run on changed probes; what fails there counts as another result altogether.
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
        **_dependences(probes, results, run, tree),
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


# what is changed about the probes, and what a program that does not care makes of them then

Results = Mapping[str, Tensor]


def changed_probes(probes: Sequence[TensorJob], changes: Changes) -> list[TensorJob]:
    """The probes after each of some changes, of one thing each. Of several changes the names tell which: only for programs that do not ask for them."""
    return [
        job if len(changes) == 1 else replace(job, name=_tagged(job.name, change))
        for change in changes
        for job in _after(change, probes)
    ]


def _after(change: str, probes: Sequence[TensorJob]) -> list[TensorJob]:
    if change == "name":
        return [replace(job, name=new) for job, new in zip(probes, _other_names(probes), strict=True)]
    return [_CHANGES[change](job) for job in probes]


def _tagged(name: str, change: str) -> str:
    return f"{name}@{change}"


def _doubled(job: TensorJob) -> TensorJob:
    return replace(job, vectors={name: 2 * vector for name, vector in job.vectors.items()})


def _reordered(job: TensorJob) -> TensorJob:
    return replace(job, vectors=dict(reversed(list(job.vectors.items()))))


def _shuffled(job: TensorJob) -> TensorJob:
    base = None if job.base is None else _moved(job.name, job.base)
    return replace(job, vectors={name: _moved(job.name, vector) for name, vector in job.vectors.items()}, base=base)


def _elsewhere(job: TensorJob) -> TensorJob:
    return replace(job, depth=1.0 - job.depth)


def _over_another_base(job: TensorJob) -> TensorJob:
    return replace(job, base=None if job.base is None else 2 * job.base.flatten().flip(0).reshape(job.base.shape))


def _drawn_anew(job: TensorJob) -> TensorJob:
    return replace(job, seed=job.seed ^ 1)


_CHANGES: Mapping[str, Callable[[TensorJob], TensorJob]] = {
    "scaling": _doubled,
    "order": _reordered,
    "entries": _shuffled,
    "depth": _elsewhere,
    "base": _over_another_base,
    "randomness": _drawn_anew,
}


def _expected(change: str, job: TensorJob, result: Tensor) -> Tensor:
    """What a program that does not care about a change makes of a probe after it."""
    if change == "scaling":
        return 2 * result
    return _moved(job.name, result) if change == "entries" else result


def _other_names(probes: Sequence[TensorJob]) -> list[str]:
    """Of the next probe, round in a circle."""
    names = [job.name for job in probes]
    return names[1:] + names[:1]


def _moved(name: str, tensor: Tensor) -> Tensor:
    """The same entries, each in another place: the same place for all tensors of a probe."""
    order = torch.from_numpy(np.argsort(_noise(f"order of {name}", tensor.numel()), kind="stable"))
    return tensor.reshape(-1)[order].reshape(tensor.shape)


_GIVEN_BY_NAME = frozenset({"depth", "name", "base"})
"""What a program gets only if its entry point declares it."""


def _dependences(probes: Sequence[TensorJob], results: Results, run: Run, tree: ast.Module) -> Mapping[str, float]:
    """How far the results differ from what is expected after each change, 0..1."""
    declared = _declared(tree)
    asked = tuple(name for name in DEPENDENCES if name in declared or name not in _GIVEN_BY_NAME)
    found = dict.fromkeys(DEPENDENCES, 0.0)
    together = run(asked) if "name" not in asked else None  # one start of the sandbox instead of many
    for change in asked:
        if together is not None and together.outputs is not None:
            now = {job.name: together.outputs[_tagged(job.name, change)] for job in probes}
        else:
            answer = run((change,))
            if answer.outputs is None:
                found[change] = 1.0
                continue
            names = _other_names(probes) if change == "name" else [job.name for job in probes]
            now = {job.name: answer.outputs[new] for job, new in zip(probes, names, strict=True)}
        found[change] = _mean(_apart(now[job.name], _expected(change, job, results[job.name])) for job in probes)
    return found


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
