"""The method of an export for mergekit, run on a stand-in for mergekit's classes: it does what the sandbox and `apply` do.

What it says of depth, selection, seeds and names has to be said twice, since nothing of ours is installed where it runs.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.bench import expert_names
from merges.checkpoints import depth_of, layer_count
from merges.contract import EXAMPLE, program_id
from merges.export_mergekit import export_mergekit
from merges.selection import select
from merges.task_vectors import tensor_seed
from sandbox import Sandbox, TensorJob

EVERYTHING = """\
import random
import numpy as np
import torch
CALLS = []
def merge_models(model_dict, device, name, depth, base, rng, *, scale=0.5, power=2):
    CALLS.append(name)
    assert len(CALLS) == 1, "something survived"
    print("nobody reads this")
    noise = torch.rand(base.shape, generator=rng) + torch.rand(base.shape) + random.random() + np.random.rand()
    merged = sum(weight * v for weight, v in enumerate(model_dict.values(), 1)) * scale + noise * depth ** power
    result = merged + base * len(name) + sum(map(ord, "".join(model_dict)))
    base.zero_()
    for vector in model_dict.values():
        vector.zero_()
    return result
"""
NAMES = (
    "model.embed_tokens.weight",
    "model.layers.0.mlp.up_proj.weight",
    "model.layers.1.self_attn.q_proj.weight",
    "model.layers.3.mlp.down_proj.weight",
    "model.norm.weight",
    "lm_head.weight",
)


@dataclass(frozen=True)
class Entry:
    id: object
    tensor: Tensor


@dataclass(frozen=True)
class Reference:
    """Stands for mergekit's ModelReference, and prints itself as that does."""

    path: str

    def __str__(self) -> str:
        return self.path


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A stand-in for the few names of mergekit that an export imports; what it registers."""
    found: list[Any] = []

    def record(*names: str) -> type:
        return type("Record", (), {"__init__": lambda self, *values, **named: vars(self).update(zip(names, values, strict=False), **named)})  # fmt: skip

    index = SimpleNamespace(index=SimpleNamespace(tensor_paths=dict.fromkeys(NAMES)))
    parts: dict[str, dict[str, object]] = {
        "mergekit": {},
        "mergekit.common": {"ModelReference": Reference},
        "mergekit.io": {},
        "mergekit.io.tasks": {"LoaderCache": lambda: SimpleNamespace(get=lambda _: index)},
        "mergekit.merge_methods": {
            "BasePolicy": SimpleNamespace(REQUIRED="required"),
            "GroupMergeMethod": object,
            "InputContract": record(),
            "MergeMethodSpec": record(),
            "ParameterScope": SimpleNamespace(SHARED="shared"),
            "register": found.append,
        },
        "mergekit.merge_methods.base": {"ParameterSpec": record("name", "value_type", "scope", "default")},
    }
    for name, content in parts.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return found


@pytest.fixture
def exported(registered: list[Any], tmp_path: Path) -> Callable[..., ModuleType]:
    """exported(source) -> the module that was written, imported; `registered` then holds its method."""

    def load(source: str) -> ModuleType:
        export_mergekit(source, tmp_path / "out")
        (file,) = (tmp_path / "out").glob("*_method.py")
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def group(name: str, base: Tensor, experts: Mapping[str, Tensor]) -> Any:
    return SimpleNamespace(
        metadata=SimpleNamespace(name=name),
        base=Entry(Reference("base"), base),
        non_base=tuple(Entry(Reference(path), tensor) for path, tensor in experts.items()),
    )


def merge(method: Any, asked: Any, *, seed: int = 0, selection: str = "all", **parameters: float) -> Tensor:
    values = {p.name: p.default for p in method.spec.parameters}
    result = method.merge_group(asked, **{**values, "mergewright_seed": seed, "mergewright_merge": selection, **parameters})  # fmt: skip
    assert isinstance(result, Tensor)
    return result


def models(dtype: torch.dtype = torch.float32) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(7)
    base = torch.randn(5, 6, generator=generator).to(dtype)
    return base, {f"somewhere/e{i}": torch.randn(5, 6, generator=generator).to(dtype) for i in range(3)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_the_method_gives_what_the_sandbox_gives(
    exported: Callable[..., ModuleType], registered: list[Any], sandbox: Sandbox, name: str, dtype: torch.dtype
) -> None:
    exported(EVERYTHING)
    (method,) = registered
    base, experts = models(dtype)
    before = [tensor.clone() for tensor in (base, *experts.values())]
    merged = merge(method, group(name, base, experts), seed=11, scale=0.75)
    assert all(torch.equal(a, b) for a, b in zip(before, (base, *experts.values()), strict=True)), (
        "an input was changed"
    )
    depth = depth_of(name, layer_count(NAMES))
    wide = base.to(torch.float32)
    vectors = {f"e{i}": tensor.to(torch.float32) - wide for i, tensor in enumerate(experts.values())}
    seed = tensor_seed(11, program_id(EVERYTHING), name)
    result = sandbox.execute(EVERYTHING, [TensorJob(name, depth, vectors, wide, seed)], {"scale": 0.75})
    assert result.ok, result.detail
    assert merged.dtype is dtype
    assert torch.equal(merged, (wide + result.outputs[name]).to(dtype))


def test_parameters_are_the_programs_with_their_defaults_and_kinds(
    exported: Callable[..., ModuleType], registered: list[Any]
) -> None:
    exported(EVERYTHING)
    kinds = {p.name: (p.value_type, p.default) for p in registered[0].spec.parameters}
    assert kinds == {
        "mergewright_seed": (int, 0),
        "mergewright_merge": (str, "all"),
        "scale": (float, 0.5),
        "power": (int | float, 2),
    }
    assert vars(registered[0].spec.contract) == {"base": "required", "min_non_base": 1}


def test_one_expert_and_a_base_of_any_dtype(exported: Callable[..., ModuleType], registered: list[Any]) -> None:
    exported(EXAMPLE)
    for dtype in (torch.float16, torch.float64):
        base, experts = models(dtype)
        (path, expert), *_ = experts.items()
        merged = merge(registered[0], group("w", base, {path: expert}), w0=1.0)
        assert merged.dtype is dtype
        torch.testing.assert_close(merged, expert, rtol=1e-3, atol=1e-3)


@given(st.integers(min_value=0, max_value=2**70), st.text(max_size=150))
@settings(max_examples=60)
def test_seeds_are_ours(body: ModuleType, run_seed: int, name: str) -> None:
    name = name.encode("utf-8", "ignore").decode()
    assert body.tensor_seed(run_seed, name) == tensor_seed(run_seed, body.PROGRAM_ID, name)


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """An exported method's own functions, without mergekit: everything behind its imports but the class."""
    folder = tmp_path_factory.mktemp("body")
    export_mergekit(EXAMPLE, folder / "x")
    (file,) = (folder / "x").glob("*_method.py")
    kept = [
        node
        for node in ast.parse(file.read_text()).body
        if not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mergekit"))
        and not (isinstance(node, ast.ClassDef) and node.name == "Method")
        and not isinstance(node, ast.Expr)
    ]
    module = ModuleType(file.stem)
    vars(module)["__file__"] = str(file)
    exec(compile(ast.Module(kept, []), str(file), "exec"), vars(module))
    return module


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 127, 128, 500, 1023, 1024])
def test_the_hash_is_blake3(body: ModuleType, length: int) -> None:
    text = bytes(i % 251 for i in range(length))
    assert body.blake3(text) == blake3(text).digest(length=8)


def test_a_text_of_more_than_one_chunk_is_refused(body: ModuleType) -> None:
    with pytest.raises(body.ProgramFailed, match="at most 1024 bytes, got 1025; the tensor's name is too long"):
        body.blake3(bytes(1025))


DOTTED = st.lists(
    st.sampled_from(
        [
            *"h0123",
            "layers",
            "layer",
            "blocks",
            "17",
            "embed_tokens",
            "embeddings",
            "wte",
            "mlp",
            "fc1",
            "ffn",
            "weight",
        ]
    ),
    min_size=1,
    max_size=6,
).map(".".join)


@given(st.lists(DOTTED, min_size=1, max_size=8), st.sampled_from(["all", "mlp", "*.weight", "h.?.*,mlp", " wte* , x"]))
def test_depth_and_selection_are_ours(body: ModuleType, names: list[str], selection: str) -> None:
    layers = body.layer_count(names)
    assert layers == layer_count(names)
    assert [body.depth_of(name, layers) for name in names] == [depth_of(name, layers) for name in names]
    picked = tuple(name for name in names if body.is_merged(name, selection))
    if picked:
        assert picked == select(names, selection)


@given(st.lists(st.sampled_from(["a", "x/a", "x/a/", "b_2", "b", "y/b", "/", "org/b_2"]), max_size=6))
def test_experts_are_called_as_apply_calls_them(body: ModuleType, models: list[str]) -> None:
    assert tuple(body.names_of(models)) == expert_names(tuple(models))


def test_what_the_selection_leaves_out_is_the_bases(exported: Callable[..., ModuleType], registered: list[Any]) -> None:
    module = exported(EXAMPLE)
    base, experts = models(torch.bfloat16)
    attention, mlp = "model.layers.1.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(merge(registered[0], group(attention, base, experts), selection="mlp"), base)
    assert not torch.equal(merge(registered[0], group(mlp, base, experts), selection="mlp"), base)
    with pytest.raises(module.ProgramFailed, match="mergewright_merge 'nosuch': expected all, mlp or a pattern that"):
        merge(registered[0], group(mlp, base, experts), selection="nosuch")


@pytest.mark.parametrize(
    ("body_line", "message"),
    [
        ("raise KeyError('x')", r"tensor 'w': program \w{12} failed in line \d+ of .*_method.py: KeyError: 'x'$"),
        ("return None", r"expected a dense floating tensor of shape \(5, 6\) from program \w{12}, got NoneType$"),
        ("return torch.ones(3)", r"got torch.strided torch.float32 of shape \(3,\)$"),
        ("return torch.ones(5, 6).int()", r"got torch.strided torch.int32 of shape \(5, 6\)$"),
        ("return torch.ones(5, 6).to_sparse()", r"got torch.sparse_coo torch.float32"),
        ("return torch.ones(5, 6) * float('nan')", r"expected finite values in what program \w{12} returned, got NaN"),
        ("return torch.full((5, 6), 3.4e38)", "tensor 'w': overflows torch.bfloat16 once it is added to the base"),
    ],
)
def test_a_program_that_fails_is_one_line(
    exported: Callable[..., ModuleType], registered: list[Any], body_line: str, message: str
) -> None:
    module = exported(f"import torch\n\n\ndef merge_models(model_dict, device):\n    {body_line}\n")
    base, experts = models(torch.bfloat16)
    with pytest.raises(module.ProgramFailed, match=message) as failed:
        merge(registered[0], group("w", base, experts))
    assert "\n" not in str(failed.value)
    if line := re.search(r"in line (\d+) of (.*?): ", str(failed.value)):
        assert Path(line[2]).read_text().splitlines()[int(line[1]) - 1].strip() == body_line


def test_unreadable_inputs_are_one_line(exported: Callable[..., ModuleType], registered: list[Any]) -> None:
    module = exported(EVERYTHING)
    base, experts = models()
    broken = {path: tensor / 0 for path, tensor in experts.items()}
    with pytest.raises(module.ProgramFailed, match="tensor 'w': expected finite values in expert 'e0', got NaN or inf"):
        merge(registered[0], group("w", base, broken))
    nobody = SimpleNamespace(metadata=SimpleNamespace(name="w"), base=Entry(0, base), non_base=(Entry(1, base),))
    with pytest.raises(module.ProgramFailed, match="whose layers can be counted; got 0"):
        merge(registered[0], nobody)
