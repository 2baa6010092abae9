"""Variants and crossovers of source text whose derivation nobody has: programs that a language model wrote.

Edits keep the text around them (comments, names, layout), so a child reads like its parent.
"""

from __future__ import annotations

import ast
import math
import random
import re

from engine.grammar.finish import POLISH
from engine.grammar.writer import EXTRAS, Writer

NUMBER_SPREAD = 0.4  # standard deviation of the logarithm of a changed constant
_DECIMAL = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.])")
_HEAD = re.compile(r"^(def merge_models\(\s*model_dict[^,)]*,\s*device[^,)]*)(.*?)\):", re.MULTILINE | re.DOTALL)


def variant_of(source: str, rng: random.Random) -> str:
    """Change one to three constants, or clean up the result in one more step. Text that cannot be read comes back as it is."""
    if rng.random() < 0.6:
        changed = _change_numbers(source, rng)
        if changed != source:
            return changed
    return _add_polish(source, rng)


def crossover_of(first: str, second: str, rng: random.Random, max_characters: int) -> str:
    """Both programs in one file, their results blended; constants of the second in the first where that grows too long."""
    mixed = _blend(first, second, rng)
    if mixed is not None and len(mixed) <= max_characters:
        return mixed
    donors = _DECIMAL.findall(second)
    return _change_numbers(first, rng, donors=donors)


def _change_numbers(source: str, rng: random.Random, donors: list[str] | None = None) -> str:
    spots = [match for match in _DECIMAL.finditer(source) if float(match.group()) > 0]
    if not spots:
        return source
    chosen = rng.sample(spots, min(len(spots), rng.choice((1, 1, 2, 3))))
    for spot in sorted(chosen, key=lambda match: -match.start()):
        value = float(spot.group())
        moved = value * math.exp(rng.gauss(0.0, NUMBER_SPREAD))
        if 0 < value < 1 and moved >= 1 and rng.random() < 0.8:
            moved = (1 + value) / 2  # shares and densities stay shares
        alike = [text for text in donors or () if float(text) > 0 and (float(text) < 1) == (value < 1)]
        new = rng.choice(alike) if alike else f"{moved:.3g}"
        new = new if "." in new and "e" not in new else f"{float(new):.4f}"
        source = source[: spot.start()] + new + source[spot.end() :]
    return source


def _add_polish(source: str, rng: random.Random) -> str:
    """One more step of the grammar between the result of `merge_models` and its last return."""
    try:
        functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    except (SyntaxError, ValueError, RecursionError):
        return source
    entry = next((node for node in functions if node.name == "merge_models"), None)
    if entry is None or not isinstance(entry.body[-1], ast.Return) or entry.body[-1].value is None:
        return source
    last = entry.body[-1]
    result = ast.get_source_segment(source, entry.body[-1].value)
    w = Writer(random.Random(rng.randrange(2**31)))
    w.hyper_rate = 0.0  # constants in place: the head of the program is not ours to lengthen
    w.names = {**w.names, "merged": "merged", "vector": "v"}
    key = rng.choice([key for key in POLISH if POLISH[key][0] > 0])
    POLISH[key][1](w)
    lines = source.splitlines()
    end = last.end_lineno or last.lineno
    lines[last.lineno - 1 : end] = [f"    merged = {result}", *w.body, "    return merged"]
    return _declare("\n".join(lines) + "\n", w.extras)


def _declare(source: str, extras: set[str]) -> str:
    head = _HEAD.search(source)
    if head is None:
        return source
    missing = [name for name in EXTRAS if name in extras and not re.search(rf"\b{name}\b", head.group(2))]
    return source[: head.end(1)] + "".join(f", {name}" for name in missing) + source[head.end(1) :]


def _blend(first: str, second: str, rng: random.Random) -> str | None:
    """One file with both programs as functions; None where they cannot be put side by side."""
    try:
        trees = [ast.parse(first), ast.parse(second)]
    except (SyntaxError, ValueError, RecursionError):
        return None
    imports: dict[str, None] = {}
    parts: list[str] = []
    calls: list[str] = []
    extras: set[str] = set()
    for tree, suffix in zip(trees, ("one", "two"), strict=True):
        entry = next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "merge_models"), None)
        if entry is None:
            return None
        used = [argument.arg for argument in entry.args.args[2:]]
        if not set(used) <= set(EXTRAS):
            return None
        extras.update(used)
        calls.append(f"way_{suffix}({', '.join(['model_dict', 'device', *used])})")
        _rename(tree, suffix)
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports[ast.unparse(node)] = None
            elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
                parts.append(ast.unparse(node))
    share = f"{rng.uniform(0.2, 0.8):.2f}"
    arguments = ", ".join(["model_dict", "device", *(name for name in EXTRAS if name in extras), "*", f"share={share}"])
    entry_text = f"def merge_models({arguments}):\n    return share * {calls[0]} + (1 - share) * {calls[1]}"
    top = "\n".join(["# Blend two ways of merging.", *imports])
    return "\n\n".join([top, *parts, entry_text]) + "\n"


def _rename(tree: ast.Module, suffix: str) -> None:
    """Give the top-level functions names of their own: `merge_models` becomes `way_<suffix>`, others get the suffix."""
    names = {n.name: f"{n.name}_{suffix}" for n in tree.body if isinstance(n, ast.FunctionDef)}
    names["merge_models"] = f"way_{suffix}"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in names:
            node.name = names[node.name]
        elif isinstance(node, ast.Name) and node.id in names:
            node.id = names[node.id]
