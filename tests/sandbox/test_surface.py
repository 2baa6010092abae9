"""The public surface, the reasons, the tables, and what the package may import."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import sandbox
from sandbox import RULES, Reason, errors
from sandbox.allowlist import MODULES
from sandbox.confinement.layers import FILE_LAYERS, FULL_LAYERS, LAYERS, LEAST_LAYERS
from sandbox.names_torch import TENSOR_NAMES
from sandbox.replacements import replacements

FOLDER = Path(sandbox.__file__).parent


def test_everything_exported_exists_and_nothing_else_is_promised() -> None:
    assert sorted(sandbox.__all__) == sorted(set(sandbox.__all__))
    for name in sandbox.__all__:
        assert getattr(sandbox, name) is not None


def test_the_gate_alone_does_not_import_torch() -> None:
    code = "import sandbox, sys; sandbox.check('x = 1'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=FOLDER.parent, check=False).returncode == 0


def test_sandbox_imports_none_of_the_other_packages() -> None:
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {n.split(".")[0] for n in names} & {"engine", "merges", "benchmarks"}, path


def test_only_the_runner_and_the_warm_up_execute_text() -> None:
    callers = {
        path.name
        for path in FOLDER.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("exec", "eval")
    }
    assert callers == {"runner.py", "warmup.py"}


def test_every_reason_and_rule_has_words() -> None:
    assert all(len(reason.meaning) > 20 for reason in Reason)
    assert all(len(words) > 20 for words in RULES.values())


def test_every_error_is_in_the_tree() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert all(issubclass(kind, errors.SandboxError) for kind in kinds)


def test_listed_names_exist_in_the_real_modules() -> None:
    """But for those that other versions have."""
    other_versions = {"itertools.batched", "typing.override", "torch.backends.cuda.is_available"}
    for path, names in MODULES.items():
        module = importlib.import_module(path)
        absent = {f"{path}.{n}" for n in names if not hasattr(module, n) and f"{path}.{n}" not in MODULES}
        assert absent <= other_versions


DANGEROUS = {"save", "load", "from_file", "as_strided", "jit", "compile", "ops", "hub", "set_num_threads", "from_dlpack", "memmap",
             "fromfile", "tofile", "ctypeslib", "lib", "attrgetter", "methodcaller", "SystemRandom", "get_type_hints", "sparse_csr_tensor",
             "data_ptr", "untyped_storage", "set_", "resize_", "share_memory_", "register_hook", "os", "sys", "io"}  # fmt: skip


def test_no_table_lists_what_must_not_be_there() -> None:
    replaced = replacements(MODULES)
    for path, names in {**MODULES, "torch.Tensor": TENSOR_NAMES}.items():
        real = {name for name in names if f"{path}.{name}" not in replaced}
        assert not real & DANGEROUS - ({"compile"} if path == "re" else set())


def test_full_means_every_layer_but_the_extra_one() -> None:
    assert {layer.name for layer in LAYERS} - FULL_LAYERS == {"cgroups"}
    assert FULL_LAYERS > LEAST_LAYERS | FILE_LAYERS
    assert all(layer.probes and layer.fix and layer.takes for layer in LAYERS)
