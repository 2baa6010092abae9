"""Record what mergekit 0.1.5 and peft 0.21.2 make of small tensors: the numbers that merges/library has to reproduce.

mergekit wants versions of its own, so it lives in an environment of its own; only its outputs are kept in git.

    python -m venv mk && mk/bin/pip install torch==2.13.0 && mk/bin/pip install mergekit==0.1.5 peft==0.21.2
    mk/bin/python tests/merges/goldens/record.py

writes `tensors.safetensors` and `cases.json` beside this file. Tensors are `<shape>/base`, `<shape>/expert_<i>` (whole
weights, not task vectors) and `out/<number of the case>` (merged weights). A case is
{"program", "parameters" (ours), "method", "mergekit" or "peft" (its parameters), "shape", "experts"} and, where something
is dropped at random, "seed": both peers then draw their masks as ours are drawn from a generator of that seed, so that
every number but the draw itself is theirs.

mergekit's DARE rescales to the L1 norm from before the dropping; the paper and peft divide by the density, as ours does. So
dropping with rescaling is recorded from peft, dropping without it (and the rest) from mergekit.

Not covered: which of several equal magnitudes stay when TIES or breadcrumbs trim. mergekit sorts with an unstable
sort, so that its choice depends on the processor (seen with AVX-512); ours keeps those that come first.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from mergekit.merge_methods.api import merge_tensors
from peft.utils import merge_utils
from safetensors.torch import save_file

HERE = Path(__file__).parent
SHAPES = {"1d": (37,), "2d": (12, 17), "3d": (3, 5, 8)}
COUNTS = (2, 3, 5)
WEIGHTS = (0.9, -0.3, 0.5, 0.2, 0.7)


def inputs(shape: str) -> list[torch.Tensor]:
    """The base and five experts, of unequal norm, sharing a direction."""
    generator = torch.Generator().manual_seed(sorted(SHAPES).index(shape))
    draw = [torch.randn(SHAPES[shape], generator=generator) for _ in range(7)]
    base, shared, own = draw[0], draw[1], draw[2:]
    experts = [base + size * (0.5 * shared + tau) for size, tau in zip((0.3, 0.1, 0.7, 0.2, 0.4), own, strict=True)]
    return [base, *experts]


def cases() -> list[dict]:
    """Every program with several settings; new ones at the end, so that the others keep their numbers."""
    listed = []

    def add(
        program: str,
        ours: dict,
        method: str,
        theirs: dict,
        counts: tuple[int, ...] = COUNTS,
        peer: str = "mergekit",
        seed: int | None = None,
    ) -> None:
        """One case for every shape and count; a weight of None stands for `WEIGHTS`, expert by expert."""
        for shape, count in itertools.product(SHAPES, counts):
            parameters, settings = dict(ours), dict(theirs)
            if theirs.get("weight", 0) is None:
                parameters.update({f"w{i}": WEIGHTS[i] for i in range(count)})
                settings["weight"] = list(WEIGHTS[:count])
            case = {"program": program, "parameters": parameters, "method": method, peer: settings}
            listed.append({**case, "shape": shape, "experts": count, **({} if seed is None else {"seed": seed})})

    add("linear", {}, "linear", {"weight": 1.0})
    add("linear", {}, "linear", {"weight": None})
    add("task_arithmetic", {"scale": 0.3}, "task_arithmetic", {"weight": 0.3})
    add("weighted_task_arithmetic", {"scale": 0.8}, "task_arithmetic", {"weight": None, "lambda": 0.8})
    add("ties", {"density": 0.3}, "ties", {"weight": 1.0, "density": 0.3})
    add("ties", {"density": 0.6, "scale": 0.7}, "ties", {"weight": None, "density": 0.6, "lambda": 0.7})
    add("ties", {"density": 0.5, "normalize": 0}, "ties", {"weight": None, "density": 0.5, "normalize": False})
    add("ties", {"density": 0.001}, "ties", {"weight": 1.0, "density": 0.001})
    add("dare_linear", {"density": 1.0, "scale": 0.6}, "dare_linear", {"weight": None, "density": 1.0, "lambda": 0.6})
    add("dare_ties", {"density": 1.0, "scale": 0.6}, "dare_ties", {"weight": None, "density": 1.0, "lambda": 0.6})
    add("model_stock", {}, "model_stock", {})
    add("model_stock", {"filter_wise": 1}, "model_stock", {"filter_wise": True})
    add("slerp", {"t": 0.3}, "slerp", {"t": 0.3}, (2,))
    add("nuslerp", {}, "nuslerp", {"weight": 1.0}, (2,))
    for flatten, row_wise in ((1, 0), (0, 0), (0, 1)):
        theirs = {"weight": [0.3, 0.5], "nuslerp_flatten": bool(flatten), "nuslerp_row_wise": bool(row_wise)}
        add("nuslerp", {"w0": 0.3, "w1": 0.5, "flatten": flatten, "row_wise": row_wise}, "nuslerp", theirs, (2,))
    crumbs = {"weight": None, "density": 0.7, "gamma": 0.1, "lambda": 0.5}
    fewer = {"weight": None, "density": 0.95, "gamma": 0.2}
    add("breadcrumbs", {"density": 0.7, "gamma": 0.1, "scale": 0.5}, "breadcrumbs", crumbs)
    add("breadcrumbs", {"density": 0.95, "gamma": 0.2, "scale": 1.0}, "breadcrumbs", fewer)
    plain = {"weight": None, "rescale": False}
    for program, density, scale in (("dare_linear", 0.5, 0.6), ("dare_ties", 0.3, 0.6)):
        theirs = {**plain, "density": density, "lambda": scale}
        add(program, {"density": density, "scale": scale, "rescale": 0}, program, theirs, seed=11)
    theirs = {**plain, "density": 0.7, "normalize": True}
    add("dare_ties", {"density": 0.7, "scale": 1.0, "rescale": 0, "normalize": 1}, "dare_ties", theirs, seed=12)
    for density in (0.1, 0.4):
        theirs = {"weight": None, "density": density}
        add("dare_linear", {"density": density, "scale": 1.0}, "dare_linear", theirs, peer="peft", seed=13)
    theirs = {"weight": 1.0, "density": 0.6}  # peft elects signs before it weighs, so only equal weights agree
    add("dare_ties", {"density": 0.6, "scale": 1.0, "normalize": 1}, "dare_ties", theirs, peer="peft", seed=14)
    add("breadcrumbs_ties", {"density": 0.7, "gamma": 0.1, "scale": 0.5}, "breadcrumbs_ties", crumbs)
    theirs = {**fewer, "normalize": True}
    add("breadcrumbs_ties", {"density": 0.95, "gamma": 0.2, "scale": 1.0, "normalize": 1}, "breadcrumbs_ties", theirs)
    add("sce", {}, "sce", {})
    add("sce", {"density": 0.4}, "sce", {"select_topk": 0.4})
    add("ram", {"epsilon": 0.1}, "ram", {"epsilon": 0.1})
    add("ramplus", {"epsilon": 0.2}, "ramplus_tl", {"epsilon": 0.2})
    add("ramplus", {"epsilon": 0.3, "r": 0.5, "alpha": 3.0}, "ramplus_tl", {"epsilon": 0.3, "r": 0.5, "alpha": 3.0})
    add("karcher", {}, "karcher", {})
    add("karcher", {"steps": 2}, "karcher", {"max_iter": 2})
    add("multislerp", {}, "multislerp", {"weight": 1.0})
    add("multislerp", {}, "multislerp", {"weight": None})
    add("nearswap", {"t": 0.1}, "nearswap", {"t": 0.1}, (1,))
    add("arcee_fusion", {}, "arcee_fusion", {}, (1,))
    for program, density, scale in (("della_linear", 0.5, 0.6), ("della", 0.3, 0.7)):
        theirs = {**plain, "density": density, "epsilon": 0.1, "lambda": scale}
        add(program, {"density": density, "epsilon": 0.1, "scale": scale, "rescale": 0}, program, theirs, seed=15)
    return listed


@contextmanager
def masks_as_ours(case: dict) -> Iterator[None]:
    """`torch.bernoulli`, with which both peers draw one mask per expert in their order, compares uniforms as ours does."""
    generator = torch.Generator().manual_seed(case.get("seed", 0))
    draws = []

    def drawn(probabilities: torch.Tensor) -> torch.Tensor:
        draws.append(probabilities)
        return (torch.rand(probabilities.shape, generator=generator) < probabilities).to(probabilities.dtype)

    with mock.patch("torch.bernoulli", drawn):
        yield
    assert len(draws) == (case["experts"] if "seed" in case else 0), case


def merged_by_peft(case: dict, tensors: list[torch.Tensor]) -> torch.Tensor:
    """peft knows task vectors only."""
    base, experts = tensors[0], tensors[1 : case["experts"] + 1]
    weight, density = case["peft"]["weight"], case["peft"]["density"]
    weights = torch.tensor(weight if isinstance(weight, list) else [weight] * len(experts))
    return base + getattr(merge_utils, case["method"])([expert - base for expert in experts], weights, density)


def merged(case: dict, tensors: list[torch.Tensor]) -> torch.Tensor:
    """Run the peer on one case; methods that know no base get none, slerp gets the first expert as its base."""
    if "peft" in case:
        return merged_by_peft(case, tensors)
    base, experts = tensors[0], tensors[1 : case["experts"] + 1]
    if case["method"] in ("linear", "karcher"):
        return merge_tensors(experts, case["method"], parameters=case["mergekit"])
    if case["method"] == "slerp":
        return merge_tensors(experts, "slerp", parameters=case["mergekit"], base_index=0)
    settings = dict(case["mergekit"])
    if isinstance(settings.get("weight"), list):
        settings["weight"] = {f"expert_{i}": weight for i, weight in enumerate(settings["weight"])}
    ids = ["base", *(f"expert_{i}" for i in range(len(experts)))]
    return merge_tensors([base, *experts], case["method"], parameters=settings, ids=ids, base_index=0)


def main() -> None:
    torch.set_num_threads(1)
    stored = {}
    for shape in SHAPES:
        base, *experts = inputs(shape)
        stored[f"{shape}/base"] = base
        stored.update({f"{shape}/expert_{i}": expert for i, expert in enumerate(experts)})
    listed = cases()
    for number, case in enumerate(listed):
        with masks_as_ours(case):
            stored[f"out/{number}"] = merged(case, inputs(case["shape"])).contiguous()
    save_file(stored, HERE / "tensors.safetensors")
    (HERE / "cases.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in listed) + "\n]\n")
    print(f"{len(listed)} cases")


if __name__ == "__main__":
    main()
