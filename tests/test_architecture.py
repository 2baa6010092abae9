"""The rules of the layout: which package may import which, and that every error is mapped to an exit code."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "sandbox": {"sandbox"},
    "merges": {"merges", "sandbox"},
    "benchmarks": {"benchmarks"},
    "engine": {"engine", "merges", "sandbox", "benchmarks"},
}
PACKAGES = tuple(ALLOWED)


def imported_packages(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found & set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    for file in (ROOT / package).rglob("*.py"):
        assert imported_packages(file) <= ALLOWED[package], file.relative_to(ROOT)


def error_classes() -> list[type[Exception]]:
    classes = []
    for package in PACKAGES:
        for info in pkgutil.iter_modules([str(ROOT / package)]):
            if info.name != "errors":
                continue
            module = importlib.import_module(f"{package}.errors")
            classes += [c for _, c in inspect.getmembers(module, inspect.isclass) if issubclass(c, Exception)]
    return sorted(set(classes), key=lambda c: (c.__module__, c.__name__))


@pytest.mark.parametrize("kind", error_classes(), ids=lambda c: f"{c.__module__}.{c.__name__}")
def test_every_error_is_known_to_the_command_line(kind: type[Exception]) -> None:
    from engine.errors import KNOWN_ERRORS, exit_code

    assert issubclass(kind, KNOWN_ERRORS)
    error = kind.__new__(kind)
    words = kind.__name__.lower()
    expected = 3 if words == "programerror" else 0 if words == "interrupted" else None
    if expected is not None:
        assert exit_code(error) == expected
    assert exit_code(error) in (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("module", "name", "code"),
    [
        ("engine.errors", "ConfigError", 2),
        ("engine.errors", "HostError", 1),
        ("engine.errors", "RunError", 2),
        ("merges.errors", "ShapeError", 2),
        ("merges.errors", "HostError", 1),
        ("benchmarks.errors", "ProblemFileError", 2),
        ("benchmarks.errors", "BenchmarkError", 1),
        ("sandbox.errors", "ParameterError", 2),
        ("sandbox.errors", "ZygoteError", 1),
    ],
)
def test_exit_codes_are_those_of_the_design(module: str, name: str, code: int) -> None:
    from engine.errors import exit_code

    kind = getattr(importlib.import_module(module), name)
    assert exit_code(kind.__new__(kind)) == code


INNER = {"sandbox/confinement/plan.py", "sandbox/guards.py", "sandbox/rules.py", "sandbox/runner.py"}
"""Exceptions that live and die in the sandbox's child, where candidate code runs: no caller can ever see them."""


def test_every_package_has_its_errors_in_one_file() -> None:
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            if file.name == "errors.py" or file.relative_to(ROOT).as_posix() in INNER:
                continue
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef) and not node.name.startswith(
                    "_"
                ):  # a private one is caught in its file
                    bases = {b.id for b in node.bases if isinstance(b, ast.Name)}
                    assert not bases & {"Exception", "BaseException"}, f"{file.relative_to(ROOT)}: {node.name}"


def test_nothing_unpickles() -> None:
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            names = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
            names |= {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
            calls = {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
            assert not names & forbidden, file.relative_to(ROOT)
            assert "torch.load" not in calls, file.relative_to(ROOT)


def test_remote_code_is_never_trusted() -> None:
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                    assert isinstance(node.value, ast.Constant), file.relative_to(ROOT)
                    assert node.value.value is False, file.relative_to(ROOT)
