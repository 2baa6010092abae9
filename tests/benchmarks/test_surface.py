import ast
from pathlib import Path

import benchmarks
from benchmarks import errors

PACKAGE = Path(benchmarks.__file__).parent


def test_the_public_surface_is_this_list():
    assert benchmarks.__all__ == sorted(benchmarks.__all__)
    assert {name for name in benchmarks.__all__ if not hasattr(benchmarks, name)} == set()
    assert {name for name in vars(errors) if name.endswith("Error")} <= set(benchmarks.__all__)


def test_benchmarks_stands_alone():
    ours = {"engine", "merges", "sandbox"}
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & ours, path


def test_every_error_is_in_the_tree_drawn_above_it_and_user_errors_are_marked():
    for name, kind in vars(errors).items():
        if name.endswith("Error"):
            assert name in (errors.__doc__ or "")
            assert issubclass(kind, errors.BenchmarkError)
            assert name == "BenchmarkError" or issubclass(kind, errors.BenchmarkUserError)
