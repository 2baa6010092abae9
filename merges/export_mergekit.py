"""Write a program as a merge method of mergekit: a folder that mergekit runs, with the numbers of `apply`.

mergekit 0.1.5 knows the methods of its own files and has no plug-ins, so the folder brings a runner that registers one more and then calls
mergekit's own command. The program's text goes out as it is; nothing can confine it there, and the folder says so. No heavy imports: text
in, text out.

Covered: what the gate refuses by reading. Not covered: what the sandbox refuses only while a program runs, an import of `os` for one; programs
of an archive have been run there, a file may never have been.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from merges.contract import checked_parameters, program_id, signature_of
from merges.errors import OptionError, one_line
from merges.export_mergekit_texts import METHOD_BODY, METHOD_HEAD, METHOD_IMPORTS, README, RUNNER
from merges.target import check_absent, staged

__all__ = ["MERGEKIT_VERSION", "PLACEHOLDERS", "export_mergekit", "method_name"]

MERGEKIT_VERSION = "0.1.5"
"""What the folder is written for and tested with."""

PLACEHOLDERS = ("PATH/OR/HUB-ID/OF/THE/BASE", "PATH/OR/HUB-ID/OF/EXPERT-1", "PATH/OR/HUB-ID/OF/EXPERT-2")
"""What stands in the configuration for a base and experts that were not given."""


def method_name(source: str) -> str:
    """The name under which mergekit will know a program."""
    return f"mergewright_{program_id(source)}"


def export_mergekit(
    source: str,
    out: str | Path,
    *,
    base: str | None = None,
    experts: Sequence[str] = (),
    selection: str = "all",
    parameters: Mapping[str, float] | None = None,
    run_seed: int = 0,
    origin: str = "a program",
) -> tuple[str, ...]:
    """Write the folder.

    Args:
        source: program text under the contract.
        out: the folder to make; it must not exist.
        base, experts: models as mergekit's configuration shall name them; None and none: placeholders to be filled in.
        selection: which parameters are merged, see `merges.selection.select`; all others are the base's.
        parameters: hyper-parameters that differ from the program's defaults.
        run_seed: seed of all random numbers, as in `apply`.
        origin: what the README says of where the program is from.

    Returns:
        The names of the files.

    Raises:
        ProgramError: the gate refuses the program's text.
        OptionError: an unknown hyper-parameter, a number that is not finite, a model twice, an empty selection.
        TargetError, HostError: the folder cannot be made.
    """
    check_absent(Path(out))
    effective = checked_parameters(source, parameters or {})
    _check_models(base, experts)
    if not any(part.strip() for part in selection.split(",")):
        raise OptionError(
            f"selection {selection!r}: expected 'all', 'mlp' or a pattern, got nothing; name what to merge"
        )
    method = method_name(source)
    facts = {"id": program_id(source), "method": method, "module": f"{method}_method", "version": MERGEKIT_VERSION}
    unfilled = "" if base and experts else " Write your models into `merge.yaml` first: it has placeholders."
    files = {
        f"{method}_method.py": _method(source, facts),
        "merge.yaml": _configuration(method, base, experts, {"mergewright_seed": run_seed, "mergewright_merge": selection, **effective}),
        "run.py": RUNNER.format(**facts),
        "README.md": README.format(**facts, origin=one_line(origin), placeholders=unfilled),
    }  # fmt: skip
    with staged(Path(out), sum(len(text.encode()) for text in files.values()), facts["id"]) as folder:
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8", newline="")
    return tuple(files)


def _check_models(base: str | None, experts: Sequence[str]) -> None:
    """mergekit takes a model that is given twice for one."""
    for number, expert in enumerate(experts):
        if expert == base or expert in experts[:number]:
            where = "as the base too" if expert == base else "twice"
            raise OptionError(
                f"expert {expert!r}: expected every model once, got it {where}; mergekit cannot tell the two apart"
            )


def _method(source: str, facts: Mapping[str, str]) -> str:
    signature = signature_of(source)
    constants = [
        f"METHOD = {json.dumps(facts['method'])}",
        f"PROGRAM_ID = {json.dumps(facts['id'])}",
        f"WANTS = {sorted(signature.wants)!r}",
        f"PARAMETERS = {dict(signature.parameters)!r}",
    ]
    head = METHOD_HEAD.format(**facts) + METHOD_IMPORTS + "\n" + "\n".join(constants) + "\n"
    line = head.count("\n") + 2
    return f"{head}FIRST_LINE = {line}\nPROGRAM = {_literal(source)}\n{METHOD_BODY}"


def _literal(text: str) -> str:
    """A string literal for a program: its own lines where quotes allow it, so that people read the program and tracebacks count its lines."""
    for quotes in ("'''", '"""'):
        if quotes not in text and not text.endswith((quotes[0], "\\")) and "\r" not in text:
            return f"r{quotes}{text}{quotes}"
    return "(\n" + "".join(f"    {line!r}\n" for line in text.splitlines(keepends=True)) + ")"


def _configuration(method: str, base: str | None, experts: Sequence[str], parameters: Mapping[str, object]) -> str:
    lines = [
        "# python run.py merge.yaml merged --num-threads 1",
        f"merge_method: {method}",
        f"base_model: {_model(base or PLACEHOLDERS[0])}",
        "models:  # the experts, in the order in which the program shall see them; the base is not among them",
        *(f"  - model: {_model(expert)}" for expert in experts or PLACEHOLDERS[1:]),
        "parameters:",
        *(f"  {json.dumps(name, ensure_ascii=False)}: {_scalar(value)}" for name, value in parameters.items()),
    ]
    return "\n".join(lines) + "\n"


def _model(given: str) -> str:
    """A model as mergekit reads it: `+` and `@` in the name of a folder are no adapter and no revision."""
    text = json.dumps(given, ensure_ascii=False)
    return f'{{"model": {{"path": {text}}}}}' if set(given) & {"+", "@"} and Path(given).exists() else text


def _scalar(value: object) -> str:
    """A value in YAML 1.1, which takes `1e-08` for a text: numbers need a point."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text and "e" in text else text
