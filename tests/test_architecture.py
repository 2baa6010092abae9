"""The rules of the layout: which package may import which, and that every error is mapped to an exit code."""

from __future__ import annotations

import ast
import importlib
import inspect
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
SPEED = {"benchmarks", "sandbox", "merges", "engine"}
"""Scripts in benchmarks/speed are run, never imported: they may import what they measure."""


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
        allowed = SPEED if file.is_relative_to(ROOT / "benchmarks" / "speed") else ALLOWED[package]
        assert imported_packages(file) <= allowed, file.relative_to(ROOT)


def test_nobody_imports_a_speed_script() -> None:
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            if not file.is_relative_to(ROOT / "benchmarks" / "speed"):
                assert "benchmarks.speed" not in file.read_text(encoding="utf-8"), file


EXIT_CODES = {
    "benchmarks.errors": {
        "BenchmarkError": 1,
        "BenchmarkUserError": 2,
        "ModelFolderError": 2,
        "ProblemFileError": 2,
        "PromptTooLongError": 2,
        "DeviceError": 2,
        "SwapError": 2,
        "UnknownBenchmarkError": 2,
    },
    "engine.errors": {
        "ConfigError": 2,
        "EngineError": 1,
        "HostError": 1,
        "Interrupted": 0,
        "RunError": 2,
        "UnknownNameError": 2,
        "UserError": 2,
    },
    "merges.errors": {
        "BusyTargetError": 2,
        "CheckpointError": 2,
        "DestinationError": 2,
        "HostError": 1,
        "MergeError": 1,
        "MergeUserError": 2,
        "OptionError": 2,
        "ProgramError": 3,
        "PublishError": 1,
        "SelectionError": 2,
        "ShapeError": 2,
        "TargetError": 2,
        "UnknownProgramError": 2,
    },
    "sandbox.errors": {
        "DeviceError": 2,
        "IsolationError": 2,
        "JobError": 2,
        "KilledError": 1,
        "ParameterError": 2,
        "SandboxError": 1,
        "SandboxUserError": 2,
        "ZygoteError": 1,
    },
}
"""What the design says of every error: 0 fine, 1 the host's fault, 2 a usage or configuration error, 3 the program's fault."""


def error_classes(module: str) -> dict[str, type[BaseException]]:
    """The exceptions that a module defines, by name."""
    members = inspect.getmembers(importlib.import_module(module), inspect.isclass)
    return {name: c for name, c in members if issubclass(c, BaseException) and c.__module__ == module}


def test_every_error_has_a_line_in_the_table() -> None:
    files = [file.relative_to(ROOT) for package in PACKAGES for file in (ROOT / package).rglob("errors.py")]
    modules = {".".join(file.with_suffix("").parts) for file in files}
    assert {m: set(error_classes(m)) for m in modules} == {m: set(codes) for m, codes in EXIT_CODES.items()}


@pytest.mark.parametrize(
    ("module", "name", "code"), [(m, name, code) for m, codes in EXIT_CODES.items() for name, code in codes.items()]
)
def test_exit_codes_are_those_of_the_design(module: str, name: str, code: int) -> None:
    from engine.errors import KNOWN_ERRORS, exit_code

    kind = error_classes(module)[name]
    assert issubclass(kind, KNOWN_ERRORS), "the command line would show a traceback"
    assert exit_code(kind.__new__(kind)) == code


INNER = {"sandbox/confinement/plan.py", "sandbox/failures.py", "sandbox/guards.py", "sandbox/rules.py"}
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
