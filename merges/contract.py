"""The program contract: what a merge program is, in the words that a language model and a user read.

`CONTRACT` is the only description of the contract in the project: prompts, `--help` and documents show this text, so
they cannot disagree. `EXAMPLE` is the one-shot example of the paper (https://arxiv.org/abs/2410.15639): a plain
weighted sum. `program_id` names a program by what it computes on paper: its syntax tree without docstrings.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping

from blake3 import blake3

from merges.errors import MergeError, OptionError, ProgramError
from sandbox import Signature, check, parse, signature_of

__all__ = [
    "CONTRACT",
    "EXAMPLE",
    "RECIPE",
    "Signature",
    "canonical",
    "checked_parameters",
    "program_error",
    "program_id",
    "signature_of",
]

CONTRACT = '''\
Write one Python function that merges expert models into one model.

    def merge_models(model_dict, device):
        """model_dict: {model name: task vector}. Returns the merged task vector."""

It is called once for every parameter tensor of the model.
- model_dict maps a model's name to its task vector for this ONE parameter: expert weights minus seed weights. All
  values are torch.float32 tensors of the same shape (1-D, 2-D or 3-D), private copies that may be changed in place,
  in the order the experts were given. There are two or more. Names carry no meaning: use model_dict.values().
- device is where to compute ("cpu" or "cuda"): tensor.to(device).
- Return ONE tensor of the same shape, floating dtype, finite values. It is added to the seed's weights.
- import torch and math; numpy is there too. No files, network, processes, printing, or other modules.
- Nothing survives from one call to the next; global random generators are seeded anew for every call.
- Be quick: the whole model has a few seconds and bounded memory. Guard divisions by zero, and treat 1-D tensors too.

After device the function may declare, by these exact names, any of:
    name   the parameter's name, as "model.layers.3.mlp.up_proj.weight"
    depth  position of its layer, 0.0 (first) to 1.0 (last)
    base   the seed's own tensor, float32, same shape
    rng    a torch.Generator, seeded for this parameter
Keyword-only arguments with number defaults are hyper-parameters, which a user or tuner may set:
    def merge_models(model_dict, device, depth, *, scale=0.4, density=0.5):
Helper functions may stand beside merge_models in the same file.
'''

EXAMPLE = '''\
import torch


def merge_models(model_dict, device, *, w0=0.4, w1=0.3, w2=0.3):
    """Plain weighted sum of the task vectors."""
    weights = [w0, w1, w2]
    vectors = list(model_dict.values())
    merged = torch.zeros_like(vectors[0], device=device)
    for i, vector in enumerate(vectors):
        # any further model shares the last weight
        merged = merged + weights[min(i, 2)] * vector.to(device)
    return merged
'''

MAX_PARSED_BYTES = 65_536
"""Above this a program is named by its bytes alone: parsing is an attack surface, and the sandbox refuses it anyway."""

ID_CHARACTERS = 12

RECIPE = "mergekit:"
"""What an id begins with where it stands for a recipe's method, not for a program."""

_PARSE_FAILURES = (SyntaxError, ValueError, RecursionError, MemoryError)
# `ctx` follows from position and `kind` is the u of u"": neither changes what runs. `type_params` and the like are
# skipped when empty, so an id is the same on Python versions that have the field and on those that do not.
_SKIPPED_FIELDS = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


def program_id(source: str) -> str:
    """Name a program: 12 hex digits of BLAKE3 over its canonical syntax tree.

    Formatting, comments and docstrings do not matter; names of locals do. Text that does not parse (or is longer than
    `MAX_PARSED_BYTES`) is named by its own bytes, so every candidate of a campaign has an id. Never raises. The id is
    ours, not `ast.dump`'s, and therefore the same on every Python version that reads the program as the same tree.
    """
    try:
        parts = "\x00".join(_flatten(_stripped_tree(source)))
        return blake3(b"tree\x00" + parts.encode("utf-8", "surrogatepass")).hexdigest()[:ID_CHARACTERS]
    except _PARSE_FAILURES:
        return blake3(b"text\x00" + source.encode("utf-8", "surrogatepass")).hexdigest()[:ID_CHARACTERS]


def checked_parameters(source: str, given: Mapping[str, float]) -> dict[str, float]:
    """Every hyper-parameter of a program with the value to use.

    Args:
        source: program text under the contract.
        given: those that differ from the program's defaults.

    Raises:
        ProgramError: the gate refuses the program's text.
        OptionError: an unknown hyper-parameter, a number that is not finite.
    """
    verdict = check(source)
    if not verdict.ok:
        raise ProgramError(
            f"program {program_id(source)}: expected one that the sandbox runs, got {_said(verdict.reason, verdict.detail, verdict.line)}; "
            "mend it or choose another",
            reason=str(verdict.reason),
            detail=verdict.detail,
            line=verdict.line,
        )
    declared = dict(signature_of(source).parameters)
    for name, value in given.items():
        if name not in declared:
            known = ", ".join(declared) or "none at all"
            raise OptionError(f"hyper-parameter {name!r}: expected one of {known}, got an unknown name; correct it")
        if not math.isfinite(value):
            raise OptionError(f"hyper-parameter {name!r}: expected a finite number, got {value}; correct it")
    return {**declared, **given}


def program_error(program: str, reason: str | None, detail: str | None, line: int | None) -> MergeError:
    """The error for a program that gave no tensor: a `ProgramError`, or an `OptionError` where it is a recipe's method, which nobody can mend.

    Args:
        program: its id, or what stands for a recipe's method.
        reason, detail, line: as the sandbox says them.
    """
    if program.startswith(RECIPE):
        got = (detail or str(reason)).removeprefix("ValueError: ")
        return OptionError(
            f"merge_method {program.removeprefix(RECIPE)}: expected a merged tensor for every parameter, got none: {got}; "
            "give other parameters, other models or another method"
        )
    return ProgramError(
        f"program {program}: expected a merged tensor for every parameter, got {_said(reason, detail, line)}; "
        "mend the program or choose another",
        reason=str(reason),
        detail=detail,
        line=line,
    )


def _said(reason: str | None, detail: str | None, line: int | None) -> str:
    where = f" in line {line}" if line is not None else ""
    return f"{reason}{where} ({detail})" if detail else f"{reason}{where}"


def canonical(source: str) -> str:
    """Print a program in one normal form: `ast.unparse`, no docstrings, no comments.

    Raises:
        ProgramError: the text is not Python (reason ``syntax``).
    """
    return ast.unparse(stripped_tree(source)) + "\n"


def stripped_tree(source: str) -> ast.Module:
    """The syntax tree of a program without its docstrings.

    Raises:
        ProgramError: the text is not Python (reason ``syntax``).
    """
    try:
        return _stripped_tree(source)
    except _PARSE_FAILURES as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        what = error.msg if isinstance(error, SyntaxError) else str(error)
        message = f"program: expected Python source, got {type(error).__name__} ({what}); mend the syntax"
        raise ProgramError(message, reason="syntax", detail=what, line=line) from error


def _stripped_tree(source: str) -> ast.Module:
    if len(source) > MAX_PARSED_BYTES:
        raise ValueError(f"longer than {MAX_PARSED_BYTES} characters")
    tree = parse(source)  # the sandbox's: some texts cost Python's own parser minutes or gigabytes
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            _drop_docstring(node)
    return tree


def _drop_docstring(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        del node.body[0]
        if not node.body and not isinstance(node, ast.Module):
            node.body.append(ast.Pass())


def _flatten(value: object) -> Iterator[str]:
    """Write a tree as a sequence of tokens that is unambiguous: every node and list is bracketed."""
    if isinstance(value, ast.AST):
        yield "(" + type(value).__name__
        for field, child in ast.iter_fields(value):
            # `Constant(value=None)` is the one place where None is content, not absence.
            content = isinstance(value, ast.Constant) and field == "value"
            if field in _SKIPPED_FIELDS or ((child is None or child == []) and not content):
                continue
            yield field
            yield from _flatten(child)
        yield ")"
    elif isinstance(value, list):
        yield "["
        for child in value:
            yield from _flatten(child)
        yield "]"
    elif isinstance(value, int) and not isinstance(value, bool):
        yield f"int:{value:x}"  # repr() of a huge integer is refused by Python
    else:
        yield f"{type(value).__name__}:{value!r}"
