"""What an export for mergekit consists of: its files, what they say, and what is refused.

`test_exported_method.py` runs the method on a stand-in for mergekit, `test_export_runs_in_mergekit.py` has mergekit itself run exports.
"""

from __future__ import annotations

import ast
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cli import main
from merges import library
from merges.contract import EXAMPLE, program_id
from merges.errors import MergeError, OptionError, ProgramError, TargetError
from merges.export_mergekit import PLACEHOLDERS, _literal, export_mergekit, method_name

QUOTING = '''\
def merge_models(model_dict, device):
    """It says '"' and \\\\ and has ünïcode."""
    return sum(model_dict.values())
'''


def test_the_folder_has_a_method_a_configuration_a_runner_and_a_readme(tmp_path: Path) -> None:
    method = f"mergewright_{program_id(EXAMPLE)}"
    files = export_mergekit(EXAMPLE, tmp_path / "x", base="seed", experts=["a", "b"], origin="archive:r#1", run_seed=3)
    assert set(files) == {f"{method}_method.py", "merge.yaml", "run.py", "README.md"}
    assert {path.name for path in tmp_path.rglob("*")} == {"x", *files}, "something was left beside it"
    assert method_name(EXAMPLE) == method
    configuration = yaml.safe_load((tmp_path / "x" / "merge.yaml").read_text())
    assert configuration == {
        "merge_method": method,
        "base_model": "seed",
        "models": [{"model": "a"}, {"model": "b"}],
        "parameters": {"mergewright_seed": 3, "mergewright_merge": "all", "w0": 0.4, "w1": 0.3, "w2": 0.3},
    }
    readme = (tmp_path / "x" / "README.md").read_text()
    for words in ("not sandboxed", "python run.py merge.yaml merged", "mergekit==0.1.5", method, "archive:r#1"):
        assert words in readme
    for file in (f"{method}_method.py", "run.py"):
        assert "NOT SANDBOXED" in (tmp_path / "x" / file).read_text()


def test_what_is_not_given_is_a_placeholder_and_the_readme_says_so(tmp_path: Path) -> None:
    export_mergekit(EXAMPLE, tmp_path / "x")
    configuration = yaml.safe_load((tmp_path / "x" / "merge.yaml").read_text())
    given = [configuration["base_model"], *(model["model"] for model in configuration["models"])]
    assert tuple(given) == PLACEHOLDERS
    assert "placeholders" in (tmp_path / "x" / "README.md").read_text()


def test_the_configuration_says_what_was_given(tmp_path: Path) -> None:
    source = "def merge_models(model_dict, device, *, on=1, eps=1e-3, k=2):\n    return 0\n"
    folder = tmp_path / "a+b@c"
    folder.mkdir()
    numbers = {"eps": 1e-08, "k": 3.0}
    out = tmp_path / "x"
    export_mergekit(
        source, out, base=str(folder), experts=['q"uoted', "org/m@rev"], parameters=numbers, selection="mlp"
    )
    configuration = yaml.safe_load((out / "merge.yaml").read_text())
    assert configuration["base_model"] == {"model": {"path": str(folder)}}, "mergekit would take + for an adapter"
    assert [model["model"] for model in configuration["models"]] == ['q"uoted', "org/m@rev"]
    parameters = configuration["parameters"]
    assert parameters == {"mergewright_seed": 0, "mergewright_merge": "mlp", "on": 1, **numbers}
    assert isinstance(parameters["on"], int)
    assert isinstance(parameters["k"], float), "apply hands over what is set as a float"


@pytest.mark.parametrize("source", [EXAMPLE, QUOTING, library.source("ties")])
def test_the_program_is_unchanged_and_its_lines_are_counted(tmp_path: Path, source: str) -> None:
    export_mergekit(source, tmp_path / "x")
    text = (tmp_path / "x" / f"{method_name(source)}_method.py").read_text()
    assert source in text
    constants = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in ("PROGRAM", "FIRST_LINE")
    }
    assert constants["PROGRAM"] == source
    first = text.splitlines()[constants["FIRST_LINE"] - 1]
    assert first.startswith("PROGRAM = ")
    assert first.endswith(source.splitlines()[0])


@given(st.text(alphabet=st.sampled_from("ab'\"\\\n\r\t{}ü\x0c"), max_size=40))
@settings(max_examples=300)
def test_any_text_survives_in_quotes(text: str) -> None:
    assert ast.literal_eval(_literal(text + "\n")) == text + "\n"
    assert ast.literal_eval(_literal("x" + text)) == "x" + text


def test_every_library_program_compiles_and_imports_only_torch_mergekit_and_the_standard_library(
    tmp_path: Path,
) -> None:
    for name in library.names():
        export_mergekit(library.source(name), tmp_path / name)
        for file in (tmp_path / name).glob("*.py"):
            tree = ast.parse(file.read_text())
            compile(tree, str(file), "exec")
            found = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
            found |= {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
            own = {path.stem for path in (tmp_path / name).glob("*_method.py")}
            assert found <= {"torch", "numpy", "mergekit", *sys.stdlib_module_names, *own}, file


def test_exporting_does_not_wait_for_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from merges import library; from merges.export_mergekit import export_mergekit; "
        f"export_mergekit(library.source('ties'), {str(tmp_path / 'x')!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("source", "asked", "kind", "message"),
    [
        (
            "def merge_models(model_dict):\n    return 0\n",
            {},
            ProgramError,
            "expected one that the sandbox runs, got policy in line 1 .*'signature'",
        ),
        ("def merge_models(model_dict, device)\n", {}, ProgramError, "got syntax in line 1"),
        (EXAMPLE, {"parameters": {"w9": 1.0}}, OptionError, "hyper-parameter 'w9': expected one of w0, w1, w2, got an"),
        (EXAMPLE, {"parameters": {"w0": float("nan")}}, OptionError, "'w0': expected a finite number, got nan"),
        (
            EXAMPLE,
            {"base": "a", "experts": ["b", "a"]},
            OptionError,
            "expert 'a': expected every model once, got it as",
        ),
        (EXAMPLE, {"experts": ["b", "b"]}, OptionError, "expert 'b': expected every model once, got it twice"),
        (
            EXAMPLE,
            {"selection": " , "},
            OptionError,
            "selection ' , ': expected 'all', 'mlp' or a pattern, got nothing",
        ),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(
    tmp_path: Path, source: str, asked: dict[str, Any], kind: type[MergeError], message: str
) -> None:
    with pytest.raises(kind, match=message) as refused:
        export_mergekit(source, tmp_path / "x", **asked)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(TargetError, match="expected no such file or folder yet, got one"):
        export_mergekit(EXAMPLE, tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "mine"


def command(monkeypatch: pytest.MonkeyPatch, line: str) -> int:
    monkeypatch.setattr("sys.argv", ["mergewright", *shlex.split(line)])
    with pytest.raises(SystemExit, match=r"^\d+$") as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_writes_the_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "x"
    line = f"archive export ties --format mergekit --out {out} --base pocket/seed --expert org/m --param density=0.2 --seed 4 --merge mlp"
    assert command(monkeypatch, line) == 0
    assert f"wrote {out}: mergewright_" in capsys.readouterr().out
    configuration = yaml.safe_load((out / "merge.yaml").read_text())
    assert Path(configuration["base_model"], "config.json").is_file(), "mergekit knows no pocket/seed"
    assert configuration["models"] == [{"model": "org/m"}]
    chosen = {name: configuration["parameters"][name] for name in ("density", "mergewright_seed", "mergewright_merge")}
    assert chosen == {"density": 0.2, "mergewright_seed": 4, "mergewright_merge": "mlp"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ties --format mergekit --out {tmp}", "expected no such file or folder yet, got one"),
        ("ties --format nosuch --out {tmp}/x", "'nosuch' is not one of 'py', 'bundle', 'hub', 'mergekit'"),
        ("ties --out {tmp}/x", "Missing option '--format'"),
        ("ties --format mergekit --out {tmp}/x --param nosuch=1", "expected one of density, scale"),
        ("ties --format mergekit --out {tmp}/x --param density", "expected NAME=NUMBER"),
        ("nosuch --format mergekit --out {tmp}/x", "expected a .py file, a library name"),
        ("ties --format mergekit --out {tmp}/x --base pocket/nosuch", "model 'pocket/nosuch': expected one of"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, line: str, message: str
) -> None:
    assert command(monkeypatch, "archive export " + line.format(tmp=tmp_path)) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "x").exists()
