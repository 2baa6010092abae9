"""Record what mergekit 0.1.5 makes of small tensors: the numbers that merges/library has to reproduce.

mergekit wants versions of its own, so it lives in an environment of its own; only its outputs are kept in git.

    python -m venv mk && mk/bin/pip install torch==2.13.0 && mk/bin/pip install mergekit==0.1.5
    mk/bin/python tests/merges/goldens/record.py

writes `tensors.safetensors` and `cases.json` beside this file. Tensors are `<shape>/base`, `<shape>/expert_<i>` (whole
weights, not task vectors) and `out/<number of the case>` (merged weights). A case is
{"program", "parameters" (ours), "method", "mergekit" (its parameters), "shape", "experts"}.

Not covered: which of several equal magnitudes stay when TIES or breadcrumbs trim. mergekit sorts with an unstable
sort, so that its choice depends on the processor (seen with AVX-512); ours keeps those that come first.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import torch
from mergekit.merge_methods.api import merge_tensors
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
    """Every program with several settings; the random ones only where nothing is dropped."""
    listed = []

    def add(program: str, ours: dict, method: str, theirs: dict, counts: tuple[int, ...] = COUNTS) -> None:
        """One case for every shape and count; a weight of None stands for `WEIGHTS`, expert by expert."""
        for shape, count in itertools.product(SHAPES, counts):
            parameters, settings = dict(ours), dict(theirs)
            if theirs.get("weight", 0) is None:
                parameters.update({f"w{i}": WEIGHTS[i] for i in range(count)})
                settings["weight"] = list(WEIGHTS[:count])
            case = {"program": program, "parameters": parameters, "method": method, "mergekit": settings}
            listed.append({**case, "shape": shape, "experts": count})

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
    return listed


def merged(case: dict, tensors: list[torch.Tensor]) -> torch.Tensor:
    """Run mergekit on one case; methods that know no base get none, slerp gets the first expert as its base."""
    base, experts = tensors[0], tensors[1 : case["experts"] + 1]
    if case["method"] == "linear":
        return merge_tensors(experts, "linear", parameters=case["mergekit"])
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
        stored[f"out/{number}"] = merged(case, inputs(case["shape"])).contiguous()
    save_file(stored, HERE / "tensors.safetensors")
    (HERE / "cases.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in listed) + "\n]\n")
    print(f"{len(listed)} cases")


if __name__ == "__main__":
    main()
